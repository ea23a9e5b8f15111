"""Finds refunds: a search that answers as you type, and lists with filters in the address."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any

import click
from starlette.requests import Request
from starlette.responses import Response

from refunds.domain.identifiers import REFUND_ID, TRANSACTION_ID
from refunds.domain.refund import Item
from refunds.tables.ledger import Ledger, LedgerTable
from refunds_console.rendering import Pages
from refunds_console.routes import Routes, get
from refunds_console.state import Console
from refunds_ops.amounts import minor_units
from refunds_ops.dates import utc_now
from refunds_ops.errors import NotReadyError, RefusedError
from refunds_ops.finding import (
    STATUSES,
    Page,
    Wanted,
    last_days,
    page_of,
    span_of,
)
from refunds_ops.open_refunds import indexes_of, open_refunds

PAGE_ROWS = 50
MAX_READ = 1000
"""Refunds that one page reads: filters leave out what they don't want only after reading it."""
SEARCH_ROWS = 12
MIN_PART = 3
"""Letters that a part of a name must have; whole names may be shorter."""
MAX_SEARCH = 128
_NAMES = (
    ("refund_id", "refund"),
    ("transaction_id", "payment"),
    ("user_id", "user"),
    ("gateway_refund_id", "gateway's id"),
    ("gateway_trace", "trace number"),
)
_FILTERS = (
    "transaction_id",
    "user_id",
    "status",
    "day",
    "since",
    "until",
    "amount",
    "currency",
    "requested_by",
    "gateway",
)


@dataclass(frozen=True)
class Match:
    refund: Item
    by: str
    """Which of its names it was found by."""


@dataclass(frozen=True)
class Matches:
    text: str
    found: Sequence[Match]
    incomplete: str = ""
    """Why there may be more than was found."""


def search(console: Console, text: str) -> Matches:
    """Refunds that have ``text`` as one of their names or, if they are of the last days, as a part
    of a name.

    Whole ids, payments and users are looked up, whatever their age.
    """
    text = text.strip()[:MAX_SEARCH]
    if not text:
        return Matches("", ())
    reads: list[Future[list[Item]]] = []
    for read in (_by_id, _by_payment, _by_user):
        reads.append(console.parts_pool.submit(read, console, text))
    known = console.recent.known(wait_seconds=0.05)
    parts = known.search(text, SEARCH_ROWS) if len(text) >= MIN_PART else []
    items = {item["refund_id"]: item for read in reads for item in read.result()}
    missing = [refund_id for refund_id in parts if refund_id not in items]
    items |= {item["refund_id"]: item for item in indexes_of(console.stack).items(missing)}
    newest_first = sorted(items.values(), key=lambda item: str(item["created_at"]), reverse=True)
    whole_first = sorted(newest_first, key=lambda item: item["refund_id"] != text)
    found = [Match(item, _found_by(item, text)) for item in whole_first[:SEARCH_ROWS]]
    return Matches(text, found, _incomplete(known.problem, known.complete, known.refunds))


def _incomplete(problem: str, complete: bool, refunds: int) -> str:
    if problem:
        return f"Only whole refund ids, payments and users are searched. {problem}"
    if not complete:
        return f"Parts of names are searched in the newest {refunds:,} refunds so far."
    return ""


def _found_by(item: Item, text: str) -> str:
    wanted = text.casefold()
    for name, label in _NAMES:
        if wanted in str(item.get(name) or "").casefold():
            return label
    return ""


def _by_id(console: Console, text: str) -> list[Item]:
    return list(indexes_of(console.stack).items([text])) if REFUND_ID.fullmatch(text) else []


def _by_payment(console: Console, text: str) -> list[Item]:
    if not TRANSACTION_ID.fullmatch(text):
        return []
    return _first_page(console, Wanted(transaction_id=text))


def _by_user(console: Console, text: str) -> list[Item]:
    try:
        return _first_page(console, Wanted(user_id=text))
    except NotReadyError:  # no index of users; the list page says which parameter it needs
        return []


def _first_page(console: Console, wanted: Wanted) -> list[Item]:
    return page_of(
        console.stack,
        wanted,
        None,
        utc_now(),
        after=None,
        limit=SEARCH_ROWS,
        at_most=MAX_READ,
        pool=console.inner_pool,
    ).refunds


# --- Lists ----------------------------------------------------------------------------------------


def filters_of(query: Mapping[str, str]) -> dict[str, str]:
    """The filters of an address, empty ones too, for the form."""
    return {name: query.get(name, "").strip()[:MAX_SEARCH] for name in _FILTERS}


def listed(console: Console, filters: Mapping[str, str], after: str | None) -> Page:
    """A page of refunds, newest first. Raises ``RefusedError`` for a filter that can't be read."""
    given = {name: value or None for name, value in filters.items()}
    wanted, now = _wanted(given), utc_now()
    span = span_of(console.zone, now, day=given["day"], since=given["since"], until=given["until"])
    if span is None and not (wanted.transaction_id or wanted.user_id or wanted.only_unfinished):
        span = last_days(now)
    if span is None and wanted.only_unfinished:
        # Reads the index of open refunds, which is small, and never more of it than a page reads.
        found = [
            item
            for item in open_refunds(console.stack, MAX_READ, console.inner_pool)
            if wanted.matches(item)
        ]
        return Page(found[:PAGE_ROWS], None, len(found))
    return page_of(
        console.stack,
        wanted,
        span,
        now,
        after=after,
        limit=PAGE_ROWS,
        at_most=MAX_READ,
        pool=console.inner_pool,
    )


def _wanted(given: Mapping[str, str | None]) -> Wanted:
    statuses = frozenset((given["status"] or "").split()) if given["status"] else frozenset()
    if unknown := statuses - set(STATUSES):
        raise RefusedError(f"There is no status {', '.join(sorted(unknown))}.")
    wanted = Wanted(
        transaction_id=given["transaction_id"],
        user_id=given["user_id"],
        statuses=statuses,
        currency=given["currency"],
        requested_by=given["requested_by"],
        gateway=given["gateway"],
    )
    if (amount := given["amount"]) is None:
        return wanted
    if given["currency"] is None:
        raise RefusedError("An amount needs a currency, such as USD.")
    return replace(wanted, amount_minor=minor_units(amount, given["currency"]))


def balance_of(console: Console, transaction_id: str) -> Ledger | None:
    ledger = LedgerTable(console.stack.dynamodb, console.stack["LedgerTableName"])
    return ledger.get(transaction_id)


# --- Pages ----------------------------------------------------------------------------------------


def routes(console: Console, pages: Pages) -> Routes:
    def refunds(request: Request) -> Response:
        query = request.query_params
        if text := query.get("q", "").strip():
            return pages.render("search.html", matches=search(console, text))
        filters = filters_of(query)
        after = query.get("after", "")[:MAX_SEARCH] or None
        values: dict[str, Any] = {"filters": filters, "page": None, "problem": "", "balance": None}
        try:
            values["page"] = listed(console, filters, after)
        except (RefusedError, NotReadyError) as exc:
            values["problem"] = " ".join((exc.what, *exc.to_do))
        except click.UsageError as exc:
            values["problem"] = exc.format_message()
        if values["page"] and (payment := filters["transaction_id"]):
            values["balance"] = balance_of(console, payment)
        default = not any(filters[name] for name in ("transaction_id", "user_id", "day", "since"))
        return pages.render(
            "refunds.html", statuses=STATUSES, last_week=default and not after, **values
        )

    def as_typed(request: Request) -> Response:
        matches = search(console, request.query_params.get("q", ""))
        return pages.render("fragments/matches.html", matches=matches)

    return [get("/refunds", pages.view(refunds)), get("/fragments/search", pages.view(as_typed))]
