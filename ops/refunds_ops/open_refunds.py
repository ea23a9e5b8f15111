"""Every refund that is not finished, from the index of open refunds: all of them, read once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from refunds.domain.refund import Item, Status
from refunds.tables.refund_indexes import RefundIndexes

if TYPE_CHECKING:
    from refunds_ops.stack.stack import Stack

UNFINISHED = frozenset({"PROCESSING", "PENDING", "IN_REVIEW", "AWAITING_APPROVAL"})


def indexes_of(stack: Stack) -> RefundIndexes:
    return RefundIndexes(stack.dynamodb, stack["RefundsTableName"])


def open_refunds(stack: Stack) -> list[Item]:
    """Open refunds, longest open first. The index may lag: finished ones are left out."""
    indexes = indexes_of(stack)
    found = [item for item in indexes.items(indexes.open()) if item["status"] in UNFINISHED]
    return sorted(found, key=open_since)


def in_review(stack: Stack) -> list[Item]:
    """Those that wait for a person's decision."""
    return [refund for refund in open_refunds(stack) if refund["status"] == Status.IN_REVIEW]


def open_since(refund: Item) -> str:
    return str(refund.get("open_since") or refund["updated_at"])
