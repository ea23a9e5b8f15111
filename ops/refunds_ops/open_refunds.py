"""Every refund that is not finished, from the index of open refunds: all of them, read once."""

from __future__ import annotations

from concurrent.futures import Executor
from typing import TYPE_CHECKING

from refunds.domain.refund import Item, Status
from refunds.tables.refund_indexes import RefundIndexes
from refunds.tables.refunds import OPEN_SHARDS
from refunds_ops.terminal import print_note

if TYPE_CHECKING:
    from refunds_ops.stack.stack import Stack

MAX_NAMED = 20
"""A note names at most this many rows."""

UNFINISHED = frozenset({"PROCESSING", "PENDING", "IN_REVIEW", "AWAITING_APPROVAL"})


def indexes_of(
    stack: Stack, *, page_size: int | None = None, pool: Executor | None = None
) -> RefundIndexes:
    return RefundIndexes(stack.dynamodb, stack["RefundsTableName"], page_size=page_size, pool=pool)


def open_refunds(
    stack: Stack,
    at_most: int | None = None,
    pool: Executor | None = None,
    *,
    unreadable: list[str] | None = None,
) -> list[Item]:
    """Open refunds, longest open first. The index may lag, so finished ones are left out, but for
    those that the gateway shows as paid although they ended here without money.

    ``at_most``: about this many, those that are due first. ``pool`` reads in parallel.
    ``unreadable`` takes the ids of rows that somebody has damaged: they must not hide the others.
    """
    of_each_shard = None if at_most is None else -(-at_most // OPEN_SHARDS)
    indexes = indexes_of(stack, page_size=of_each_shard, pool=pool)
    found = [
        item
        for item in indexes.items(
            indexes.open(of_each_shard), [] if unreadable is None else unreadable
        )
        if item["status"] in UNFINISHED or is_seen_paid(item)
    ]
    return sorted(found, key=open_since)


def in_review(stack: Stack, unreadable: list[str] | None = None) -> list[Item]:
    """The refunds that wait for a person's decision."""
    found = open_refunds(stack, unreadable=unreadable)
    return [refund for refund in found if refund["status"] == Status.IN_REVIEW]


def note_unreadable(refund_ids: list[str]) -> None:
    """Say which rows were left out."""
    if refund_ids:
        names = ", ".join(sorted(refund_ids)[:MAX_NAMED])
        print_note(f"Rows that can't be read: {len(refund_ids)} ({names}). See: refunds verify")


def is_seen_paid(refund: Item) -> bool:
    """Whether a person must correct it: it ended here without money, and is paid at the gateway."""
    return refund["status"] in (Status.FAILED, Status.REJECTED) and bool(refund.get("seen_paid_at"))


def open_since(refund: Item) -> str:
    return str(refund.get("open_since") or refund["updated_at"])
