"""Whether the changes of the Refunds table reach WriteAudit.

A function that is not invoked reports no errors and no lag, so the reconciler checks the event
source mapping and the table's stream.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_lambda import LambdaClient

READING = frozenset({"Creating", "Enabled", "Enabling", "Updating"})
"""States of a mapping that reads its stream, or is about to."""


class StreamWatch:
    def __init__(
        self,
        *,
        functions: LambdaClient,
        dynamodb: DynamoDBClient,
        mapping_id: str,
        refunds_table: str,
    ) -> None:
        self._functions = functions
        self._dynamodb = dynamodb
        self._mapping_id = mapping_id
        self._table = refunds_table

    def trouble(self) -> str | None:
        """Why no audit entries are being written. None when they are. Raises what AWS raises."""
        mapping = self._functions.get_event_source_mapping(UUID=self._mapping_id)
        if mapping["State"] not in READING:
            return f"the event source mapping of WriteAudit is {mapping['State']}"
        table = self._dynamodb.describe_table(TableName=self._table)["Table"]
        if not table.get("StreamSpecification", {}).get("StreamEnabled"):
            return "the table has no stream"
        if table.get("LatestStreamArn") != mapping["EventSourceArn"]:
            return "the event source mapping of WriteAudit reads another stream than the table's"
        return None
