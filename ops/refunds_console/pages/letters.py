"""Dead letters: what is wrong with each, what a resend would do, and doing it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from refunds_console.pages.work import who_acts
from refunds_console.rendering import Pages, go_to
from refunds_console.routes import Routes, get, post
from refunds_console.state import Console
from refunds_ops.commands.dead_letters import readable
from refunds_ops.dead_letters import DeadLetter, DeadLetters
from refunds_ops.errors import RefusedError
from refunds_ops.identity import check_kept, identify
from refunds_ops.resending import Forecast

MAX_LETTERS = 100
"""Dead letters of the queue, and of the archive, that one page shows."""


@dataclass(frozen=True)
class Letter:
    letter: DeadLetter
    forecast: Forecast


def letters(console: Console) -> Sequence[Letter]:
    """The dead letters, oldest first. Reading the queue hides them from others for a moment."""
    with DeadLetters(console.stack, at_most=MAX_LETTERS) as dead:
        found = dead.all()
        return list(map(Letter, found, dead.forecasts(found)))


def routes(console: Console, pages: Pages) -> Routes:
    def dead_letters(request: Request) -> Response:
        return pages.render("dead_letters.html", letters=letters(console), at_most=MAX_LETTERS)

    def letter(request: Request) -> Response:
        with DeadLetters(console.stack) as dead:
            found = dead.named(request.path_params["message_id"])
            forecast = dead.forecast(found)
        who = console.read({"who": partial(who_acts, console)})["who"]
        return pages.render(
            "dead_letter.html", letter=found, forecast=forecast, body=readable(found.body), who=who
        )

    def act_on_letter(request: Request, form: Mapping[str, str]) -> Response:
        why, action = form.get("why", ""), form.get("action")
        check_kept(why=why)
        note = form.get("on_behalf_of", "").strip() or None
        who = identify(console.stack, note)
        with DeadLetters(console.stack) as dead:
            found = dead.named(request.path_params["message_id"])
            forecast = dead.forecast(found)
            if action == "resend" and not forecast.helps:
                raise RefusedError(f"Nothing was sent: it {forecast.what}.")
            if action == "resend":
                dead.resend(found, by=who, why=why)
            elif action == "drop":
                dead.drop(found, by=who, why=why)
            else:
                raise RefusedError("Choose what to do: resend or drop.")
        return go_to("/work/dead-letters")

    return [
        get("/work/dead-letters", pages.view(dead_letters)),
        get("/work/dead-letters/{message_id}", pages.view(letter)),
        post("/work/dead-letters/{message_id}", pages.change(act_on_letter)),
    ]
