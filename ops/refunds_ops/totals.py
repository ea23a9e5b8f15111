"""Exact sums of refunds: integers of minor units, by currency, never through a float."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from refunds.domain.refund import Item
from refunds.tables.refund_indexes import Span
from refunds_ops.amounts import amount_text
from refunds_ops.dates import Zone, utc_now
from refunds_ops.errors import RefusedError

if TYPE_CHECKING:
    from refunds_ops.stack.stack import Stack

GROUPS: Mapping[str, str] = {
    "SUCCEEDED": "paid out",
    "REVERSED": "reversed",
    "FAILED": "failed",
    "REJECTED": "failed",
    "IN_REVIEW": "in review",
    "PROCESSING": "open",
    "PENDING": "open",
    "AWAITING_APPROVAL": "open",
}
"""What became of the money, by status."""

DIMENSIONS = ("day", "hour", "currency", "status")

Key = tuple[str, ...]


@dataclass(frozen=True)
class Total:
    """``key``: the values of the dimensions asked for, and always of the currency."""

    key: Mapping[str, str]
    count: int
    amount_minor: int
    without_amount: int
    """Refunds that never had an amount: rejected requests for all that is left."""

    @property
    def amount(self) -> str:
        return amount_text(self.amount_minor, self.key["currency"])


def totals(refunds: Iterable[Item], by: Sequence[str], zone: Zone) -> list[Total]:
    """Sums by the dimensions and by currency, since amounts of two currencies can't be added."""
    dimensions = [name for name in DIMENSIONS if name in by or name == "currency"]
    value_of: Mapping[str, Callable[[Item], str]] = {
        "day": lambda refund: f"{zone.local(refund['created_at']):%Y-%m-%d}",
        "hour": lambda refund: f"{zone.local(refund['created_at']):%H}",
        "currency": lambda refund: str(refund["currency"]),
        "status": lambda refund: GROUPS.get(refund["status"], "open"),
    }
    sums: dict[Key, list[int]] = defaultdict(lambda: [0, 0, 0])
    for refund in refunds:
        total = sums[tuple(value_of[name](refund) for name in dimensions)]
        amount = refund.get("amount_minor")
        total[0] += 1
        total[1] += amount or 0
        total[2] += amount is None
    return [
        Total(dict(zip(dimensions, key, strict=True)), count, amount, without)
        for key, (count, amount, without) in sorted(sums.items())
    ]


@dataclass(frozen=True)
class Source:
    """Where refunds are read from, and the instant at which the sums are exact."""

    refunds: Iterator[Item]
    as_of: str
    what: str


def from_table(stack: Stack, span: Span) -> Source:
    """The refunds as they are now, found through the index of days."""
    from refunds.domain.clock import rfc3339
    from refunds_ops.finding import Wanted, find

    now = utc_now()
    refunds = find(stack, Wanted(), span, now, newest_first=False)
    return Source(refunds, rfc3339(now), "the table Refunds")


def from_backup(stack: Stack | None, span: Span, folder: Path | None, number: int | None) -> Source:
    """The refunds as they were in a backup, whose files are checked as they are read."""
    from refunds_ops.backup.data_files import DamagedError, plain_items
    from refunds_ops.backup.storage import AbsentError, backup_storage
    from refunds_ops.commands.backup_options import digest_of, stack_of

    storage = backup_storage(stack or stack_of(None, folder), folder)
    digest = digest_of(storage, number, None)
    (export,) = [each for each in digest.exports if each.table == "refunds"]

    def refunds() -> Iterator[Item]:
        try:
            for refund in plain_items(storage, export):
                if span.since <= refund["created_at"] < span.until:
                    yield refund
        except (DamagedError, AbsentError) as exc:
            raise RefusedError(
                f"Backup {digest.sequence} can't be read, so there are no totals: {exc}.",
                "What is wrong with it: refunds backup verify",
            ) from exc

    return Source(refunds(), digest.start_time, f"backup {digest.sequence}")
