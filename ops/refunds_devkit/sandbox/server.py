"""Runs the sandbox gateway: in the foreground for people, in a thread for tests."""

from __future__ import annotations

import asyncio
import errno
import signal
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType

import uvicorn

from refunds_devkit.sandbox.admin import Admin
from refunds_devkit.sandbox.app import Gateway, make_app
from refunds_devkit.sandbox.client import SandboxClient
from refunds_devkit.sandbox.faults import SETTLE_SECONDS
from refunds_devkit.sandbox.ledger import Ledger
from refunds_devkit.sandbox.seeds import SEEDS, STRIPE_SEEDS, Seed, plant
from refunds_devkit.sandbox.stripe_api import StripeApi
from refunds_devkit.sandbox.wire import Connection

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8790
DEFAULT_API_KEY = "test_key"

# Longer than clients keep an idle connection, so that the client closes it.
KEEP_ALIVE_SECONDS = 75
START_SECONDS = 10
STOP_SECONDS = 10


@dataclass(frozen=True)
class Api:
    """An API that the sandbox serves, and its payments to try."""

    gateway: type[Gateway]
    seeds: Sequence[Seed] = ()


FLAIR = Api(Gateway, SEEDS)
APIS = {"flair": FLAIR, "stripe": Api(StripeApi, STRIPE_SEEDS)}
"""Those that people can choose. Adyen's is for tests only: its adapter can't be used yet."""


class PortTakenError(Exception):
    """Another program listens on the port."""


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, stopping: asyncio.Event) -> None:
        super().__init__(config)
        self._stopping = stopping
        self.listening = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # Ends held connections first, because uvicorn would wait for them.
        self._stopping.set()
        await super().shutdown(sockets)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named because asyncio sets TCP_NODELAY on no other socket. Without it every
    # response waits 40 ms for the client's delayed acknowledgement.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(2048)
    except OSError as exc:
        listener.close()
        if exc.errno == errno.EADDRINUSE:
            raise PortTakenError(f"port {port} on {host} is taken by another program") from exc
        raise
    return listener


def _server(ledger: Ledger, api_key: str, api: Api, *, access_log: bool = False) -> _Server:
    stopping = asyncio.Event()
    gateway = api.gateway(ledger, api_key, stopping)
    config = uvicorn.Config(
        make_app(gateway, Admin(gateway).routes()),
        http=Connection,
        ws="none",
        loop="asyncio",
        lifespan="off",
        log_level="info" if access_log else "warning",
        access_log=access_log,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=1,
    )
    return _Server(config, stopping)


def serve(  # noqa: PLR0913 - a server's settings
    host: str = DEFAULT_HOST,
    port: int = DEFAULT_PORT,
    database: str | Path = ":memory:",
    api_key: str = DEFAULT_API_KEY,
    *,
    api: Api = FLAIR,
    reset: bool = False,
    seed: bool = True,
    settle_seconds: float = SETTLE_SECONDS,
    access_log: bool = False,
    on_listening: Callable[[str], None] | None = None,
) -> None:
    """Serves until SIGINT or SIGTERM, then returns. Call it from the main thread.

    Calls `on_listening` with the URL once it accepts requests. Raises PortTakenError, OSError and
    NotOurDatabaseError before it serves anything. It takes the port before it resets the database,
    so that a second server cannot empty the ledger of a running one.
    """
    listener = _listen(host, port)
    with listener:
        ledger = Ledger(database)
        try:
            if reset:
                ledger.reset()
            if seed:
                plant(ledger, settle_seconds, api.seeds)
            server = _server(ledger, api_key, api, access_log=access_log)

            def stop(number: int, frame: FrameType | None) -> None:
                server.should_exit = True

            # uvicorn raises the signal again after its shutdown; these handlers absorb it.
            before = {s: signal.signal(s, stop) for s in (signal.SIGINT, signal.SIGTERM)}
            try:
                if on_listening is not None:
                    on_listening(_url(listener))
                server.run(sockets=[listener])
            finally:
                for number, handler in before.items():
                    signal.signal(number, handler)
        finally:
            ledger.close()


class SandboxGateway:
    """A sandbox gateway in a background thread, on a free port unless one is given.

        with SandboxGateway() as gateway:
            gateway.url, gateway.api_key
            gateway.client.add_fault("commit_then_timeout", reference="refund-1")

    `database` ":memory:" lasts until the gateway stops.
    """

    def __init__(  # noqa: PLR0913 - its parts, each by keyword
        self,
        database: str | Path = ":memory:",
        api_key: str = DEFAULT_API_KEY,
        *,
        api: Api = FLAIR,
        host: str = DEFAULT_HOST,
        port: int = 0,
        seed: bool = True,
        settle_seconds: float = SETTLE_SECONDS,
    ) -> None:
        self.database = database
        self.api_key = api_key
        self.host = host
        self.port = port
        self._api = api
        self._seed = seed
        self._settle_seconds = settle_seconds
        self._running: tuple[_Server, threading.Thread, Ledger] | None = None

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def start(self) -> None:
        """Returns once it accepts requests.

        Raises PortTakenError, NotOurDatabaseError, or RuntimeError after 10 seconds.
        """
        assert self._running is None, "already started"
        listener = _listen(self.host, self.port)
        try:
            ledger = Ledger(self.database)
        except BaseException:
            listener.close()
            raise
        if self._seed:
            plant(ledger, self._settle_seconds, self._api.seeds)
        self.port = listener.getsockname()[1]
        self.client = SandboxClient(self.url)
        server = _server(ledger, self.api_key, self._api)
        thread = threading.Thread(
            target=server.run, args=([listener],), name="sandbox-gateway", daemon=True
        )
        thread.start()
        self._running = server, thread, ledger
        if not server.listening.wait(START_SECONDS):
            self.stop()
            raise RuntimeError("the sandbox gateway did not start")

    def stop(self) -> None:
        """Ends held connections, then the server. Keeps the port for the next start."""
        if self._running is None:
            return
        (server, thread, ledger), self._running = self._running, None
        self.client.close()
        server.should_exit = True
        thread.join(STOP_SECONDS)
        if thread.is_alive():
            raise RuntimeError("the sandbox gateway did not stop")
        ledger.close()

    def __enter__(self) -> SandboxGateway:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
