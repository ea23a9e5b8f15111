"""A review: what waits for a decision, what each decision would do, and the decision itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from refunds.domain.refund import Item
from refunds.processing.review import live_refunds
from refunds_console.pages.refunds import balance_of
from refunds_console.pages.work import who_acts
from refunds_console.rendering import Pages, go_to
from refunds_console.routes import Routes, get, post
from refunds_console.state import Console
from refunds_ops.commands.review import decide
from refunds_ops.errors import RefusedError
from refunds_ops.gateway_view import GatewayView, gateway_view
from refunds_ops.identity import identify
from refunds_ops.stack.records import refund_item
from refunds_ops.statuses import outcome_of
from refunds_ops.story import because


@dataclass(frozen=True)
class Effect:
    """What a decision would do: the refund's new status, and the payment's money after it."""

    status: str
    outcome: str
    reserved_minor: int
    remaining_minor: int | None


def effects(console: Console, refund: Item, moved_minor: int) -> dict[str, Effect]:
    """What both decisions of a review would do. A refund that is not paid gives its money back, but
    for what the gateway has moved all the same."""
    ledger = balance_of(console, refund["transaction_id"])
    held = ledger.reservations.get(refund["refund_id"], 0) if ledger else 0
    remaining = ledger.remaining if ledger else None
    kept = min(held, moved_minor)
    freed = None if remaining is None else remaining + held - kept
    return {
        "paid": Effect("SUCCEEDED", outcome_of("SUCCEEDED"), held, remaining),
        "not_paid": Effect("FAILED", outcome_of("FAILED"), kept, freed),
    }


def _moved_minor(view: GatewayView | None) -> int:
    """The amount of the refund that the gateway shows as paid or pending."""
    live = [] if view is None else live_refunds(view.refunds)
    return sum(each.amount_minor for each in live)


def record(console: Console, refund_id: str, form: Mapping[str, str]) -> None:
    """Take the decision of a form. Raises ``RefusedError``."""
    if form.get("decision") not in ("paid", "not_paid"):
        raise RefusedError("Choose whether the customer got the money.")
    note = form.get("on_behalf_of", "").strip() or None
    decide(
        console.stack,
        identify(console.stack, note),
        refund_id,
        paid=form["decision"] == "paid",
        why=form.get("why", ""),
        evidence=form.get("evidence", ""),
        against_gateway=bool(form.get("against_gateway")),
    )


def routes(console: Console, pages: Pages) -> Routes:
    def review_page(
        refund_id: str,
        form: Mapping[str, str],
        *,
        problem: Sequence[str] = (),
        with_gateway: bool = False,
    ) -> Response:
        refund = refund_item(console.stack, refund_id)
        if refund is None:
            raise RefusedError(f"There is no refund {refund_id}.")
        parts = console.read(
            {
                "who": partial(who_acts, console),
                "gateway": partial(gateway_view, console.stack, refund)
                if with_gateway
                else lambda: None,
            }
        )
        return pages.render(
            "review.html",
            status=409 if problem else 200,
            refund=refund,
            effects=effects(console, refund, _moved_minor(parts["gateway"].value)),
            because=because(refund),
            form=form,
            problem=problem,
            parts=parts,
            asked=with_gateway,
        )

    def review(request: Request) -> Response:
        return review_page(
            request.path_params["refund_id"],
            {},
            with_gateway=bool(request.query_params.get("gateway")),
        )

    def decide_review(request: Request, form: Mapping[str, str]) -> Response:
        refund_id = request.path_params["refund_id"]
        try:
            record(console, refund_id, form)
        except RefusedError as exc:
            # The form keeps what was typed.
            problem = (exc.what, *exc.to_do)
            return review_page(refund_id, form, problem=problem, with_gateway=True)
        return go_to(f"/refunds/{refund_id}")

    return [
        get("/work/reviews/{refund_id}", pages.view(review)),
        post("/work/reviews/{refund_id}", pages.change(decide_review)),
    ]
