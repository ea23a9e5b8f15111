"""The table ``PaymentAuditTrail``, shared with the payment side: put-only, plus one query."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from refunds.domain.identifiers import RECORD_TYPE
from refunds.domain.refund import Item
from refunds.tables.wire import condition_failed, item_from_wire, item_to_wire, old_item

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_LATEST_AMONG = 20
_MAX_PAGES = 50


class AuditTable:
    def __init__(self, client: DynamoDBClient, table_name: str) -> None:
        self._client = client
        self._table = table_name

    def put_new(self, entry: Item) -> Item | None:
        """Store an entry that is not there yet; returns None, or the entry that is there."""
        try:
            self._client.put_item(
                TableName=self._table,
                Item=item_to_wire(entry),
                ConditionExpression="attribute_not_exists(entry_id)",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except ClientError as exc:
            if not condition_failed(exc):
                raise
            # Not every engine returns the item; an empty one equals no entry, so it is noticed.
            return old_item(exc) or {}
        return None

    def latest(self, transaction_id: str, refund_id: str) -> Item | None:
        """The entry of a refund's highest version, or None.

        Records of other types are passed over, whatever their sort keys: at most 20 of them.
        """
        answer = self._client.query(
            TableName=self._table,
            KeyConditionExpression="transaction_id = :tx AND begins_with(entry_id, :prefix)",
            ExpressionAttributeValues={
                ":tx": {"S": transaction_id},
                ":prefix": {"S": f"{RECORD_TYPE}#{refund_id}#"},
            },
            ConsistentRead=True,
            ScanIndexForward=False,
            Limit=_LATEST_AMONG,
        )
        ours: Any = {"S": RECORD_TYPE}
        return next(
            (item_from_wire(item) for item in answer["Items"] if item.get("record_type") == ours),
            None,
        )

    def latest_of_payment(self, transaction_id: str) -> dict[str, Item]:
        """The entry of the highest version of each refund of a payment, by refund id."""
        latest: dict[str, Item] = {}
        start: dict[str, Any] = {}
        for _ in range(_MAX_PAGES):
            answer = self._client.query(
                TableName=self._table,
                KeyConditionExpression="transaction_id = :tx AND begins_with(entry_id, :prefix)",
                ExpressionAttributeValues={
                    ":tx": {"S": transaction_id},
                    ":prefix": {"S": f"{RECORD_TYPE}#"},
                },
                ConsistentRead=True,
                **start,
            )
            for item in answer["Items"]:  # in the order of their versions
                if item.get("record_type") == {"S": RECORD_TYPE}:
                    entry = item_from_wire(item)
                    latest[entry["refund_id"]] = entry
            if "LastEvaluatedKey" not in answer:
                return latest
            start = {"ExclusiveStartKey": answer["LastEvaluatedKey"]}
        raise RuntimeError(f"more than {_MAX_PAGES} pages of the audit trail of one payment")
