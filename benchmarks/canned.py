"""Canned servers: DynamoDB, SQS, Secrets Manager, EventBridge, KMS, S3 and the gateway on one port.

They respond immediately or after a set delay, and count requests. They run in their own, lean
process, so that a benchmark measures the client. They keep only the state that a write's size
depends on: every condition holds, and nothing is ever throttled.

    python -m benchmarks.canned   # prints its port; exits when its standard input closes
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from benchmarks.canned_dynamodb import Tables
from benchmarks.canned_others import Buckets, aws_answer, gateway_answer


@dataclass
class Answer:
    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Canned:
    """The servers' state, delays and counts since the last reset."""

    delays: dict[str, float] = field(default_factory=dict)
    """Seconds for ``dynamodb``, ``gateway``, ``aws`` and ``s3``."""
    requests: dict[str, int] = field(default_factory=dict)
    tables: Tables = field(default_factory=Tables)
    buckets: Buckets = field(default_factory=Buckets)

    def count(self, name: str) -> None:
        self.requests[name] = self.requests.get(name, 0) + 1

    def answer(
        self, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> tuple[float, Answer]:
        """The delay in seconds, and the response after it."""
        if path.startswith("/_bench/"):
            return 0.0, self._control(path.removeprefix("/_bench/"), body)
        if target := headers.get("x-amz-target"):
            service, _, operation = target.partition(".")
            self.count(f"{service.partition('_')[0]} {operation}")
            if service.startswith("DynamoDB"):
                said = self.tables.answer(operation, body)
                kind = "application/x-amz-json-1.0"
                return self.delays.get("dynamodb", 0.0), Answer(200, said, {"content-type": kind})
            said = json.dumps(aws_answer(operation, json.loads(body))).encode()
            kind = "application/x-amz-json-1.1"
            return self.delays.get("aws", 0.0), Answer(200, said, {"content-type": kind})
        if path.startswith("/v1/"):
            self.count(f"gateway {method} {'/'.join(path.split('/')[:3]).partition('?')[0]}")
            status, said = gateway_answer(method, path, body)
            kind = "application/json"
            return self.delays.get("gateway", 0.0), Answer(status, said, {"content-type": kind})
        self.count(f"s3 {method}")
        status, more, said = self.buckets.answer(method, path, headers, body)
        return self.delays.get("s3", 0.0), Answer(status, said, more)

    def _control(self, what: str, body: bytes) -> Answer:
        if what == "reset":
            settings = json.loads(body or b"{}")
            self.delays = settings.get("delays", {})
            self.requests = {}
            self.buckets = Buckets()
            self.tables = Tables(rows=settings.get("rows", {}), stream_of=settings.get("stream_of"))
            return Answer(200, b"{}")
        if what == "counts":
            counts = {"requests": self.requests, **self.tables.counts()}
            return Answer(200, json.dumps(counts).encode())
        return Answer(200, json.dumps(self.tables.stream).encode())


class Connection(asyncio.Protocol):
    """One keep-alive HTTP/1.1 connection."""

    def __init__(self, canned: Canned) -> None:
        self._canned = canned
        self._received = bytearray()
        self._transport: Any = None
        self._continued = False
        self._chunks: list[bytes] = []
        self._chunk_at = 0
        """The start of the first chunk that is not yet in ``_chunks``, or 0."""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while self._one_request():
            pass

    def _one_request(self) -> bool:
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return False
        lines = self._received[:end].decode("latin-1").split("\r\n")
        headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        if headers.get("transfer-encoding") == "chunked":
            found = self._chunked(end + 4)
        else:
            found = self._plain(end + 4, int(headers.get("content-length", 0)))
        if found is None:
            if headers.get("expect", "").lower() == "100-continue" and not self._continued:
                self._continued = True
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            return False
        body, after = found
        del self._received[:after]
        self._chunks, self._chunk_at = [], 0
        self._continued = False
        method, path, _ = lines[0].split(" ", 2)
        wait, answer = self._canned.answer(method, path, headers, body)
        if wait:
            asyncio.get_running_loop().call_later(wait, self._send, answer, method)
        else:
            self._send(answer, method)
        return True

    def _plain(self, start: int, length: int) -> tuple[bytes, int] | None:
        """The body and its end, or None while a part is missing."""
        if len(self._received) < start + length:
            return None
        return bytes(self._received[start : start + length]), start + length

    def _chunked(self, start: int) -> tuple[bytes, int] | None:
        at = self._chunk_at or start
        while (line_end := self._received.find(b"\r\n", at)) >= 0:
            size = int(self._received[at:line_end].split(b";")[0], 16)
            after = line_end + 2 + size + 2
            if len(self._received) < after:
                break
            if size == 0:
                return b"".join(self._chunks), after
            self._chunks.append(bytes(self._received[line_end + 2 : after - 2]))
            at = after
        self._chunk_at = at
        return None

    def _send(self, answer: Answer, method: str) -> None:
        if self._transport.is_closing():
            return
        headers = {"content-length": str(len(answer.body))} | answer.headers
        head = f"HTTP/1.1 {answer.status} Canned\r\n" + "".join(
            f"{name}: {value}\r\n" for name, value in headers.items()
        )
        self._transport.write(head.encode() + b"\r\n")
        if method != "HEAD":
            self._transport.write(answer.body)


async def serve(on_listening: Callable[[int], None], ended: asyncio.Event) -> None:
    """Serve on a free loopback port until ``ended``."""
    canned = Canned()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(canned), "127.0.0.1", 0, backlog=512)
    on_listening(server.sockets[0].getsockname()[1])
    await ended.wait()
    server.close()


async def main() -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()

    def wait_for_parent() -> None:
        sys.stdin.read()
        loop.call_soon_threadsafe(ended.set)

    threading.Thread(target=wait_for_parent, daemon=True).start()
    await serve(lambda port: print(port, flush=True), ended)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
