"""What the functions remember between runs: a few items in the ledger table under ids with '#'.

A transaction's id never has a '#', so they can't meet.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from refunds.dynamo import item_from_wire, item_to_wire
from refunds.refund import Item
from refunds.times import rfc3339

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

LOOK_UP_FIRST = "#look-up-first"
SWEEP = "#sweep"


class Control:
    def __init__(self, client: DynamoDBClient, table_name: str) -> None:
        self._client = client
        self._table = table_name

    def look_up_first(self, now: datetime) -> bool:
        """Whether a restore asks every claim to look its refund up at the gateway first.

        After a restore the tables may have forgotten refunds that the gateway has paid; their
        messages may still come back from a queue.
        """
        until = self._get(LOOK_UP_FIRST).get("look_up_first_until")
        return until is not None and rfc3339(now) < until

    def set_look_up_first(self, until: datetime) -> None:
        self._put(LOOK_UP_FIRST, {"look_up_first_until": rfc3339(until)})

    def sweep_position(self) -> Item:
        """``created_from``, ``cursor`` and ``failures`` of the sweep in progress, or nothing."""
        return self._get(SWEEP)

    def set_sweep_position(self, created_from: str, cursor: str | None, failures: int) -> None:
        """``failures``: how often in a row the list could not be read from there."""
        self._put(SWEEP, {"created_from": created_from, "cursor": cursor, "failures": failures})

    def _get(self, name: str) -> Item:
        answer = self._client.get_item(
            TableName=self._table, Key={"transaction_id": {"S": name}}, ConsistentRead=True
        )
        return item_from_wire(answer.get("Item", {}))

    def _put(self, name: str, item: Item) -> None:
        self._client.put_item(
            TableName=self._table, Item=item_to_wire({"transaction_id": name} | item)
        )
