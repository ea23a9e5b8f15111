"""What WriteAudit does for a table in moto: its stream read, each record's entry written.

moto's streams are right as long as no transaction is cancelled, and nothing here has any.
"""

from __future__ import annotations

from typing import Any

import boto3
from tests.support.moto_stack import REGION

from refunds.audit.writer import AuditWriter
from refunds.domain.clock import Clock
from refunds.tables.audit_trail import AuditTable


class MotoStream:
    """``kept``: why records made no entry."""

    def __init__(self, table: str, audit_table: str, clock: Clock) -> None:
        dynamodb = boto3.client("dynamodb", region_name=REGION)
        self._client = boto3.client("dynamodbstreams", region_name=REGION)
        self._writer = AuditWriter(
            audit=AuditTable(dynamodb, audit_table), failures=self, clock=clock
        )
        self._dynamodb = dynamodb
        self._table = table
        self._done: set[str] = set()
        self.kept: list[str] = []

    def keep(self, kind: str, name: str | None, content: dict[str, Any]) -> str:
        self.kept.append(content["reason"])
        return ""

    def deliver(self) -> None:
        """Write the entries of all records that were not delivered yet, in order."""
        try:
            described = self._dynamodb.describe_table(TableName=self._table)["Table"]
        except self._dynamodb.exceptions.ResourceNotFoundException:
            return
        arn = described["LatestStreamArn"]
        for shard in self._client.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]:
            iterator = self._client.get_shard_iterator(
                StreamArn=arn, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
            )["ShardIterator"]
            for record in self._client.get_records(ShardIterator=iterator)["Records"]:
                number = f"{arn} {record['dynamodb']['SequenceNumber']}"
                if number not in self._done:
                    self._done.add(number)
                    self._write(record)

    def _write(self, record: Any) -> None:
        change = record["dynamodb"]
        at = int(change["ApproximateCreationDateTime"].timestamp())
        self._writer.write(record | {"dynamodb": change | {"ApproximateCreationDateTime": at}})
