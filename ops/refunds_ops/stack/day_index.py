"""Puts refunds into the index of days that were written before a release set its key.

A refund's key of that index (``day_shard``) never changes and is not an audited attribute, so its
version, hash and audit trail stay as they are.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from refunds.tables.refunds import day_shard_of
from refunds.tables.wire import condition_failed

if TYPE_CHECKING:
    from refunds_ops.stack.stack import Stack

WRITERS = 8


@dataclass(frozen=True)
class Unindexed:
    refund_id: str
    created_at: str


def pages_without_day(stack: Stack) -> Iterator[list[Unindexed]]:
    """The refunds without the key, page by page of one scan of the table."""
    pages = stack.dynamodb.get_paginator("scan").paginate(
        TableName=stack["RefundsTableName"],
        FilterExpression="attribute_not_exists(day_shard) AND attribute_type(created_at, :text)",
        ProjectionExpression="refund_id, created_at",
        ExpressionAttributeValues={":text": {"S": "S"}},
    )
    for page in pages:
        yield [Unindexed(item["refund_id"]["S"], item["created_at"]["S"]) for item in page["Items"]]


def index_days(stack: Stack, *, per_second: int, on_progress: Callable[[int], None]) -> int:
    """Write the missing keys. Returns how many this call wrote. Repeating it is harmless."""
    began, asked, written = time.monotonic(), 0, 0
    with ThreadPoolExecutor(WRITERS) as pool:
        for page in pages_without_day(stack):
            for start in range(0, len(page), WRITERS):
                some = page[start : start + WRITERS]
                written += sum(pool.map(lambda each: _index(stack, each), some))
                asked += len(some)
                on_progress(asked)
                if per_second:
                    time.sleep(max(0.0, asked / per_second - (time.monotonic() - began)))
    return written


def _index(stack: Stack, refund: Unindexed) -> bool:
    try:
        stack.dynamodb.update_item(
            TableName=stack["RefundsTableName"],
            Key={"refund_id": {"S": refund.refund_id}},
            UpdateExpression="SET day_shard = :shard",
            ConditionExpression="attribute_exists(refund_id) AND attribute_not_exists(day_shard)",
            ExpressionAttributeValues={
                ":shard": {"S": day_shard_of(refund.refund_id, refund.created_at)}
            },
        )
    except stack.dynamodb.exceptions.ClientError as exc:
        if condition_failed(exc):  # removed, or indexed by somebody else, since the scan
            return False
        raise
    return True
