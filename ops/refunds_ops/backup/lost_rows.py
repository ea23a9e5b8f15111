"""Restores refunds that only the audit trail still has: they are newer than the backup, and their
record is lost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby, islice
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from refunds.domain.audit_entry import NOT_AN_IMAGE
from refunds.tables.wire import condition_failed
from refunds_ops.audit.rows import EntryRow, entry_row
from refunds_ops.backup.audit_chains import AuditChains, TrailError
from refunds_ops.backup.progress import Rows
from refunds_ops.backup.tables import Wire

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

KEYS_PER_READ = 100
"""The most that BatchGetItem takes."""


class LostRows:
    def __init__(self, dynamodb: DynamoDBClient, refunds_table: str, chains: AuditChains) -> None:
        self._dynamodb = dynamodb
        self._table = refunds_table
        self._chains = chains

    def restore(self, entries: Iterable[Wire]) -> Rows:
        """Write a record for each refund that has entries but no record.

        ``entries``: the audit table as a scan reads it, one payment after the other. Every record
        continues its refund's chain, with what its latest entry says.
        """
        rows = Rows()
        refunds = _refunds_in(entries)
        while chunk := list(islice(refunds, KEYS_PER_READ)):
            stored = self._stored({refund_id for refund_id, _ in chunk})
            for refund_id, transaction_id in chunk:
                if refund_id not in stored:
                    rows.count(self._put(refund_id, transaction_id), refund_id)
        return rows

    def _stored(self, refund_ids: set[str]) -> set[str]:
        keys: Any = [{"refund_id": {"S": refund_id}} for refund_id in sorted(refund_ids)]
        found: set[str] = set()
        while keys:
            answer: Any = self._dynamodb.batch_get_item(
                RequestItems={
                    self._table: {
                        "Keys": keys,
                        "ConsistentRead": True,
                        "ProjectionExpression": "refund_id",
                    }
                }
            )
            found |= {item["refund_id"]["S"] for item in answer["Responses"][self._table]}
            keys = answer.get("UnprocessedKeys", {}).get(self._table, {}).get("Keys")
        return found

    def _put(self, refund_id: str, transaction_id: str) -> str:
        try:
            latest = self._chains.latest(
                {"refund_id": {"S": refund_id}, "transaction_id": {"S": transaction_id}}
            )
            if latest is None:
                return "blocked"
            row = self._chains.from_trail(latest)
        except (TrailError, *NOT_AN_IMAGE):
            return "blocked"
        try:
            self._dynamodb.put_item(
                TableName=self._table,
                Item=row,
                ConditionExpression="attribute_not_exists(refund_id)",
            )
        except ClientError as exc:
            if not condition_failed(exc):
                raise
            return "newer"
        return "from the audit trail"


def _refunds_in(entries: Iterable[Wire]) -> Iterator[tuple[str, str]]:
    """Refund and payment ids, each pair once: a scan reads the entries of a refund in a row."""
    rows = (row for row in map(entry_row, entries) if isinstance(row, EntryRow))
    for pair, _ in groupby(rows, key=lambda row: (row.refund_id, row.transaction_id)):
        yield pair
