"""Finds the refunds that a command is about: through an index, then filtered. Never scans a
table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import click

from refunds.domain.clock import from_rfc3339, rfc3339
from refunds.domain.refund import Item
from refunds.tables.refund_indexes import Found, NoIndexError, RefundIndexes, Span
from refunds_ops.dates import Zone
from refunds_ops.errors import NotReadyError, RefusedError
from refunds_ops.open_refunds import UNFINISHED, indexes_of

if TYPE_CHECKING:
    from refunds_ops.stack.stack import Stack

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_SPAN = timedelta(days=7)
FIRST = datetime(2020, 1, 1).astimezone()
"""Before any refund of this project."""
MAX_DAYS = 4000

STATUSES = (
    "PROCESSING",
    "AWAITING_APPROVAL",
    "PENDING",
    "IN_REVIEW",
    "SUCCEEDED",
    "FAILED",
    "REJECTED",
    "REVERSED",
)


def span_options(function: F) -> F:
    """--day, --since and --until."""
    for option in (
        click.option("--until", metavar="WHEN", help="Created before this time. Like --since."),
        click.option(
            "--since",
            metavar="WHEN",
            help="Created since: 2026-11-27, an RFC 3339 instant, or 30m, 24h, 7d.",
        ),
        click.option("--day", metavar="YYYY-MM-DD", help="Created on this day (stack's zone)."),
    ):
        function = option(function)
    return function


@dataclass(frozen=True)
class Wanted:
    """The refunds to find; None means any."""

    transaction_id: str | None = None
    user_id: str | None = None
    statuses: frozenset[str] = frozenset()
    amount: str | None = None
    amount_minor: int | None = None
    currency: str | None = None
    requested_by: str | None = None
    gateway: str | None = None

    def matches(self, refund: Item) -> bool:
        pairs = (
            ("transaction_id", self.transaction_id),
            ("user_id", self.user_id),
            ("amount_minor", self.amount_minor),
            ("currency", self.currency),
            ("requested_by", self.requested_by),
            ("gateway", self.gateway),
        )
        if any(value is not None and refund.get(name) != value for name, value in pairs):
            return False
        return not self.statuses or refund["status"] in self.statuses

    @property
    def only_unfinished(self) -> bool:
        return bool(self.statuses) and self.statuses <= UNFINISHED


def span_of(
    zone: Zone, now: datetime, *, day: str | None, since: str | None, until: str | None
) -> Span | None:
    """The time span that was given; None when none was. Raises ``RefusedError``."""
    if day is not None:
        if since is not None or until is not None:
            raise click.UsageError("Give --day, or --since and --until.")
        start = zone.day(day)
        try:
            after = zone.start_of(start + timedelta(days=1))
            found = Span(rfc3339(zone.start_of(start)), rfc3339(after))
        except OverflowError as exc:
            raise RefusedError(f"{day} is too early or too late for a calendar.") from exc
    elif since is None and until is None:
        return None
    else:
        end = zone.instant(until, now) if until is not None else now + timedelta(minutes=5)
        try:
            start_at = zone.instant(since, now) if since is not None else end - DEFAULT_SPAN
            found = Span(rfc3339(start_at), rfc3339(end))
        except OverflowError as exc:
            raise RefusedError("--since or --until is too early or too late.") from exc
    if found.since >= found.until:
        raise RefusedError("The time span is empty: --since must be before --until.")
    if len(found.days()) > MAX_DAYS:
        raise RefusedError(f"The time span has more than {MAX_DAYS} days.")
    return found


def last_days(now: datetime) -> Span:
    """The default span: the last seven days, with a margin for clocks that are ahead."""
    return Span(rfc3339(now - DEFAULT_SPAN), rfc3339(now + timedelta(minutes=5)))


def find(
    stack: Stack, wanted: Wanted, span: Span | None, now: datetime, *, newest_first: bool
) -> Iterator[Item]:
    """The refunds that match, in the order of their creation.

    By payment: the audit trail. By user or day: an index. Unfinished ones: the open index. Raises
    ``NotReadyError`` when the stack lacks the index.
    """
    indexes = indexes_of(stack)
    for item in candidates(stack, indexes, wanted, span, now, newest_first=newest_first):
        if wanted.matches(item):
            yield item


@dataclass(frozen=True)
class Page:
    """Some of the refunds that match. ``after`` is where the next page begins; None: no more."""

    refunds: list[Item]
    after: str | None
    read: int
    """How many refunds were read to find them."""


def page_of(  # noqa: PLR0913 - a query's parts
    stack: Stack,
    wanted: Wanted,
    span: Span | None,
    now: datetime,
    *,
    after: str | None,
    limit: int,
    at_most: int,
    pool: Executor,
) -> Page:
    """At most ``limit`` refunds that match, newest first, out of at most ``at_most`` that are read:
    a refund that a filter leaves out costs a read, too. Raises what ``find`` raises."""
    if after is not None:
        span = span_after(after, span, now, newest_first=True)
    # One more than a page tells whether there is a next one.
    indexes = indexes_of(stack, page_size=limit + 1, pool=pool)
    read = candidates(stack, indexes, wanted, span, now, newest_first=True)
    if after is not None:
        read = skip_until(read, after, newest_first=True)
    found: list[Item] = []
    last: Item | None = None
    count = 0
    for item in read:
        if len(found) == limit or count == at_most:
            assert last is not None
            return Page(found, position_of(last), count)
        last, count = item, count + 1
        if wanted.matches(item):
            found.append(item)
    return Page(found, None, count)


def position_of(refund: Item) -> str:
    return f"{refund['refund_id']}@{refund['created_at']}"


def _position(after: str) -> tuple[str, str]:
    refund_id, separator, created = after.partition("@")
    try:
        if separator:
            return rfc3339(from_rfc3339(created)), refund_id
    except (ValueError, OverflowError):
        pass
    raise click.UsageError(
        "--after is the value that the previous page printed, such as rf_1@2026-11-27T…Z."
    )


def span_after(after: str, span: Span | None, now: datetime, *, newest_first: bool) -> Span:
    """The rest of the span: its index is read from there, not from its beginning."""
    created, _ = _position(after)
    within = span or Span(rfc3339(FIRST), rfc3339(now))
    if newest_first:
        end = rfc3339(from_rfc3339(created) + timedelta(microseconds=1))
        return Span(within.since, min(within.until, end))
    return Span(max(within.since, created), within.until)


def skip_until(found: Iterator[Item], after: str, *, newest_first: bool) -> Iterator[Item]:
    """The refunds after the position. Several refunds may share an instant."""
    position = _position(after)
    for refund in found:
        here = (refund["created_at"], refund["refund_id"])
        if here < position if newest_first else here > position:
            yield refund


def candidates(  # noqa: PLR0913 - a query's parts
    stack: Stack,
    indexes: RefundIndexes,
    wanted: Wanted,
    span: Span | None,
    now: datetime,
    *,
    newest_first: bool,
) -> Iterator[Item]:
    """What ``find`` filters, in the order of creation."""
    everything = Span(rfc3339(FIRST), rfc3339(now + timedelta(days=1)))
    within = span or everything
    try:
        if wanted.transaction_id is not None:
            found = _of_payment(stack, wanted.transaction_id, newest_first=newest_first)
        elif wanted.user_id is not None:
            found = indexes.by_user(wanted.user_id, within, newest_first=newest_first)
        elif span is None and wanted.only_unfinished:
            found = None
        else:
            found = indexes.by_day(span or last_days(now), newest_first=newest_first)
        if found is None:
            items = list(indexes.items(indexes.open()))
            items.sort(key=lambda item: str(item["created_at"]), reverse=newest_first)
            chosen: Iterator[Item] = iter(items)
        else:
            chosen = indexes.items(each.refund_id for each in found)
        for item in chosen:
            if within.since <= item["created_at"] < within.until:
                yield item
    except NoIndexError as exc:
        raise NotReadyError(
            f"This stack can't list refunds by {'user' if 'User' in exc.parameter else 'day'}.",
            f"Deploy it with {exc.parameter}=true; existing refunds are indexed then, too.",
            "By payment it works without: refunds list --transaction ID",
        ) from exc


def _of_payment(stack: Stack, transaction_id: str, *, newest_first: bool) -> Iterator[Found]:
    from refunds_ops.stack.records import audit_entries

    entries, complete = audit_entries(stack, transaction_id)
    if not complete:
        raise RefusedError(f"{transaction_id} has too many audit entries to list.")
    created: dict[str, str] = {}
    for entry in entries:
        created.setdefault(entry["refund_id"], entry["details"].get("created_at", ""))
    found = sorted(Found(at, refund_id) for refund_id, at in created.items())
    return iter(found[::-1] if newest_first else found)
