"""Calls over real sockets: they end when they must, happen once, and say whether anything went."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.support.builders import EMAIL, NOW, SECRET, FakeClock

from refunds.domain.clock import Deadline, SystemClock
from refunds.gateways.http import (
    IDLE_SECONDS,
    MAX_BODY_BYTES,
    HttpResponse,
    NoAnswerError,
    NotSentError,
    PooledTransport,
    retry_after_seconds,
)

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
SHORT_SECONDS = 0.4
"""A deadline that is to pass."""

LONG_TURNS = 100
"""Of 50 ms each: far past that deadline, but a client without one still ends, and fails."""

Script = Callable[[socket.socket, bytes], bool | None]
"""Answers a request; True keeps the connection."""


class Server:
    """Reads whole requests on 127.0.0.1, keeps them, and answers by its script."""

    def __init__(self, script: Script, tls: ssl.SSLContext | None = None) -> None:
        self.script = script
        self.requests: list[bytes] = []
        self.connections = 0
        self.handshake_failed = threading.Event()
        self.closing = threading.Event()
        self._tls = tls
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.05)
        scheme = "https" if tls else "http"
        self.url = f"{scheme}://127.0.0.1:{self._listener.getsockname()[1]}/v1/refunds"
        self._start(self._accept)

    def _start(self, target: Callable[..., None], *args: socket.socket) -> None:
        thread = threading.Thread(target=target, args=args)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self.closing.is_set():
            try:
                connection, _ = self._listener.accept()
            except TimeoutError:
                continue
            self.connections += 1
            self._start(self._serve, connection)

    def _serve(self, raw: socket.socket) -> None:
        raw.settimeout(0.05)
        connection = raw
        try:
            if self._tls:
                raw.settimeout(5)
                connection = self._tls.wrap_socket(raw, server_side=True)
                connection.settimeout(0.05)
            while (request := self._read(connection)) is not None:
                self.requests.append(request)
                if not self.script(connection, request):
                    return
        except ssl.SSLError:
            self.handshake_failed.set()
        except OSError:
            return  # the client has gone
        finally:
            connection.close()
            raw.close()

    def _read(self, connection: socket.socket) -> bytes | None:
        got = b""
        for _ in range(LONG_TURNS):
            if self.closing.is_set():
                return None
            head, end, rest = got.partition(b"\r\n\r\n")
            length = 0
            for line in head.lower().split(b"\r\n"):
                if line.startswith(b"content-length:"):
                    length = int(line.partition(b":")[2])
            if end and len(rest) >= length:
                return got
            try:
                more = connection.recv(65536)
            except TimeoutError:
                continue
            if not more:
                return None
            got += more
        return None

    def stop(self) -> None:
        self.closing.set()
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()
        self._listener.close()


Serve = Callable[..., Server]


@pytest.fixture
def serve() -> Iterator[Serve]:
    servers: list[Server] = []

    def start(script: Script, tls: ssl.SSLContext | None = None) -> Server:
        servers.append(Server(script, tls))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def transport() -> Iterator[PooledTransport]:
    made = PooledTransport(4)
    yield made
    made._pools.clear()


def says(*answers: bytes, keep: bool = True) -> Script:
    """Each request gets the next answer, the last one again and again."""
    left = list(answers)

    def script(connection: socket.socket, request: bytes) -> bool:
        connection.sendall(left.pop(0) if len(left) > 1 else left[0])
        return keep

    return script


def call(
    transport: PooledTransport,
    url: str,
    *,
    method: str = "POST",
    body: bytes | None = b'{"amount": 1}',
    seconds: float = 10,
) -> HttpResponse:
    return transport.request(
        method,
        url,
        headers={"Authorization": f"Bearer {SECRET}"},
        body=body,
        deadline=Deadline.after(SystemClock(), seconds),
    )


def drips(before: bytes, forever: bytes) -> Script:
    """A server that is never silent for long and never done."""

    def script(connection: socket.socket, request: bytes) -> None:
        connection.sendall(before)
        for _ in range(LONG_TURNS):
            if connection_gone(connection, forever):
                return

    return script


def connection_gone(connection: socket.socket, piece: bytes) -> bool:
    connection.sendall(piece)
    try:
        return connection.recv(1) == b""
    except TimeoutError:
        return False


def never(connection: socket.socket, request: bytes) -> bool:
    """No answer; the connection stays."""
    return True


# An answer


def test_an_answer_is_told_with_status_headers_and_body(
    serve: Serve, transport: PooledTransport
) -> None:
    server = serve(says(b"HTTP/1.1 429 Slow\r\nRetry-After: 7\r\nContent-Length: 2\r\n\r\n{}"))

    answer = call(transport, server.url)
    assert (answer.status, answer.body) == (429, b"{}")
    assert answer.headers["retry-after"] == "7"


def test_what_is_sent_is_what_was_given(serve: Serve, transport: PooledTransport) -> None:
    server = serve(says(OK))
    call(transport, server.url)

    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v1/refunds HTTP/1.1\r\n")
    assert f"Authorization: Bearer {SECRET}".encode() in head
    assert body == b'{"amount": 1}'


def test_a_chunked_answer_is_put_together(serve: Serve, transport: PooledTransport) -> None:
    server = serve(
        says(b"HTTP/1.1 201 C\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n")
    )

    assert call(transport, server.url).body == b"ok"


def test_a_connection_is_used_again(serve: Serve, transport: PooledTransport) -> None:
    server = serve(says(OK))
    for _ in range(3):
        call(transport, server.url)

    assert (server.connections, len(server.requests)) == (1, 3)


def test_a_connection_that_was_idle_for_long_is_not_trusted(
    serve: Serve, transport: PooledTransport
) -> None:
    server, clock = serve(says(OK)), FakeClock()

    def at(seconds: float) -> None:
        clock.set(NOW + timedelta(seconds=seconds))
        transport.request(
            "GET", server.url, headers={}, body=None, deadline=Deadline.after(clock, 10)
        )

    at(0)
    at(IDLE_SECONDS)
    assert server.connections == 1
    at(2 * IDLE_SECONDS + 0.001)
    assert server.connections == 2


def test_a_body_that_came_compressed_is_not_unpacked(
    serve: Serve, transport: PooledTransport
) -> None:
    # What unpacks to gigabytes could come in a kilobyte.
    server = serve(
        says(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n\x1f\x8b")
    )

    assert call(transport, server.url).body == b"\x1f\x8b"


# One request and no more


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_an_answer_and_is_not_followed(
    serve: Serve, transport: PooledTransport, status: int
) -> None:
    elsewhere = serve(says(OK))
    server = serve(
        says(
            f"HTTP/1.1 {status} Away\r\nLocation: {elsewhere.url}\r\n"
            "Content-Length: 0\r\n\r\n".encode()
        )
    )

    assert call(transport, server.url).status == status
    assert elsewhere.requests == []


@pytest.mark.parametrize("status", [408, 413, 429, 500, 502, 503, 504])
def test_an_error_is_an_answer_and_nothing_is_repeated(
    serve: Serve, transport: PooledTransport, status: int
) -> None:
    server = serve(
        says(f"HTTP/1.1 {status} No\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n".encode())
    )

    assert call(transport, server.url).status == status
    assert len(server.requests) == 1


def reset(connection: socket.socket, request: bytes) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")


@pytest.mark.parametrize(
    "script",
    [
        lambda connection, request: None,
        reset,
        says(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", keep=False),
        says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", keep=False),
        says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", keep=False),
        says(b"SSH-2.0-OpenSSH_9.6\r\n", keep=False),
        says(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n", keep=False),
        says(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n", keep=False),
        says(b"HTTP/1.1 200 OK\r\nContent-Length: 1, 2\r\n\r\nx", keep=False),
    ],
    ids=[
        *("dropped", "reset", "cut in its body", "cut in a chunk"),
        *("no chunk", "not HTTP", "too many headers", "a header too long", "two lengths"),
    ],
)
@pytest.mark.parametrize("method", ["POST", "GET"])
def test_a_connection_lost_after_the_request_may_have_moved_money_and_is_not_tried_again(
    serve: Serve, transport: PooledTransport, script: Script, method: str
) -> None:
    server = serve(script)

    with pytest.raises(NoAnswerError):
        call(transport, server.url, method=method)
    assert len(server.requests) == 1
    server.script = says(OK)
    assert call(transport, server.url).body == b"ok"


def test_of_an_answer_cut_in_its_headers_nothing_is_made_up_nor_logged(
    serve: Serve, transport: PooledTransport, caplog: pytest.LogCaptureFixture
) -> None:
    server = serve(says(f"HTTP/1.1 200 OK\r\nX-User: {EMAIL}\r\n{EMAIL}".encode(), keep=False))

    assert call(transport, f"{server.url}/{EMAIL}").body == b""
    assert EMAIL not in caplog.text
    assert len(server.requests) == 1


def test_a_kept_connection_that_was_dropped_meanwhile_does_not_repeat_its_request(
    serve: Serve, transport: PooledTransport
) -> None:
    dropped = threading.Event()

    def once(connection: socket.socket, request: bytes) -> None:
        connection.sendall(OK)
        dropped.set()

    server = serve(once)
    call(transport, server.url)
    assert dropped.wait(5)
    # Either the drop was seen and a new connection made, or the outcome is unknown: never twice.
    try:
        call(transport, server.url)
    except NoAnswerError:
        assert len(server.requests) == 1
    else:
        assert len(server.requests) == 2


# Deadlines


@pytest.mark.parametrize(
    "script",
    [
        never,
        drips(b"HTTP/1.1 200 OK\r\nX: ", b"y"),
        drips(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        drips(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b"x"),
        drips(b"HTTP/1.1 200 OK\r\n\r\n", b"x"),
        drips(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    ],
    ids=["silence", "slow headers", "100 for ever", "slow body", "endless body", "slow chunks"],
)
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
def test_a_call_ends_at_its_deadline_whatever_the_server_does(
    serve: Serve,
    trusted: tuple[ssl.SSLContext, PooledTransport],
    script: Script,
    tls: bool,
) -> None:
    context, transport = trusted
    server = serve(script, context if tls else None)
    began = time.monotonic()

    with pytest.raises(NoAnswerError):
        call(transport, server.url, seconds=SHORT_SECONDS)
    took = time.monotonic() - began
    assert SHORT_SECONDS * 0.9 < took < SHORT_SECONDS + 1.5
    assert len(server.requests) == 1


def test_a_kept_connection_obeys_the_next_calls_deadline(
    serve: Serve, transport: PooledTransport
) -> None:
    server = serve(says(OK))
    call(transport, server.url, seconds=10)
    server.script = never
    began = time.monotonic()

    with pytest.raises(NoAnswerError):
        call(transport, server.url, seconds=SHORT_SECONDS)
    assert time.monotonic() - began < SHORT_SECONDS + 1.5
    assert server.connections == 1


def test_a_connection_given_up_at_its_deadline_is_closed_not_reused(
    serve: Serve, transport: PooledTransport
) -> None:
    server = serve(never)
    with pytest.raises(NoAnswerError):
        call(transport, server.url, seconds=SHORT_SECONDS)
    server.script = says(OK)
    call(transport, server.url)

    assert server.connections == 2


def test_after_its_deadline_a_call_is_not_begun(serve: Serve, transport: PooledTransport) -> None:
    server = serve(says(OK))

    with pytest.raises(NotSentError):
        call(transport, server.url, seconds=0)
    assert server.connections == 0


def test_what_connected_too_late_is_not_sent(
    serve: Serve, transport: PooledTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, clock = serve(says(OK)), FakeClock()
    look_up = socket.getaddrinfo

    def slowly(*args: object, **kwargs: object) -> object:
        clock.advance(seconds=20)
        return look_up(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", slowly)
    with pytest.raises(NotSentError):
        transport.request(
            "POST", server.url, headers={}, body=b"{}", deadline=Deadline.after(clock, 15)
        )
    assert server.requests == []


# Bodies


def test_a_body_of_the_largest_size_is_read(serve: Serve, transport: PooledTransport) -> None:
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {MAX_BODY_BYTES}\r\n\r\n".encode()
    server = serve(says(head + b"x" * MAX_BODY_BYTES))

    assert len(call(transport, server.url).body) == MAX_BODY_BYTES


@pytest.mark.parametrize("told", [True, False])
def test_a_larger_body_is_no_answer_and_is_not_read_to_its_end(
    serve: Serve, transport: PooledTransport, told: bool
) -> None:
    length = f"Content-Length: {50 * MAX_BODY_BYTES}\r\n" if told else ""
    server = serve(drips(f"HTTP/1.1 200 OK\r\n{length}\r\n".encode(), b"x" * 65536))

    def flood(connection: socket.socket, request: bytes) -> None:
        connection.sendall(f"HTTP/1.1 200 OK\r\n{length}\r\n".encode())
        for _ in range(50):
            connection.sendall(b"x" * MAX_BODY_BYTES)

    server.script = flood
    with pytest.raises(NoAnswerError):
        call(transport, server.url)


# Not sent


def test_a_refused_connection_sent_nothing(transport: PooledTransport) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(NotSentError):
        call(transport, f"http://127.0.0.1:{port}/")


def test_a_name_that_does_not_exist_sent_nothing(transport: PooledTransport) -> None:
    with pytest.raises(NotSentError):
        call(transport, "http://gateway.invalid/")


def test_a_server_that_never_accepts_sent_nothing(transport: PooledTransport) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        waiting = []
        for _ in range(3):  # fill its queue
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex(listener.getsockname())
            waiting.append(one)
        try:
            with pytest.raises(NotSentError):
                call(transport, url, seconds=SHORT_SECONDS)
        finally:
            for one in waiting:
                one.close()


def test_the_errors_repeat_neither_key_nor_body(serve: Serve, transport: PooledTransport) -> None:
    server = serve(lambda connection, request: None)
    for url in (server.url, "http://gateway.invalid/"):
        with pytest.raises((NoAnswerError, NotSentError)) as caught:
            call(transport, url)
        assert SECRET not in repr(caught.value)
        assert str(caught.value).isidentifier()


def test_a_header_that_cant_be_sent_is_no_crash(serve: Serve, transport: PooledTransport) -> None:
    server = serve(says(OK))

    with pytest.raises((NoAnswerError, NotSentError)) as caught:
        transport.request(
            "GET",
            server.url,
            headers={"Authorization": f"{SECRET}\nX: y"},
            body=None,
            deadline=Deadline.after(SystemClock(), 5),
        )
    assert SECRET not in str(caught.value)
    assert server.requests == []


# TLS


class Authority:
    """Signs certificates that only those trust who have its own."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a test's authority")])
        own = self._builder(self._name, self._key).add_extension(
            x509.BasicConstraints(ca=True, path_length=0), critical=True
        )
        self.pem = self._signed(own)

    def server_context(self, folder: Path, name: x509.GeneralName) -> ssl.SSLContext:
        """A server's side of TLS with a certificate for ``name``."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a test's server")])
        certificate = self._signed(
            self._builder(subject, key).add_extension(
                x509.SubjectAlternativeName([name]), critical=False
            )
        )
        path = folder / "server.pem"
        path.write_bytes(
            certificate
            + key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey
    ) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
        )

    def _signed(self, builder: x509.CertificateBuilder) -> bytes:
        signed = builder.sign(self._key, hashes.SHA256())
        return signed.public_bytes(serialization.Encoding.PEM)


HERE = x509.IPAddress(ip_address("127.0.0.1"))


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def trusted(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[ssl.SSLContext, PooledTransport]]:
    """A server's context for 127.0.0.1, and a transport that trusts who signed it."""
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    transport = PooledTransport(4)
    yield authority.server_context(tmp_path, HERE), transport
    transport._pools.clear()


def test_a_call_over_tls_is_answered_and_its_connection_kept(
    serve: Serve, trusted: tuple[ssl.SSLContext, PooledTransport]
) -> None:
    context, transport = trusted
    server = serve(says(OK), context)

    assert [call(transport, server.url).body for _ in range(3)] == [b"ok"] * 3
    assert server.connections == 1


def test_a_certificate_that_nobody_vouches_for_is_refused_and_nothing_sent(
    serve: Serve, transport: PooledTransport, authority: Authority, tmp_path: Path
) -> None:
    server = serve(says(OK), authority.server_context(tmp_path, HERE))

    with pytest.raises(NotSentError):
        call(transport, server.url)
    assert server.handshake_failed.wait(5)
    assert server.requests == []


def test_a_certificate_for_another_host_is_refused_and_nothing_sent(
    serve: Serve,
    trusted: tuple[ssl.SSLContext, PooledTransport],
    authority: Authority,
    tmp_path: Path,
) -> None:
    elsewhere = x509.DNSName("api.flair.example")
    server = serve(says(OK), authority.server_context(tmp_path, elsewhere))

    with pytest.raises(NotSentError):
        call(trusted[1], server.url)
    assert server.requests == []


def test_a_server_without_tls_gets_nothing_of_the_request(
    serve: Serve, transport: PooledTransport
) -> None:
    server = serve(never)

    with pytest.raises(NotSentError):
        call(transport, server.url.replace("http:", "https:"), seconds=SHORT_SECONDS)
    assert server.requests == []


def test_old_tls_is_refused(serve: Serve, trusted: tuple[ssl.SSLContext, PooledTransport]) -> None:
    assert trusted[1]._pools.connection_pool_kw["ssl_context"].minimum_version >= (
        ssl.TLSVersion.TLSv1_2
    )
    assert trusted[1]._pools.connection_pool_kw["ssl_context"].verify_mode is ssl.CERT_REQUIRED


def test_a_connection_cut_in_a_tls_answer_may_have_moved_money(
    serve: Serve, trusted: tuple[ssl.SSLContext, PooledTransport]
) -> None:
    server = serve(says(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nha", keep=False), trusted[0])

    with pytest.raises(NoAnswerError):
        call(trusted[1], server.url)


# How long to wait


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7", 7.0),
        ("0", 0.0),
        ("3601", 3600.0),
        ("9" * 400, 3600.0),
        ("Mon, 23 Nov 2026 07:11:30 GMT", 90.0),
        ("Mon, 23 Nov 2026 07:00:00 GMT", 0.0),
        ("Mon, 23 Nov 2027 07:00:00 GMT", 3600.0),
        ("Mon, 23 Nov 2026 07:11:30 -0000", 90.0),
        ("", None),
        ("-1", None),
        ("soon", None),
        ("1.5", None),
        ("٧", None),
        ("Mon, 01 Jan 99999999999999999999 00:00:00 GMT", None),
        ("Mon, 01 Jan 2027 00:00:00 +99999999999999999999", None),
    ],
)
def test_a_servers_wish_to_wait_is_understood_bounded_or_passed_over(
    text: str, seconds: float | None
) -> None:
    assert retry_after_seconds({"retry-after": text}, NOW) == seconds


def test_a_server_without_a_wish_has_none() -> None:
    assert retry_after_seconds({}, NOW) is None
