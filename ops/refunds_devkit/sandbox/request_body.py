"""Reads the body of a request, within a limit of bytes and of time."""

from __future__ import annotations

import asyncio

from starlette.requests import Request

from refunds_devkit.sandbox.contract import RefusedError

BODY_SECONDS = 30


async def read_body(request: Request, limit: int) -> bytes:
    """The request's body. Raises RefusedError (422) past `limit` bytes, or 30 seconds."""
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit:
                    raise _unread(f"the body has more than {limit} bytes")
    except TimeoutError as exc:
        raise _unread(f"the body took more than {BODY_SECONDS} seconds") from exc
    return bytes(body)


def _unread(message: str) -> RefusedError:
    # The rest of the body is unread, so no other request can follow on this connection.
    return RefusedError(422, "invalid_request", message, {"Connection": "close"})
