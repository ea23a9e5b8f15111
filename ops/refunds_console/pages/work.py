"""What waits for a person: reviews, approvals and dead letters, and what each action would do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from refunds.domain.refund import Item
from refunds_console.rendering import Pages
from refunds_console.routes import Routes, get
from refunds_console.state import Console
from refunds_ops.dead_letters import DeadLetter, DeadLetters, Forecast
from refunds_ops.open_refunds import open_refunds, open_since
from refunds_ops.story import because

MAX_WAITING = 1000
"""Open refunds that are looked through for those that wait for a person."""
MAX_LETTERS = 100
"""Dead letters that one page shows."""
FOR_A_PERSON = ("IN_REVIEW", "AWAITING_APPROVAL")


@dataclass(frozen=True)
class Letter:
    letter: DeadLetter
    forecast: Forecast


def waiting(console: Console) -> dict[str, list[Item]]:
    """The refunds that wait for a person, by their status, longest first."""
    found = open_refunds(console.stack, MAX_WAITING, console.inner_pool)
    return {
        status: [refund for refund in found if refund["status"] == status]
        for status in FOR_A_PERSON
    }


def letters(console: Console) -> Sequence[Letter]:
    """The dead letters, oldest first. Reading the queue hides them from others for a moment."""
    with DeadLetters(console.stack, at_most=MAX_LETTERS) as dead:
        return [Letter(letter, dead.forecast(letter)) for letter in dead.all()]


def routes(console: Console, pages: Pages) -> Routes:
    def work(request: Request) -> Response:
        return pages.render(
            "work.html", waiting=waiting(console), because=because, open_since=open_since
        )

    def dead_letters(request: Request) -> Response:
        return pages.render("dead_letters.html", letters=letters(console), at_most=MAX_LETTERS)

    return [get("/work", pages.view(work)), get("/work/dead-letters", pages.view(dead_letters))]
