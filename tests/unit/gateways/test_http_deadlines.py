"""Deadlines over real sockets: a call ends in time, whatever the server does."""

from __future__ import annotations

import socket
import ssl
import time

import pytest
from tests.support.builders import FakeClock
from tests.support.socket_server import OK, SHORT_SECONDS, Script, Serve, call, drips, never, says

from refunds.domain.clock import Deadline
from refunds.gateways.http import NoAnswerError, NotSentError, PooledTransport


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
