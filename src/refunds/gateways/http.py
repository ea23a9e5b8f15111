"""HTTP calls to gateways: pooled connections, one deadline for the whole call, bodies of bounded
size, and errors that say whether anything was sent.
"""

from __future__ import annotations

import logging
import socket
import ssl
import threading
import weakref
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import HTTPConnection as PythonsConnection
from http.client import HTTPException, HTTPResponse
from typing import Any, NamedTuple, Protocol
from urllib.parse import SplitResult, urlsplit

from urllib3.connection import HTTPConnection, HTTPSConnection
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

_USER_AGENT = {"User-Agent": "refunds"}


class NotSentError(Exception):
    """Nothing of the request can have reached the server."""


class NoAnswerError(Exception):
    """The request may have reached the server, and there is no usable answer."""


class HttpResponse(NamedTuple):
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

    def exchange(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes | None
    ) -> HTTPResponse:
        """Send a request and read the response's headers.

        By Python's own client. urllib3's classes for requests, responses and pools do more than is
        needed here, and take half of a call's CPU.
        """
        self._collected = []
        try:
            PythonsConnection.request(self, method, target, body, headers)  # type: ignore[arg-type]
            whole = b"".join(self._collected)
        finally:
            self._collected = None
        self.send(whole)
        return PythonsConnection.getresponse(self)  # type: ignore[arg-type]

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


_Connection = _PlainConnection | _TlsConnection

_Idle = dict[tuple[str, str], list[_Connection]]
"""Open connections without a request, by scheme and host."""


def _connected() -> None:
    # No timeout applies to a slow name server. If the time is up now, nothing is sent.
    _left_seconds()
    _call.connecting = False


class PooledTransport:
    """Keeps up to ``width`` connections to a host alive. Threads share it.

    Never repeats a request and never follows a redirect: the caller decides about both, and a
    redirect could take the key to another host.
    """

    def __init__(self, width: int) -> None:
        self._width = width
        self.tls = ssl.create_default_context()
        self.tls.sslsocket_class = _DeadlineTlsSocket
        self.tls.minimum_version = ssl.TLSVersion.TLSv1_2
        # Appending to a list and popping from it need no lock.
        self._idle: _Idle = {}
        weakref.finalize(self, _close_all, self._idle)
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
            self.close()
        self._used_at = now
        _call.deadline, _call.connecting = deadline, False
        connection, response = None, None
        try:
            parts = urlsplit(url)
            connection = self._connection(parts)
            seconds = min(CONNECT_SECONDS, deadline.left_seconds())
            connection.timeout = seconds
            if connection.sock is not None:
                connection.sock.settimeout(seconds)
            target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
            response = connection.exchange(method, target, {**_USER_AGENT, **headers}, body)
            # A value that was folded over lines has them in it.
            received = {k.lower(): " ".join(v.split()) for k, v in response.getheaders()}
            answer = HttpResponse(response.status, received, _read_body(response))
            if not response.will_close and self._keep(connection, parts):
                connection = None
            return answer
        except (HTTPException, HTTPError, OSError, ValueError) as exc:
            if _call.connecting:
                raise NotSentError(type(exc).__name__) from exc
            raise NoAnswerError(type(exc).__name__) from exc
        finally:
            if connection is not None:
                connection.close()
                if response is not None:
                    response.close()

    def _connection(self, parts: SplitResult) -> _Connection:
        """A connection that is open, or one that the request opens."""
        idle = self._idle.get((parts.scheme, parts.netloc), [])
        while True:
            try:
                connection = idle.pop()
            except IndexError:
                break
            if connection.is_connected:
                return connection
            connection.close()
        if parts.hostname and parts.scheme == "https":
            return _TlsConnection(parts.hostname, parts.port, ssl_context=self.tls)
        if parts.hostname and parts.scheme == "http":
            return _PlainConnection(parts.hostname, parts.port)
        raise ValueError("no http:// or https:// URL with a host")

    def _keep(self, connection: _Connection, parts: SplitResult) -> bool:
        """Keep the connection for a later request, unless there are enough of them."""
        idle = self._idle.setdefault((parts.scheme, parts.netloc), [])
        if len(idle) >= self._width:
            return False
        idle.append(connection)
        return True

    def close(self) -> None:
        """Close the connections that are idle."""
        _close_all(self._idle)


def _close_all(idle: _Idle) -> None:
    for host in list(idle):
        connections = idle.pop(host, [])
        while connections:
            connections.pop().close()


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


def _read_body(response: HTTPResponse) -> bytes:
    """The whole body. Raises ``ProtocolError`` for one that is too large, ``HTTPException`` for one
    that ends early."""
    if response.length != 0 and not response.chunked:
        response.length = _declared_length(response)
    if response.length is not None:
        if response.length > MAX_BODY_BYTES:
            raise ProtocolError(f"a body of more than {MAX_BODY_BYTES} bytes")
        return response.read()
    content = bytearray()
    while chunk := response.read(_CHUNK_BYTES):
        content += chunk
        if len(content) > MAX_BODY_BYTES:
            raise ProtocolError(f"a body of more than {MAX_BODY_BYTES} bytes")
    return bytes(content)


def _declared_length(response: HTTPResponse) -> int | None:
    """The only length that the headers declare. Python's client takes the first of several, and
    passes over one that is no number. Raises ``ValueError`` or ``ProtocolError`` for those."""
    declared = response.headers.get_all("Content-Length")
    if declared is None:
        return None
    lengths = {int(each) for value in declared for each in value.split(",")}
    if len(lengths) != 1 or min(lengths) < 0:
        raise ProtocolError("no one length of the body")
    return lengths.pop()
