"""One refund: what became of it, whether its records are intact, and what to tell the customer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from refunds.domain.clock import from_rfc3339
from refunds.domain.identifiers import REFUND_ID
from refunds.domain.refund import Item
from refunds.tables.ledger import Ledger
from refunds_console.charts import Share, shares
from refunds_console.pages.refunds import balance_of
from refunds_console.rendering import Pages
from refunds_console.routes import Routes, get
from refunds_console.state import Console
from refunds_ops.audit.chain import broken_links
from refunds_ops.audit.receipt_page import html_receipt
from refunds_ops.audit.timeline import span_text
from refunds_ops.commands.audit_receipt import receipt_of
from refunds_ops.commands.list_refunds import next_step
from refunds_ops.commands.show import Shown, facts, look_up
from refunds_ops.dates import utc_now
from refunds_ops.errors import CommandError, RefusedError
from refunds_ops.gateway_view import gateway_view
from refunds_ops.open_refunds import UNFINISHED
from refunds_ops.story import sentence, tell_customer, what_follows

BAR = 1000
_HIDDEN = frozenset({"fingerprint", "attempt_token", "open_shard", "day_shard"})
"""The protocol's internal attributes, which are of no use to a reader. A token is a kind of key."""


@dataclass(frozen=True)
class Moment:
    """One point of the timeline. ``kind``: message, call, entry or next."""

    kind: str
    at: str
    what: str
    by: str = ""
    status: str = ""
    hash: str = ""
    problem: str = ""
    """What is wrong with the entry's hash or its place in the chain."""
    passed: str = ""
    """Time since the moment before."""


@dataclass(frozen=True)
class Balance:
    """A payment's money. ``shares`` cut a bar of ``BAR`` units."""

    ledger: Ledger
    shares: Sequence[Share]
    this: int
    others: int


def moments(found: Shown) -> list[Moment]:
    """The refund's story by time: the message, the gateway call, and each audit entry."""
    refund, entries = found.refund, found.entries
    broken = broken_links(entries) if entries else {}
    points = []
    if requested_at := refund.get("requested_at"):
        sent_by = refund.get("sent_by")
        what = f"{refund['requested_by']} made the request."
        points.append(Moment("message", str(requested_at), what, by=str(sent_by or "")))
    if key_used_at := refund.get("key_used_at"):
        what = f"{refund['gateway']} was called."
        points.append(Moment("call", str(key_used_at), what))
    if (called_at := refund.get("called_at")) and called_at != key_used_at:
        what = f"{refund['gateway']} was called again."
        points.append(Moment("call", str(called_at), what))
    for entry in entries:
        points.append(_entry(entry, broken.get(entry["version"], "")))
    return _with_time_between(points)


def _entry(entry: Item, problem: str) -> Moment:
    try:
        what = sentence(entry)
    except (KeyError, TypeError, ValueError, AttributeError):  # damaged; the problem says so
        what = "This entry can't be read."
    return Moment(
        "entry",
        str(entry.get("occurred_at")),
        what,
        by=str(entry.get("processed_by") or ""),
        status=str(entry.get("status") or ""),
        hash=str(entry.get("entry_hash") or ""),
        problem=problem,
    )


def _with_time_between(points: Sequence[Moment]) -> list[Moment]:
    order = {"message": 0, "entry": 1, "call": 2}

    def instant(point: Moment) -> Any:
        try:
            return from_rfc3339(point.at)
        except (ValueError, OverflowError):
            return None

    dated = [(instant(point), point) for point in points]
    readable = sorted(
        ((at, point) for at, point in dated if at is not None),
        key=lambda each: (each[0], order[each[1].kind]),
    )
    found, before = [], None
    for at, point in readable:
        passed = "" if before is None else f"+ {span_text((at - before).total_seconds())}"
        found.append(replace(point, passed=passed))
        before = at
    return [*found, *(point for at, point in dated if at is None)]


def balance(console: Console, refund: Item) -> Balance | None:
    ledger = balance_of(console, refund["transaction_id"])
    if ledger is None or ledger.captured is None or ledger.remaining is None:
        return None
    this = ledger.reservations.get(refund["refund_id"], 0)
    others = max(0, ledger.captured - ledger.remaining - this)
    parts = {"this": this, "others": others, "left": max(0, ledger.remaining)}
    return Balance(ledger, shares(parts, BAR), this, others)


def raw(value: Any) -> str:
    """A record as JSON for people."""
    if isinstance(value, dict):
        value = {name: each for name, each in value.items() if name not in _HIDDEN}
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)


def routes(console: Console, pages: Pages) -> Routes:
    def page(request: Request) -> Response:
        refund_id = request.path_params["refund_id"]
        if not REFUND_ID.fullmatch(refund_id):
            raise RefusedError("That is not a refund's id.")
        found = look_up(console.stack, refund_id)
        gateway_problem = ""
        if request.query_params.get("gateway"):
            try:
                found.gateway = gateway_view(console.stack, found.refund)
            except CommandError as exc:
                gateway_problem = " ".join((exc.what, *exc.to_do))
        status = str(found.refund["status"])
        return pages.render(
            "refund.html",
            found=found,
            refund=found.refund,
            moments=moments(found),
            facts=[each for each in facts(found.refund, console.zone) if each[1]],
            balance=balance(console, found.refund),
            customer=tell_customer(found.refund),
            next_step=next_step(found.refund, console.zone, utc_now())
            if status in UNFINISHED
            else what_follows(found.refund),
            gateway_problem=gateway_problem,
            raw_refund=raw(found.refund),
            raw_entries=[(entry["version"], raw(entry)) for entry in found.entries],
        )

    def receipt(request: Request) -> Response:
        refund_id, kind = request.path_params["refund_id"], request.path_params["kind"]
        if kind not in ("html", "json") or not REFUND_ID.fullmatch(refund_id):
            raise RefusedError("There is no such receipt.")
        made = receipt_of(console.stack, refund_id)
        if kind == "html":
            content, media = html_receipt(made), "text/html"
        else:
            content, media = json.dumps(made, indent=1) + "\n", "application/json"
        # Never shown in the console's own origin: it is a file to keep or to send.
        name = f'attachment; filename="{refund_id}.receipt.{kind}"'
        return Response(content, media_type=media, headers={"content-disposition": name})

    return [
        get("/refunds/{refund_id}", pages.view(page)),
        get("/refunds/{refund_id}/receipt.{kind}", pages.view(receipt)),
    ]
