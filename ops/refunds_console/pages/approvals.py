"""A refund that is over a limit: why it waits, what each decision would do, and the decision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from refunds_console.pages.refunds import balance_of
from refunds_console.pages.work import who_acts
from refunds_console.rendering import Pages, go_to
from refunds_console.routes import Routes, get, post
from refunds_console.state import Console
from refunds_ops.commands.approve import (
    evidence_of,
    record_approval,
    record_denial,
    waiting_refund,
)
from refunds_ops.errors import RefusedError
from refunds_ops.gateway_view import gateway_view
from refunds_ops.identity import identify
from refunds_ops.stack.records import refund_item
from refunds_ops.story import waits_because


def record(console: Console, refund_id: str, form: Mapping[str, str]) -> None:
    """Take the decision of a form. Raises ``RefusedError``."""
    decide = {"approve": record_approval, "deny": record_denial}.get(form.get("decision", ""))
    if decide is None:
        raise RefusedError("Choose whether the refund may be paid.")
    stack, why = console.stack, form.get("why", "")
    refund = waiting_refund(stack, refund_id, why)
    who = identify(stack, form.get("on_behalf_of", "").strip() or None)
    decide(stack, who, refund, why, evidence_of(stack, refund, form.get("evidence", "")))


def routes(console: Console, pages: Pages) -> Routes:
    def shown(
        refund_id: str, form: Mapping[str, str], problem: Sequence[str] = (), *, ask: bool = False
    ) -> Response:
        refund = refund_item(console.stack, refund_id)
        if refund is None:
            raise RefusedError(f"There is no refund {refund_id}.")
        parts = console.read(
            {
                "who": partial(who_acts, console),
                "gateway": partial(gateway_view, console.stack, refund) if ask else lambda: None,
                "ledger": partial(balance_of, console, refund["transaction_id"]),
            }
        )
        return pages.render(
            "approval.html",
            status=409 if problem else 200,
            refund=refund,
            waits=waits_because(refund),
            form=form,
            problem=problem,
            parts=parts,
        )

    def approval(request: Request) -> Response:
        ask = bool(request.query_params.get("gateway"))
        return shown(request.path_params["refund_id"], {}, ask=ask)

    def decide(request: Request, form: Mapping[str, str]) -> Response:
        refund_id = request.path_params["refund_id"]
        try:
            record(console, refund_id, form)
        except RefusedError as exc:
            # The form keeps what was typed.
            return shown(refund_id, form, (exc.what, *exc.to_do))
        return go_to(f"/refunds/{refund_id}")

    return [
        get("/work/approvals/{refund_id}", pages.view(approval)),
        post("/work/approvals/{refund_id}", pages.change(decide)),
    ]
