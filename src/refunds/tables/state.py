"""The functions' state between runs: a few items in the ledger table, under ids with '#'.

No transaction id contains a '#', so they can't collide.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from refunds.domain.clock import rfc3339
from refunds.domain.intake import Intake
from refunds.domain.limits import Exceptions
from refunds.domain.refund import Item
from refunds.tables.wire import condition_failed, item_from_wire, item_to_wire, old_item, to_wire

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

LOOK_UP_FIRST = "#look-up-first"
SWEEP = "#sweep"
INTAKE = "#intake"
LIMIT_EXCEPTIONS = "#limit-exceptions"

CHANGE_TRIES = 8

MESSAGES_RETURN_WITHIN = timedelta(days=28)
"""A message stays up to 7 days in the queue and 14 in the dead-letter queue. The extra week is for
a redrive. A message that is sent again later has a mark (``processor.Delivery``)."""


def _intake_item(gateway: str | None) -> str:
    return INTAKE if gateway is None else f"{INTAKE}#{gateway}"


class ContendedError(Exception):
    """Others kept changing the item."""


class Control:
    def __init__(self, client: DynamoDBClient, table_name: str) -> None:
        self._client = client
        self._table = table_name

    def look_up_first(self, now: datetime) -> bool:
        """Whether every claim asks the gateway for its refund before calling.

        New or restored tables may not know refunds that the gateway has paid, and their messages
        still come back from the queues. The first look at a table stores the time of that look.
        """
        until = self._get(LOOK_UP_FIRST).get("look_up_first_until")
        if until is None:
            until = self._begin_looking_up(now)
        return rfc3339(now) < until

    def _begin_looking_up(self, now: datetime) -> str:
        until = rfc3339(now + MESSAGES_RETURN_WITHIN)
        try:
            self._client.put_item(
                TableName=self._table,
                Item=item_to_wire({"transaction_id": LOOK_UP_FIRST, "look_up_first_until": until}),
                ConditionExpression="attribute_not_exists(transaction_id)",
            )
        except ClientError as exc:
            if not condition_failed(exc):
                raise
        return until

    def set_look_up_first(self, until: datetime) -> None:
        self._put(LOOK_UP_FIRST, {"look_up_first_until": rfc3339(until)})

    def sweep(self, gateway: str) -> Item:
        """How far the sweep of a gateway's list is (``SweepState``); empty before the first
        sweep."""
        return self._get(f"{SWEEP}#{gateway}")

    def set_sweep(self, gateway: str, item: Item) -> None:
        self._put(f"{SWEEP}#{gateway}", item)

    def read_exceptions(self) -> Exceptions:
        """The exceptions from the limits, and who changed them last."""
        return Exceptions.from_item(self._get(LIMIT_EXCEPTIONS))

    def write_exceptions(self, new: Exceptions, *, expected_version: int) -> bool:
        """Replace the exceptions; False when somebody else has changed them since that version.

        ``new`` is made by ``Exceptions.changed``, which records who and why.
        """
        return self._replace(LIMIT_EXCEPTIONS, expected_version, new.item())

    def intake(self, gateway: str | None = None) -> Intake:
        """Whether requests flow from the queue, and if not, why.

        ``gateway``: of one gateway among several.
        """
        return Intake.from_item(self._get(_intake_item(gateway)))

    def change_intake(
        self, step: Callable[[Intake], Intake], gateway: str | None = None
    ) -> tuple[Intake, Intake]:
        """Replace the state with the result of ``step``. Returns the state before and after.

        ``step`` may be called several times, once for each state it finds. Raises
        ``ContendedError``.
        """
        name = _intake_item(gateway)
        for _ in range(CHANGE_TRIES):
            before = self.intake(gateway)
            after = step(before)
            if after == before:
                return before, after
            after = replace(after, version=before.version + 1)
            if self._replace(name, before.version, after.item()):
                return before, after
        raise ContendedError(name)

    def _replace(self, name: str, version: int, item: Item) -> bool:
        """Store the next version of an item. False when another version was stored in between."""
        item = {"transaction_id": name} | item
        as_read: dict[str, Any] = {"ConditionExpression": "attribute_not_exists(#version)"}
        if version:
            as_read = {
                "ConditionExpression": "#version = :read",
                "ExpressionAttributeValues": {":read": to_wire(version)},
            }
        try:
            self._client.put_item(
                TableName=self._table,
                Item=item_to_wire(item),
                ExpressionAttributeNames={"#version": "version"},
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
                **as_read,
            )
        except ClientError as exc:
            if not condition_failed(exc):
                raise
            # If it is exactly ours, an earlier attempt of this write stored it, and its response
            # was lost.
            return (old_item(exc) or self._get(name)) == item
        return True

    def _get(self, name: str) -> Item:
        answer = self._client.get_item(
            TableName=self._table, Key={"transaction_id": {"S": name}}, ConsistentRead=True
        )
        return item_from_wire(answer.get("Item", {}))

    def _put(self, name: str, item: Item) -> None:
        self._client.put_item(
            TableName=self._table, Item=item_to_wire({"transaction_id": name} | item)
        )
