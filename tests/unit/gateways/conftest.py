"""Fixtures for the tests of the gateways."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.flair_account import Account
from tests.support.socket_server import HERE, Authority, Script, Serve, Server

from refunds.gateways.http import PooledTransport


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
    made.close()


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
    transport.close()


@pytest.fixture
def account() -> Account:
    return Account()
