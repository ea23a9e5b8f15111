"""A server on 127.0.0.1 that answers by its script, and a call to it."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.support.builders import SECRET

from refunds.domain.clock import Deadline, SystemClock
from refunds.gateways.http import HttpResponse, PooledTransport

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


# TLS


CERTIFICATES_ONLY = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


class Authority:
    """Signs certificates that only those trust who have its own.

    They have all extensions that RFC 5280 asks for: Python 3.13 and later accept no others.
    """

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a test's authority")])
        own = self._builder(self._name, self._key)
        own = own.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        self.pem = self._signed(own.add_extension(CERTIFICATES_ONLY, critical=True))

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
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
        )

    def _signed(self, builder: x509.CertificateBuilder) -> bytes:
        signed = builder.sign(self._key, hashes.SHA256())
        return signed.public_bytes(serialization.Encoding.PEM)


HERE = x509.IPAddress(ip_address("127.0.0.1"))
