"""TLS over real sockets: only a server that proves its name gets the request."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from cryptography import x509
from tests.support.socket_server import HERE, OK, SHORT_SECONDS, Authority, Serve, call, never, says

from refunds.gateways.http import NoAnswerError, NotSentError, PooledTransport


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
    assert trusted[1].tls.minimum_version >= ssl.TLSVersion.TLSv1_2
    assert trusted[1].tls.verify_mode is ssl.CERT_REQUIRED


def test_a_connection_cut_in_a_tls_answer_may_have_moved_money(
    serve: Serve, trusted: tuple[ssl.SSLContext, PooledTransport]
) -> None:
    server = serve(says(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nha", keep=False), trusted[0])

    with pytest.raises(NoAnswerError):
        call(trusted[1], server.url)
