"""Finds refunds through the indexes of the table ``Refunds`` that people use. No function loads
this.

The indexes contain only keys, and may lag behind the table by about a second.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from refunds.domain.audit_entry import NOT_AN_IMAGE, audit_entry
from refunds.domain.clock import from_rfc3339
from refunds.domain.refund import AUDITED, Item
from refunds.tables.refunds import OPEN_INDEX, OPEN_SHARDS
from refunds.tables.wire import item_from_wire

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

USER_INDEX = "refunds-by-user"
DAY_INDEX = "refunds-by-day"
INDEX_PARAMETERS = {USER_INDEX: "UserIndex", DAY_INDEX: "DayIndex"}
"""The parameter of template.yaml that switches each index on."""

BATCH = 100
"""Items that one BatchGetItem can ask for."""


class NoIndexError(Exception):
    """The table lacks an index; ``parameter`` of template.yaml switches it on."""

    def __init__(self, index: str) -> None:
        super().__init__(index)
        self.parameter = INDEX_PARAMETERS[index]


@dataclass(frozen=True, order=True)
class Found:
    """A refund in an index, in the order of its creation."""

    created_at: str
    refund_id: str


@dataclass(frozen=True)
class Span:
    """Creation times from ``since`` to before ``until``, in ``rfc3339`` form."""

    since: str
    until: str

    def days(self) -> list[date]:
        """The UTC days that the span includes, in whole or in part."""
        first = from_rfc3339(self.since).date()
        last = (from_rfc3339(self.until) - timedelta(microseconds=1)).date()
        return [first + timedelta(days=number) for number in range((last - first).days + 1)]


class RefundIndexes:
    def __init__(
        self,
        client: DynamoDBClient,
        table_name: str,
        *,
        page_size: int | None = None,
        pool: Executor | None = None,
    ) -> None:
        """``page_size``: keys that a query reads at once, for readers that stop early; None: as
        many as fit. ``pool``: asks the shards of an index at the same time."""
        self._client = client
        self._table = table_name
        self._limit: dict[str, Any] = {} if page_size is None else {"Limit": page_size}
        self._batch = min(BATCH, page_size or BATCH)
        self._pool = pool

    def by_user(self, user_id: str, span: Span, *, newest_first: bool) -> Iterator[Found]:
        """A user's refunds. Raises ``NoIndexError``."""
        return self._created(USER_INDEX, "user_id", user_id, span, newest_first=newest_first)

    def by_day(self, span: Span, *, newest_first: bool) -> Iterator[Found]:
        """All refunds created in a span, a day at a time. Raises ``NoIndexError``."""
        for day in sorted(span.days(), reverse=newest_first):
            shards = [
                self._created(
                    DAY_INDEX, "day_shard", f"{day}#{shard}", span, newest_first=newest_first
                )
                for shard in range(OPEN_SHARDS)
            ]
            yield from heapq.merge(*self._started(shards), reverse=newest_first)

    def _started(self, shards: Sequence[Iterator[Found]]) -> Sequence[Iterator[Found]]:
        """The same, with the first page of each read already, all at the same time."""
        if self._pool is None:
            return shards
        first = self._pool.map(lambda shard: list(islice(shard, 1)), shards)
        return [chain(begun, shard) for begun, shard in zip(first, shards, strict=True)]

    def _created(
        self, index: str, name: str, value: str, span: Span, *, newest_first: bool
    ) -> Iterator[Found]:
        pages = self._query(
            IndexName=index,
            # BETWEEN includes its end; a span does not.
            KeyConditionExpression=f"{name} = :value AND created_at BETWEEN :since AND :until",
            ExpressionAttributeValues={
                ":value": {"S": value},
                ":since": {"S": span.since},
                ":until": {"S": span.until},
            },
            ScanIndexForward=not newest_first,
        )
        for item in pages:
            if item["created_at"] < span.until:
                yield Found(item["created_at"], item["refund_id"])

    def open(self, at_most: int | None = None) -> Iterator[str]:
        """Every unfinished refund for which no message will be delivered again.

        ``at_most``: the most refunds of each shard; those that are due first.
        """
        shards = range(OPEN_SHARDS)
        if self._pool is None:
            for shard in shards:
                yield from self._open(shard, at_most)
        else:
            for found in self._pool.map(lambda shard: list(self._open(shard, at_most)), shards):
                yield from found

    def _open(self, shard: int, at_most: int | None) -> Iterator[str]:
        items = self._query(
            IndexName=OPEN_INDEX,
            KeyConditionExpression="open_shard = :shard",
            ExpressionAttributeValues={":shard": {"S": str(shard)}},
        )
        for item in islice(items, at_most):
            yield item["refund_id"]

    def _query(self, **arguments: Any) -> Iterator[Item]:
        while True:
            try:
                answer: Any = self._client.query(TableName=self._table, **self._limit, **arguments)
            except ClientError as exc:
                if _lacks_index(exc):
                    raise NoIndexError(arguments["IndexName"]) from exc
                raise
            yield from map(item_from_wire, answer["Items"])
            if not (last := answer.get("LastEvaluatedKey")):
                return
            arguments["ExclusiveStartKey"] = last

    def items(
        self, refund_ids: Iterable[str], unreadable: list[str] | None = None
    ) -> Iterator[Item]:
        """Those refunds as stored, in the given order; one that has gone is left out.

        ``unreadable``: takes the ids of rows that are no refunds. Without it, the first such row is
        an error, and hides the others.
        """
        batch: list[str] = []
        for refund_id in refund_ids:
            batch.append(refund_id)
            if len(batch) == self._batch:
                yield from self._items(batch, unreadable)
                batch = []
        if batch:
            yield from self._items(batch, unreadable)

    def _items(self, refund_ids: Sequence[str], unreadable: list[str] | None) -> Iterator[Item]:
        keys: Any = [{"refund_id": {"S": each}} for each in dict.fromkeys(refund_ids)]
        found: dict[str, Item] = {}
        while keys:
            answer: Any = self._client.batch_get_item(
                RequestItems={self._table: {"Keys": keys, "ConsistentRead": True}}
            )
            for wire in answer["Responses"].get(self._table, []):
                try:
                    item = item_from_wire(wire)
                    if unreadable is not None:
                        _check(item)
                except NOT_AN_IMAGE:
                    if unreadable is None:
                        raise
                    unreadable.append(wire["refund_id"]["S"])
                else:
                    found[item["refund_id"]] = item
            keys = answer.get("UnprocessedKeys", {}).get(self._table, {}).get("Keys", [])
        yield from (found[each] for each in refund_ids if each in found)


def _check(item: Item) -> None:
    """Raises one of ``NOT_AN_IMAGE`` for a row that somebody has damaged."""
    audit_entry({name: item[name] for name in AUDITED if name in item})
    for name in ("open_since", "check_at"):
        if name in item:
            from_rfc3339(item[name])


def _lacks_index(error: ClientError) -> bool:
    failure = error.response["Error"]
    # Only the text of DynamoDB's error says so.
    return failure["Code"] in ("ValidationException", "ResourceNotFoundException") and (
        "index" in failure.get("Message", "").lower()
    )
