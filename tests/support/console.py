"""The console over a stack in moto: in this process, or on a port."""

from __future__ import annotations

import asyncio
import re
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from starlette.applications import Starlette

from refunds_console.app import build_app
from refunds_console.security import Session
from refunds_console.server import make_server
from refunds_console.state import Console
from refunds_ops.stack.stack import Stack

FORMS = {"content-type": "application/x-www-form-urlencoded"}


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


class Client:
    """A browser of few words: it keeps the session's cookie, and follows nothing."""

    def __init__(self, app: Starlette, session: Session) -> None:
        self.app = app
        self.session = session
        self.cookie = ""

    def enter(self) -> Client:
        answer = self.get(f"/enter?token={self.session.token}")
        assert answer.status == 303
        self.cookie = answer.headers["set-cookie"].split(";")[0]
        return self

    def read_all(self) -> Client:
        """Wait for what the console reads in the background."""
        console: Console = self.app.state.console
        console.recent.known(wait_seconds=60)
        return self

    def finish_reading(self) -> None:
        """Wait for what is being read in the background, and begin nothing."""
        console: Console = self.app.state.console
        if reader := console.recent._reader:
            reader.join(60)
            assert not reader.is_alive()

    def get(self, path: str, **headers: str) -> Answer:
        return self.send("GET", path, b"", headers)

    def post(self, path: str, form: Mapping[str, str], **headers: str) -> Answer:
        return self.send("POST", path, urlencode(form).encode(), FORMS | headers)

    def change(self, path: str, **form: str) -> Answer:
        """A form as one of the console's pages sends it."""
        return self.post(path, {"csrf_token": self.session.csrf_token, **form})

    def send(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        path, _, query = path.partition("?")
        sent = {"host": f"127.0.0.1:{self.session.port}", "cookie": self.cookie} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in sent.items() if value],
            "client": ("127.0.0.1", 50_000),
            "server": ("127.0.0.1", self.session.port),
        }
        got: list[Any] = []
        bodies = [body]

        async def receive() -> Any:
            if not bodies:
                await asyncio.Event().wait()  # it never disconnects
            return {"type": "http.request", "body": bodies.pop(), "more_body": False}

        async def collect(message: Any) -> None:
            got.append(message)

        asyncio.run(self.app(scope, receive, collect))
        start = got[0]
        return Answer(
            start["status"],
            {name.decode(): value.decode() for name, value in start["headers"]},
            b"".join(message.get("body", b"") for message in got[1:]),
        )


def console_over(stack: Stack, *, allow_changes: bool = False) -> Client:
    session = Session(8321)
    return Client(build_app(stack, session, allow_changes=allow_changes), session)


@contextmanager
def served(stack: Stack, *, allow_changes: bool = False) -> Iterator[str]:
    """The console on a free port of this machine, in a thread. Gives its one-time address."""
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.bind(("127.0.0.1", 0))
    session = Session(listening.getsockname()[1])
    app = build_app(stack, session, allow_changes=allow_changes)
    ready = threading.Event()
    server = make_server(app, ready.set)
    thread = threading.Thread(
        target=lambda: asyncio.run(server.serve(sockets=[listening])), daemon=True
    )
    thread.start()
    assert ready.wait(20)
    yield session.address
    server.should_exit = True
    thread.join(20)
    listening.close()


def forms(text: str) -> list[str]:
    """Where the forms of a page go that change something."""
    return re.findall(r'<form[^>]*method="post"[^>]*action="([^"]+)"', text)
