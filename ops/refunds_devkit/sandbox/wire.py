"""Sends responses: complete, late, broken, byte by byte, or not at all.

ASGI cannot close a connection without a response, or send half a header. Faulty responses therefore
write to the connection's transport themselves. `Connection`, a subclass of uvicorn's public
protocol class, gives them access to it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from refunds_devkit.sandbox.contract import error_body
from refunds_devkit.sandbox.faults import Fault

CHUNK_BYTES = 64 * 1024
HTML = (
    b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n"
    b"<body><center><h1>502 Bad Gateway</h1></center></body>\r\n</html>\r\n"
)


class Connection(H11Protocol):
    """uvicorn's HTTP protocol. A response finds it in its scope's state."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, {**app_state, "connection": self}, _loop)


@dataclass(frozen=True)
class Answer:
    """A status and a JSON body: what is stored for an idempotency key."""

    status: int
    body: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)

    def response(self) -> Response:
        return Response(
            json.dumps(self.body), self.status, dict(self.headers), media_type="application/json"
        )


class Peer:
    """The client's end of the connection while a response is sent."""

    def __init__(self, scope: Scope, receive: Receive, stopping: asyncio.Event) -> None:
        connection: Connection = scope["state"]["connection"]
        self._transport = connection.transport
        self._gone = asyncio.create_task(_disconnected(receive))
        self._stopping = asyncio.create_task(stopping.wait())

    async def waits(self, seconds: float) -> bool:
        """True if the client still waits after that time, False as soon as either side gives up."""
        done, _ = await asyncio.wait(
            {self._gone, self._stopping}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED
        )
        return not done

    def write(self, data: bytes) -> None:
        self._transport.write(data)

    async def close(self, *, flush: bool) -> None:
        if flush:
            self._transport.close()
            # A client that never reads the rest must not block this.
            await self.waits(1)
        self._transport.abort()
        self._stopping.cancel()
        await self._gone


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class Silence(Response):
    """Holds the connection for `seconds`, then closes it without a byte."""

    def __init__(self, stopping: asyncio.Event, seconds: float = 0) -> None:
        super().__init__()
        self._stopping, self._seconds = stopping, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        peer = Peer(scope, receive, self._stopping)
        if self._seconds:
            await peer.waits(self._seconds)
        await peer.close(flush=False)


class Late(Response):
    """The whole response, `seconds` late."""

    def __init__(self, stopping: asyncio.Event, whole: Response, seconds: float) -> None:
        super().__init__(status_code=whole.status_code)
        self._stopping, self._whole, self._seconds = stopping, whole, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        peer = Peer(scope, receive, self._stopping)
        if await peer.waits(self._seconds):
            # Written by hand, because the peer already listens for the end of the connection.
            peer.write(_head(self._whole) + bytes(self._whole.body))
        await peer.close(flush=True)


class Drip(Response):
    """The whole response, with `seconds_per_byte` before each byte of its headers or its body."""

    def __init__(
        self, stopping: asyncio.Event, whole: Response, seconds_per_byte: float, part: str
    ) -> None:
        super().__init__(status_code=whole.status_code)
        head, body = _head(whole), bytes(whole.body)
        self._stopping = stopping
        self._seconds_per_byte = seconds_per_byte
        self._at_once, self._dripped = (head, body) if part == "body" else (b"", head + body)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        peer = Peer(scope, receive, self._stopping)
        peer.write(self._at_once)
        for place in range(len(self._dripped)):
            if not await peer.waits(self._seconds_per_byte):
                break
            peer.write(self._dripped[place : place + 1])
        await peer.close(flush=True)


class Short(Response):
    """Headers that announce the whole body, half of the body, and a closed connection."""

    def __init__(self, stopping: asyncio.Event, whole: Response) -> None:
        super().__init__(status_code=whole.status_code)
        self._stopping = stopping
        self._bytes = _head(whole) + bytes(whole.body)[: len(whole.body) // 2]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        peer = Peer(scope, receive, self._stopping)
        peer.write(self._bytes)
        await peer.close(flush=True)


class Huge(Response):
    """The right JSON with a field of `size` bytes before the rest."""

    def __init__(self, stopping: asyncio.Event, answer: Answer, size: int) -> None:
        super().__init__(status_code=answer.status)
        self._stopping, self._answer, self._size = stopping, answer, size

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start, end = b'{"padding": "', b'", ' + json.dumps(self._answer.body).encode()[1:]
        length = len(start) + self._size + len(end)
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(length).encode()),
        ]
        await send(
            {"type": "http.response.start", "status": self._answer.status, "headers": headers}
        )
        connection: Connection = scope["state"]["connection"]
        await send({"type": "http.response.body", "body": start, "more_body": True})
        for sent in range(0, self._size, CHUNK_BYTES):
            if connection.transport.is_closing() or self._stopping.is_set():
                connection.transport.abort()
                return
            padding = b"x" * min(CHUNK_BYTES, self._size - sent)
            await send({"type": "http.response.body", "body": padding, "more_body": True})
        await send({"type": "http.response.body", "body": end})


def _head(response: Response) -> bytes:
    lines = [f"HTTP/1.1 {response.status_code} {HTTPStatus(response.status_code).phrase}".encode()]
    lines += [name + b": " + value for name, value in response.raw_headers]
    return b"\r\n".join([*lines, b"connection: close", b"", b""])


def html_502() -> Response:
    return Response(HTML, 502, media_type="text/html")


# The fields of a refund or a payment that each kind changes, and how.
_WRONG: dict[str, dict[str, Callable[[Any], Any]]] = {
    "wrong_amount_echoed": {
        "amount": lambda amount: amount + 1,
        "amount_captured": lambda amount: amount + 1,
    },
    "wrong_currency_echoed": {"currency": lambda code: "USD" if code == "EUR" else "EUR"},
    "wrong_reference_echoed": {"reference": lambda _: "someone-elses-refund"},
    "wrong_transaction_id_echoed": {"transaction_id": lambda _: "someone-elses-payment"},
}


def _echo_wrong(body: Mapping[str, Any], kind: str) -> dict[str, Any]:
    wrong = dict(body)
    if "data" in wrong:
        wrong["data"] = [_echo_wrong(refund, kind) for refund in wrong["data"]]
    for name, change in _WRONG[kind].items():
        if name in wrong:
            wrong[name] = change(wrong[name])
    return wrong


Shape = Callable[[Answer], Answer]
"""Converts a response of the contract to the API's own format."""


def deliver(answer: Answer, fault: Fault | None, stopping: asyncio.Event, shape: Shape) -> Response:
    """The response, changed by the fault of the answer stage if there is one."""
    if fault is None:
        return shape(answer).response()
    if fault.kind in _WRONG:
        wrong = Answer(answer.status, _echo_wrong(answer.body, fault.kind), answer.headers)
        return shape(wrong).response()
    if fault.kind == "commit_then_error_503":
        down = Answer(503, error_body("service_unavailable", "Try again later."))
        return shape(down).response()
    return _ANSWER_FAULTS[fault.kind](shape(answer), fault, stopping)


def _half(answer: Answer) -> Response:
    whole = json.dumps(answer.body)
    return Response(whole[: len(whole) // 2], answer.status, media_type="application/json")


_ANSWER_FAULTS: dict[str, Callable[[Answer, Fault, asyncio.Event], Response]] = {
    "commit_then_timeout": lambda _, fault, stopping: Silence(stopping, fault["seconds"]),
    "commit_then_drop": lambda _, fault, stopping: Silence(stopping),
    "commit_then_html_502": lambda _, fault, stopping: html_502(),
    "commit_then_delay": lambda answer, fault, stopping: Late(
        stopping, answer.response(), fault["seconds"]
    ),
    "slow_drip": lambda answer, fault, stopping: Drip(
        stopping, answer.response(), fault["seconds_per_byte"], fault["part"]
    ),
    "huge_body": lambda answer, fault, stopping: Huge(stopping, answer, fault["bytes"]),
    "short_body": lambda answer, fault, stopping: Short(stopping, answer.response()),
    "truncated_json": lambda answer, fault, stopping: _half(answer),
}


def status_seen(response: Response) -> int | None:
    """The status that the client sees, for the call log. None if there is no response."""
    return None if isinstance(response, Silence) else response.status_code
