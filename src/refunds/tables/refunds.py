"""The table ``Refunds``: all of its expressions, and the fence of every write."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import fields
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import ClientError

from refunds.domain.refund import REFUND_ATTRIBUTES, Refund, Status, check_transition, stored_form
from refunds.tables.wire import condition_failed, item_from_wire, item_to_wire, old_item, to_wire

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

OPEN_INDEX = "open-refunds"
_INDEXED = ("open_since", "open_shard", "check_at")
_MOST_KEYS = 100  # BatchGetItem takes no more
OPEN_SHARDS = 8
"""The shards spread the index's writes: one hash key takes 1,000 writes a second."""


_DAY_SHARD = "day_shard"


def day_shard_of(refund_id: str, created_at: str) -> str:
    """The by-day index's hash key for a refund: the UTC day, and a shard as above."""
    return f"{created_at[:10]}#{shard_of(refund_id)}"


class Due(NamedTuple):
    """An entry of the open index: a refund, and when it is due."""

    check_at: str
    refund_id: str
    shard: str


def shard_of(refund_id: str) -> str:
    """The open index's hash key for a refund: ``"0"`` to ``"7"``."""
    return str(sum(refund_id.encode()) % OPEN_SHARDS)


class RefundsTable:
    """Reads are consistent. Writes are conditional. Nothing here deletes."""

    def __init__(self, client: DynamoDBClient, table_name: str) -> None:
        self._client = client
        self._table = table_name

    def get(self, refund_id: str) -> Refund | None:
        answer = self._client.get_item(
            TableName=self._table, Key={"refund_id": {"S": refund_id}}, ConsistentRead=True
        )
        return Refund.from_item(item_from_wire(answer["Item"])) if "Item" in answer else None

    def get_many(self, refund_ids: Sequence[str]) -> dict[str, Refund]:
        """At most 100 refunds, by id, as a consistent read has them. Those that are not there, that
        can't be read, or that DynamoDB has no capacity for now, are left out."""
        if not refund_ids:
            return {}
        keys: Any = [{"refund_id": {"S": refund_id}} for refund_id in refund_ids]
        answer = self._client.batch_get_item(
            RequestItems={self._table: {"Keys": keys, "ConsistentRead": True}}
        )
        found: dict[str, Refund] = {}
        for wire in answer["Responses"].get(self._table, []):
            with suppress(TypeError, ValueError, KeyError):
                refund = Refund.from_item(item_from_wire(wire))
                found[refund.refund_id] = refund
        return found

    def get_each(self, refund_ids: Sequence[str]) -> Iterator[tuple[str, Refund | None]]:
        """Each refund as ``get`` has it, 100 in a request. Requests are made only as the results
        are consumed."""
        for start in range(0, len(refund_ids), _MOST_KEYS):
            ids = refund_ids[start : start + _MOST_KEYS]
            found = self.get_many(ids)
            for refund_id in ids:
                yield refund_id, found.get(refund_id) or self.get(refund_id)

    def statuses(self, refund_ids: Sequence[str], *, complete: bool = False) -> dict[str, Status]:
        """The statuses of refunds, eventually consistent. Leaves out refunds that don't exist, and
        those that DynamoDB can't return now.

        ``complete``: raises DynamoDB's throttling error instead of leaving those out.
        """
        found: dict[str, Status] = {}
        for start in range(0, len(refund_ids), _MOST_KEYS):
            keys: Any = [
                {"refund_id": {"S": refund_id}}
                for refund_id in refund_ids[start : start + _MOST_KEYS]
            ]
            answer = self._client.batch_get_item(
                RequestItems={
                    self._table: {
                        "Keys": keys,
                        "ProjectionExpression": "refund_id, #status",
                        "ExpressionAttributeNames": {"#status": "status"},
                    }
                }
            )
            for item in answer["Responses"].get(self._table, []):
                found[item["refund_id"]["S"]] = Status(item["status"]["S"])
            if complete and answer.get("UnprocessedKeys"):
                error: Any = {"Error": {"Code": "ThrottlingException", "Message": "unprocessed"}}
                raise ClientError(error, "BatchGetItem")
        return found

    def put_new(self, refund: Refund) -> Refund | None:
        """Store a new refund.

        Returns None when it was stored, by this call or by an earlier try whose response was lost
        (the attempt token shows that). Otherwise returns the refund that exists already.
        """
        try:
            item = refund.item()
            # Never changed afterwards: each index of docs/daily.md costs one write unit, once.
            item[_DAY_SHARD] = day_shard_of(refund.refund_id, refund.created_at)
            self._client.put_item(
                TableName=self._table,
                Item=item_to_wire(item),
                ConditionExpression="attribute_not_exists(refund_id)",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except ClientError as exc:
            if not condition_failed(exc):
                raise
            there = old_item(exc)
            # Nothing deletes items, so this engine did not return the existing item.
            stored = Refund.from_item(there) if there else self.get(refund.refund_id)
            if stored is None:
                raise
            return None if stored.attempt_token == refund.attempt_token else stored
        return None

    def save(self, old: Refund, new: Refund) -> bool:
        """Replace ``old`` by ``new``; False when somebody else has changed the refund since.

        The fence requires the same version, status and attempt token. If the condition fails but
        the table has exactly ``new``, an earlier try of ours has stored it, and its response was
        lost.
        """
        if new.status != old.status:
            check_transition(old, new)
        update = _update_from(old, new)
        if update is None:
            return True
        same_version = "#version = :old_version"
        same_status = "#status = :old_status"
        same_attempt = "attribute_not_exists(attempt_token)"
        fence: dict[str, Any] = {
            ":old_version": to_wire(old.version),
            ":old_status": to_wire(old.status.value),
        }
        if old.attempt_token is not None:
            same_attempt = "attempt_token = :old_token"
            fence[":old_token"] = to_wire(old.attempt_token)
        condition = f"{same_version} AND {same_status} AND {same_attempt}"
        if new.uncounted is not None and old.uncounted is None:
            # Only the first write gives the share back (tables/limit_counters.py).
            condition += " AND attribute_not_exists(uncounted)"
        try:
            self._client.update_item(
                TableName=self._table,
                Key={"refund_id": {"S": old.refund_id}},
                UpdateExpression=update.expression,
                ConditionExpression=condition,
                ExpressionAttributeNames={
                    **update.names,
                    "#status": "status",
                    "#version": "version",
                },
                ExpressionAttributeValues=update.values | fence,
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except ClientError as exc:
            if not condition_failed(exc):
                raise
            return self._is_stored(new, exc)
        return True

    def _is_stored(self, refund: Refund, refused: ClientError) -> bool:
        """Whether the stored item that refused the write is exactly ``refund``: then an earlier
        attempt of this write stored it, and its response was lost."""
        there = old_item(refused)
        stored = Refund.from_item(there) if there else self.get(refund.refund_id)
        return stored is not None and _same(stored, refund)

    def due(self, shard: str, now: str, limit: int) -> list[str]:
        """Ids of at most ``limit`` open refunds of a shard whose ``check_at`` has come, oldest
        first. The index may lag: read the refund before acting on it."""
        return [each.refund_id for each in self.due_page(shard, now, limit)]

    def due_page(self, shard: str, now: str, limit: int, *, after: Due | None = None) -> list[Due]:
        """At most ``limit`` open refunds of a shard that are due, longest first, from ``after`` on.
        The index may lag: read the refund before acting on it."""
        start: dict[str, Any] = {}
        if after is not None:
            start["ExclusiveStartKey"] = {
                "refund_id": {"S": after.refund_id},
                "open_shard": {"S": after.shard},
                "check_at": {"S": after.check_at},
            }
        answer = self._client.query(
            TableName=self._table,
            IndexName=OPEN_INDEX,
            KeyConditionExpression="open_shard = :shard AND check_at <= :now",
            ExpressionAttributeValues={":shard": {"S": shard}, ":now": {"S": now}},
            Limit=limit,
            **start,
        )
        return [
            Due(item["check_at"]["S"], item["refund_id"]["S"], shard) for item in answer["Items"]
        ]

    def put_off(self, due: Due, check_at: str) -> bool:
        """Postpone the next look at a refund that can't be read. False when the refund has changed
        meanwhile.

        Nothing audited changes, so the refund keeps its version.
        """
        try:
            self._client.update_item(
                TableName=self._table,
                Key={"refund_id": {"S": due.refund_id}},
                UpdateExpression="SET check_at = :later",
                ConditionExpression="check_at = :seen",
                ExpressionAttributeValues={
                    ":later": {"S": check_at},
                    ":seen": {"S": due.check_at},
                },
            )
        except ClientError as exc:
            if not condition_failed(exc):
                raise
            return False
        return True


class _Update(NamedTuple):
    expression: str
    names: dict[str, str]
    values: dict[str, Any]


def _update_from(old: Refund, new: Refund) -> _Update | None:
    """The update that turns ``old`` into ``new``; None when their stored forms are equal."""
    changed: dict[str, Any] = {}
    removed: list[str] = []
    for name in REFUND_ATTRIBUTES:
        before, after = getattr(old, name), getattr(new, name)
        if after is before or (after := stored_form(after)) == stored_form(before):
            continue
        if after is None:
            removed.append(name)
        else:
            changed[name] = after
    if not changed and not removed:
        return None
    # If it was put into the index meanwhile, that was for the attempt that ends now.
    removed += [
        name for name in _INDEXED if getattr(old, name) is None and getattr(new, name) is None
    ]
    clauses = []
    if changed:
        clauses.append("SET " + ", ".join(f"#{name} = :{name}" for name in changed))
    if removed:
        clauses.append("REMOVE " + ", ".join(f"#{name}" for name in removed))
    return _Update(
        " ".join(clauses),
        {f"#{name}": name for name in [*changed, *removed]},
        {f":{name}": to_wire(value) for name, value in changed.items()},
    )


def _same(one: Refund, other: Refund) -> bool:
    return all(getattr(one, field.name) == getattr(other, field.name) for field in fields(Refund))
