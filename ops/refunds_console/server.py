"""Serves the console until it is interrupted."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable

import uvicorn
from starlette.applications import Starlette

from refunds_console.app import build_app
from refunds_console.security import Session
from refunds_console.state import Console
from refunds_ops.stack.stack import Stack

MAX_CONNECTIONS = 64
MAX_HEAD_BYTES = 32 * 1024
STOP_SECONDS = 2


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self._on_ready()


def make_server(app: Starlette, on_ready: Callable[[], None]) -> uvicorn.Server:
    """``on_ready`` is called once it answers."""
    config = uvicorn.Config(
        app,
        # Addresses contain the token and names of customers, so they are not logged.
        access_log=False,
        log_config=None,
        server_header=False,
        limit_concurrency=MAX_CONNECTIONS,
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
        http="h11",
        ws="none",
        lifespan="off",  # the application has none, and a second Ctrl-C would print its traceback
        timeout_graceful_shutdown=STOP_SECONDS,
    )
    return _Server(config, on_ready)


def serve(
    stack: Stack,
    listening: socket.socket,
    *,
    allow_changes: bool,
    on_ready: Callable[[str], None],
) -> None:
    """Serve until Ctrl-C. ``on_ready`` gets the one-time address."""
    session = Session(listening.getsockname()[1])
    app = build_app(stack, session, allow_changes=allow_changes)
    console: Console = app.state.console
    threading.Thread(target=console.get_ready, name="console-clients", daemon=True).start()
    server = make_server(app, lambda: on_ready(session.address))
    with listening:
        try:
            asyncio.run(server.serve(sockets=[listening]))
        except KeyboardInterrupt:
            return
