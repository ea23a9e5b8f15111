"""What waits for a person: reviews and approvals."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from refunds.domain.refund import Item
from refunds_console.rendering import Pages
from refunds_console.routes import Routes, get
from refunds_console.state import Console
from refunds_ops.identity import identify
from refunds_ops.open_refunds import open_refunds, open_since
from refunds_ops.story import because, waits_because

MAX_WAITING = 1000
"""The most open refunds that are searched for those that wait for a person."""
FOR_A_PERSON = ("IN_REVIEW", "AWAITING_APPROVAL")


def waiting(console: Console) -> dict[str, list[Item]]:
    """The refunds that wait for a person, by their status, longest first."""
    found = open_refunds(console.stack, MAX_WAITING, console.inner_pool)
    return {
        status: [refund for refund in found if refund["status"] == status]
        for status in FOR_A_PERSON
    }


def who_acts(console: Console) -> str:
    """The AWS identity that a change is recorded under."""
    return identify(console.stack).arn


def routes(console: Console, pages: Pages) -> Routes:
    def work(request: Request) -> Response:
        return pages.render(
            "work.html",
            waiting=waiting(console),
            because=because,
            waits_because=waits_because,
            open_since=open_since,
        )

    return [get("/work", pages.view(work))]
