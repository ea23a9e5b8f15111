"""Routes as each page's module lists them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

Routes: TypeAlias = list[Route]
Endpoint: TypeAlias = Callable[[Request], Response] | Callable[[Request], Awaitable[Response]]


def get(path: str, endpoint: Endpoint) -> Route:
    return _route(path, endpoint, "GET")


def post(path: str, endpoint: Endpoint) -> Route:
    return _route(path, endpoint, "POST")


def _route(path: str, endpoint: Any, method: str) -> Route:
    return Route(path, endpoint, methods=[method])
