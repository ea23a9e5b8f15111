"""HTTP calls to gateways: pooled connections, one deadline for the whole call, bodies of bounded
size, and errors that say whether anything was sent.
"""

from __future__ import annotations

import logging
import socket
import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Protocol
from urllib.parse import urlsplit

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError, ProtocolError

from refunds.domain.clock import Deadline

MAX_BODY_BYTES = 1024 * 1024
CONNECT_SECONDS = 3.0
READ_SECONDS = 30.0
"""The longest silence between two bytes. A call's deadline usually comes sooner."""

IDLE_SECONDS = 20.0
"""After this time an idle connection may be closed without our knowledge (a frozen function, a
NAT's timeout). A call on it would end with an unknown outcome, so a new connection is made."""

MAX_RETRY_AFTER_SECONDS = 3600.0

_CHUNK_BYTES = 16 * 1024


class NotSentError(Exception):
    """Nothing of the request can have reached the server."""


class NoAnswerError(Exception):
    """The request may have reached the server, and there is no usable answer."""


@dataclass(frozen=True)
class HttpResponse:
    """``headers`` have lower-case names."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class HttpTransport(Protocol):
    """Sends requests to a gateway. The simulator has its own."""

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None,
        deadline: Deadline,
    ) -> HttpResponse:
        """Send one request, once. Returns or raises by the deadline.

        Raises ``NotSentError`` or ``NoAnswerError``.
        """
        ...


# urllib3's warnings about headers quote the headers and the URL.
logging.getLogger("urllib3.connection").setLevel(logging.ERROR)

_call = threading.local()
"""The call that this thread makes: its ``deadline``, and whether it is still ``connecting`` (or in
the TLS handshake), so that nothing of the request has been sent. A thread makes one call at a
time."""


def _left_seconds() -> float:
    deadline: Deadline = _call.deadline
    left = deadline.left_seconds()
    if left <= 0:
        raise TimeoutError("the call's deadline has passed")
    return left


class _DeadlineSocket(socket.socket):
    # A read timeout starts again with each byte, so a server that sends one byte at a time is never
    # late. Therefore the time left is checked before each read.
    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        self.settimeout(min(READ_SECONDS, _left_seconds()))
        return super().recv_into(*args, **kwargs)


class _DeadlineTlsSocket(ssl.SSLSocket):
    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        self.settimeout(min(READ_SECONDS, _left_seconds()))
        return super().recv_into(*args, **kwargs)


class _OneWrite:
    """Sends headers and body in a single write. Each write is a system call and a TLS record, which
    together are a good part of the cost of a small request."""

    _collected: list[bytes] | None = None

    def request(self, *args: Any, **kwargs: Any) -> None:
        self._collected = []
        try:
            super().request(*args, **kwargs)  # type: ignore[misc]
            whole = b"".join(self._collected)
        finally:
            self._collected = None
        self.send(whole)

    def send(self, data: Any) -> None:
        if self._collected is None:
            super().send(data)  # type: ignore[misc]
        else:
            self._collected.append(data)


class _PlainConnection(_OneWrite, HTTPConnection):
    def connect(self) -> None:
        _call.connecting = True
        super().connect()
        timeout = self.sock.gettimeout()
        self.sock = _DeadlineSocket(fileno=self.sock.detach())
        self.sock.settimeout(timeout)
        _connected()


class _TlsConnection(_OneWrite, HTTPSConnection):
    def connect(self) -> None:
        _call.connecting = True
        super().connect()
        _connected()


def _connected() -> None:
    # No timeout applies to a slow name server. If the time is up now, nothing is sent.
    _left_seconds()
    _call.connecting = False


class _PlainPool(HTTPConnectionPool):
    ConnectionCls = _PlainConnection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


class PooledTransport:
    """Keeps up to ``width`` connections to a host alive. Threads share it."""

    def __init__(self, width: int) -> None:
        context = ssl.create_default_context()
        context.sslsocket_class = _DeadlineTlsSocket
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        # The caller decides about retries, and a redirect could take the key to another host.
        self._pools = urllib3.PoolManager(
            maxsize=width, block=False, retries=False, ssl_context=context
        )
        self._pools.pool_classes_by_scheme = {"http": _PlainPool, "https": _TlsPool}
        self._used_at: datetime | None = None

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None,
        deadline: Deadline,
    ) -> HttpResponse:
        if deadline.left_seconds() <= 0:
            raise NotSentError("no time left")
        # The wall clock, because the monotonic clock stops while a function is frozen.
        now = deadline.clock.now()
        if self._used_at and (now - self._used_at).total_seconds() > IDLE_SECONDS:
            self._pools.clear()
        self._used_at = now
        _call.deadline, _call.connecting = deadline, False
        response = None
        try:
            response = self._pools.urlopen(
                method,
                url,
                headers=dict(headers),
                body=body,
                redirect=False,
                preload_content=False,
                decode_content=False,
                timeout=urllib3.Timeout(
                    connect=min(CONNECT_SECONDS, deadline.left_seconds()),
                    read=min(READ_SECONDS, deadline.left_seconds()),
                ),
            )
            content = _read_body(response)
            received = {name.lower(): value for name, value in response.headers.items()}
            answer = HttpResponse(response.status, received, content)
            response.release_conn()
            response = None
            return answer
        except (HTTPError, OSError, ValueError) as exc:
            if _call.connecting:
                raise NotSentError(type(exc).__name__) from exc
            raise NoAnswerError(type(exc).__name__) from exc
        finally:
            if response is not None:
                response.close()


def public_address(url: str) -> str:
    """The URL without credentials, query and trailing slash, so that it can be stored and shown."""
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname}{port}{parts.path.rstrip('/')}"


def retry_after_seconds(headers: Mapping[str, str], now: datetime) -> float | None:
    """The header ``Retry-After``, seconds or a date (RFC 9110, 10.2.3). None if there is none.

    At most an hour, which is also the queue's longest delay.
    """
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), MAX_RETRY_AFTER_SECONDS)
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):  # all that the parser raises
        return None
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)  # "-0000" means UTC
    return min(max((at - now).total_seconds(), 0.0), MAX_RETRY_AFTER_SECONDS)


def _read_body(response: urllib3.BaseHTTPResponse) -> bytes:
    content = bytearray()
    while chunk := response.read(_CHUNK_BYTES):
        content += chunk
        if len(content) > MAX_BODY_BYTES:
            raise ProtocolError(f"a body of more than {MAX_BODY_BYTES} bytes")
    return bytes(content)
