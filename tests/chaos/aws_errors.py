"""AWS answers with errors, on request: a proxy before an engine that refuses or loses answers.

toxiproxy breaks connections; this breaks what is said over a whole one. Only while it has errors to
give is it between toxiproxy and the engine. It passes everything on as it is, Host header included,
since a request's signature covers that.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random
from typing import Any

import urllib3

from refunds_devkit.local.ports import LOOPBACK

_DYNAMODB = "com.amazonaws.dynamodb.v20120810#"
_S3_ERROR = "<Error><Code>{}</Code><Message>chaos</Message></Error>"
MOST_AT_ONCE = 12
BODY_SECONDS = 60

ERRORS: Mapping[str, Mapping[str, tuple[int, str]]] = {
    "DYNAMODB": {
        "throttled": (
            400,
            f'{{"__type":"{_DYNAMODB}ProvisionedThroughputExceededException","message":"chaos"}}',
        ),
        "request limit": (
            400,
            f'{{"__type":"{_DYNAMODB}RequestLimitExceeded","message":"chaos"}}',
        ),
        "500": (500, f'{{"__type":"{_DYNAMODB}InternalServerError","message":"chaos"}}'),
    },
    "S3": {
        "slow down": (503, _S3_ERROR.format("SlowDown")),
        "500": (500, _S3_ERROR.format("InternalError")),
        "disk full": (507, _S3_ERROR.format("InsufficientStorage")),
    },
    "SQS": {"500": (500, '{"__type":"com.amazonaws.sqs#InternalFailure","message":"chaos"}')},
}


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Not for callers that leave: they are killed, or redirected."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class ErrorProxy:
    """Before one engine. ``fail`` has the next requests answered with an error."""

    def __init__(self, service: str, upstream: str) -> None:
        self.service = service
        self._upstream = upstream
        self._http = urllib3.PoolManager(maxsize=64, retries=False, timeout=BODY_SECONDS)
        self._lock = threading.Lock()
        self._left = 0
        self._answer = (500, "")
        self._after_it_was_done = False
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do(self) -> None:
                proxy.serve(self)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = do  # noqa: N815 - the base's names

            def log_message(self, *_: object) -> None:
                pass

        self._server = _Server((LOOPBACK, 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://{LOOPBACK}:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def fail(self, random: Random) -> str:
        """Some requests from now on. Returns what was done."""
        kind = random.choice(sorted(ERRORS[self.service]))
        with self._lock:
            self._answer = ERRORS[self.service][kind]
            self._left = random.randint(1, MOST_AT_ONCE)
            # The worst: it was done, and the caller hears that it was not.
            self._after_it_was_done = kind == "500" and random.random() < 0.5
            lost = ", done nevertheless" if self._after_it_was_done else ""
        return f"{self.service} {kind}{lost}"

    def mend(self) -> None:
        with self._lock:
            self._left = 0

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def serve(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        with self._lock:
            fails, (status, text) = self._left > 0, self._answer
            self._left -= fails
            done = self._after_it_was_done
        if not fails or done:
            answer = self._http.request(
                request.command,
                self._upstream + request.path,
                body=body,
                headers=dict(request.headers.items()),
                preload_content=True,
                decode_content=False,
            )
        if fails:
            request.send_response(status)
            content = text.encode()
            headers = {"Content-Type": "application/xml" if text.startswith("<") else ""}
        else:
            request.send_response(answer.status)
            content = answer.data
            headers = dict(answer.headers.items())
        for name, value in headers.items():
            if value and name.lower() not in ("content-length", "transfer-encoding", "connection"):
                request.send_header(name, value)
        length = headers.get("Content-Length") or headers.get("content-length")
        is_head = request.command == "HEAD" and not fails and length
        request.send_header("Content-Length", str(length if is_head else len(content)))
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(content)
