"""The console's pages and who may see them."""

from __future__ import annotations

from http import HTTPStatus
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

from refunds_console.pages import (
    approvals,
    letters,
    money,
    overview,
    proof,
    refund,
    refunds,
    reviews,
    work,
)
from refunds_console.recent import RecentRefunds
from refunds_console.rendering import Pages
from refunds_console.security import ENTER, Guard, Session
from refunds_console.state import Console
from refunds_ops.dates import zone_of
from refunds_ops.stack.stack import Stack

REFUSALS = {
    401: (
        "This browser has no session here.",
        "Open the address that `refunds console` printed. If this browser has opened it before, "
        "and a link brought you here: reload the page.",
    ),
    405: ("The console does not do that.", ""),
    414: ("The address is too long.", "Search for something shorter."),
    421: ("The console answers at 127.0.0.1 only.", "Open the address that was printed."),
}


def build_app(stack: Stack, session: Session, *, allow_changes: bool) -> Starlette:
    """The whole console over one stack."""
    zone = zone_of(stack)
    console = Console(stack, zone, session, allow_changes, RecentRefunds(stack, zone))
    pages = Pages(console)

    async def enter(request: Request) -> Response:
        cookie = session.enter(request.query_params.get("token", ""))
        if cookie is None:
            if session.holds(request.headers.get("cookie", "")):
                return RedirectResponse("/", 303)
            return pages.refusal(
                "This address was used before, or is another console's.",
                "It works once. For a new one, start `refunds console` again.",
                status=403,
            )
        return RedirectResponse("/", 303, {"set-cookie": cookie})

    async def refused(scope: Scope, receive: Receive, send: Send) -> None:
        what, to_do = REFUSALS[scope["refused"]]
        response = pages.refusal(what, to_do, status=scope["refused"])
        await response(scope, receive, send)

    def on_http_error(request: Request, exc: Exception) -> Response:
        assert isinstance(exc, HTTPException)
        what = (
            "There is no such page." if exc.status_code == HTTPStatus.NOT_FOUND else str(exc.detail)
        )
        return pages.problem(what, status=exc.status_code)

    static = StaticFiles(directory=Path(__file__).parent / "static")
    app = Starlette(
        routes=[
            Route(ENTER, enter),
            Mount("/static", static),
            *(
                route
                for section in (
                    overview,
                    money,
                    refunds,
                    refund,
                    work,
                    reviews,
                    approvals,
                    letters,
                    proof,
                )
                for route in section.routes(console, pages)
            ),
        ],
        middleware=[Middleware(Guard, session=session, refused=refused)],
        exception_handlers={HTTPException: on_http_error},
    )
    app.state.console = console
    return app
