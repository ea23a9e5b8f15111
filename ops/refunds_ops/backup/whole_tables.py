"""Gives a stack's tables everything that template.yaml gives them, before rows are restored.

CloudFormation doesn't notice that a table was deleted or changed by hand. A table created with
its keys alone would lack its stream, point-in-time recovery, encryption key and protection.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from refunds.tables.refunds import OPEN_INDEX
from refunds_ops.backup.tables import KEYS, Wire, creation_parameters

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

STREAM = {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}


def entries_stay(table_arn: str) -> dict[str, Any]:
    """template.yaml's policy of the audit table, without a break-glass role."""
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "EntriesStay",
                "Effect": "Deny",
                "Principal": "*",
                "Action": [
                    "dynamodb:BatchWriteItem",
                    "dynamodb:DeleteItem",
                    "dynamodb:PartiQLDelete",
                    "dynamodb:PartiQLUpdate",
                    "dynamodb:UpdateItem",
                ],
                "Resource": table_arn,
            }
        ],
    }


class NotWholeError(Exception):
    """A table lacks something that the template gives it. ``steps`` correct that."""

    def __init__(self, what: str, *steps: str) -> None:
        super().__init__(what)
        self.steps = steps


@dataclass(frozen=True)
class TableSettings:
    """The values that differ between stacks."""

    key_arn: str | None = None
    deletion_protection: bool = False
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Deviation:
    """``what`` deviates from the template. ``correct`` fixes it; if it is None, only a person can,
    with ``step``."""

    what: str
    step: str
    correct: Callable[[], object] | None = None


class WholeTables:
    def __init__(self, dynamodb: DynamoDBClient, settings: TableSettings) -> None:
        self._dynamodb = dynamodb
        self._settings = settings

    def ensure(self, kind: str, name: str) -> bool:
        """Create the table if it is missing, and correct what deviates. True if it was created.

        An existing audit table is not changed, because the payment side shares it and may own it.
        Raises ``NotWholeError`` with the steps for deviations that can't be corrected.
        """
        created = self._create(kind, name)
        if kind == "audit" and not created:
            return False
        for deviation in self.deviations(kind, name):
            if deviation.correct is None:
                raise NotWholeError(f"{name}: {deviation.what}", deviation.step)
            try:
                deviation.correct()
            except ClientError as exc:
                code = exc.response["Error"]["Code"]
                raise NotWholeError(f"{name}: {deviation.what} ({code})", deviation.step) from exc
            self._dynamodb.get_waiter("table_exists").wait(TableName=name)
        if left := list(self.deviations(kind, name)):
            raise NotWholeError(f"{name}: {left[0].what}", *(each.step for each in left))
        return created

    def _create(self, kind: str, name: str) -> bool:
        parameters = creation_parameters(kind, name, self._settings.key_arn)
        parameters["DeletionProtectionEnabled"] = self._settings.deletion_protection
        if kind == "refunds":
            parameters["StreamSpecification"] = STREAM
        if self._settings.tags:
            tags = [{"Key": key, "Value": text} for key, text in self._settings.tags.items()]
            parameters["Tags"] = tags
        return create_table(self._dynamodb, parameters)

    def deviations(self, kind: str, name: str) -> Iterator[Deviation]:
        table: Any = self._dynamodb.describe_table(TableName=name)["Table"]
        yield from self._shape(kind, name, table)
        if kind == "refunds":
            yield from self._stream(name, table)
        yield from self._protection(name, table)
        yield from self._key(name, table)
        yield from self._recovery(name)
        yield from self._time_to_live(name)
        if kind == "audit":
            yield from self._policy(name, table["TableArn"])

    def _shape(self, kind: str, name: str, table: Wire) -> Iterator[Deviation]:
        expected = creation_parameters(kind, name)
        step = (
            f"Export what {name} holds, delete the table, and restore again: its keys and indexes "
            "can't be changed in place."
        )
        if table["KeySchema"] != expected["KeySchema"]:
            yield Deviation(f"its key is not {', '.join(KEYS[kind])}", step)
        indexes = {index["IndexName"]: index for index in table.get("GlobalSecondaryIndexes", [])}
        for wanted in expected.get("GlobalSecondaryIndexes", []):
            found = indexes.get(wanted["IndexName"], {})
            # The other indexes are for lists, and parameters may leave them out.
            if wanted["IndexName"] == OPEN_INDEX and any(
                found.get(part) != wanted[part] for part in ("KeySchema", "Projection")
            ):
                yield Deviation(f"it lacks the index {OPEN_INDEX} of template.yaml", step)

    def _stream(self, name: str, table: Wire) -> Iterator[Deviation]:
        stream = table.get("StreamSpecification", {})
        command = f"aws dynamodb update-table --table-name {name} --stream-specification "
        if not stream.get("StreamEnabled"):
            yield Deviation(
                "it has no stream",
                f"{command}StreamEnabled=true,StreamViewType=NEW_AND_OLD_IMAGES",
                lambda: self._dynamodb.update_table(TableName=name, StreamSpecification=STREAM),  # type: ignore[arg-type]
            )
        elif stream.get("StreamViewType") != STREAM["StreamViewType"]:
            yield Deviation(
                f"its stream has {stream.get('StreamViewType')} instead of both images",
                f"{command}StreamEnabled=false, then with "
                "StreamEnabled=true,StreamViewType=NEW_AND_OLD_IMAGES",
            )

    def _protection(self, name: str, table: Wire) -> Iterator[Deviation]:
        if self._settings.deletion_protection and not table.get("DeletionProtectionEnabled"):
            yield Deviation(
                "it has no deletion protection",
                f"aws dynamodb update-table --table-name {name} --deletion-protection-enabled",
                lambda: self._dynamodb.update_table(TableName=name, DeletionProtectionEnabled=True),
            )

    def _key(self, name: str, table: Wire) -> Iterator[Deviation]:
        key_arn = self._settings.key_arn
        if key_arn and table.get("SSEDescription", {}).get("KMSMasterKeyArn") != key_arn:
            encryption: Any = {"Enabled": True, "SSEType": "KMS", "KMSMasterKeyId": key_arn}
            yield Deviation(
                "it is not encrypted with the stack's data key",
                f"aws dynamodb update-table --table-name {name} --sse-specification "
                f"Enabled=true,SSEType=KMS,KMSMasterKeyId={key_arn}",
                lambda: self._dynamodb.update_table(TableName=name, SSESpecification=encryption),
            )

    def _recovery(self, name: str) -> Iterator[Deviation]:
        described: Any = self._dynamodb.describe_continuous_backups(TableName=name)
        recovery = described["ContinuousBackupsDescription"].get(
            "PointInTimeRecoveryDescription", {}
        )
        if recovery.get("PointInTimeRecoveryStatus") != "ENABLED":
            enabled: Any = {"PointInTimeRecoveryEnabled": True}
            yield Deviation(
                "point-in-time recovery is off",
                f"aws dynamodb update-continuous-backups --table-name {name} "
                "--point-in-time-recovery-specification PointInTimeRecoveryEnabled=true",
                lambda: self._dynamodb.update_continuous_backups(
                    TableName=name, PointInTimeRecoverySpecification=enabled
                ),
            )

    def _policy(self, name: str, table_arn: str) -> Iterator[Deviation]:
        try:
            self._dynamodb.get_resource_policy(ResourceArn=table_arn)
        except ClientError as exc:
            if exc.response["Error"]["Code"] != "PolicyNotFoundException":
                raise
            policy = json.dumps(entries_stay(table_arn))
            yield Deviation(
                "no policy keeps its entries from being changed",
                f"aws dynamodb put-resource-policy --resource-arn {table_arn} --policy '{policy}'",
                lambda: self._dynamodb.put_resource_policy(ResourceArn=table_arn, Policy=policy),
            )

    def _time_to_live(self, name: str) -> Iterator[Deviation]:
        described = self._dynamodb.describe_time_to_live(TableName=name)["TimeToLiveDescription"]
        if described.get("TimeToLiveStatus") in ("ENABLED", "ENABLING"):
            attribute = described.get("AttributeName", "")
            off: Any = {"Enabled": False, "AttributeName": attribute}
            yield Deviation(
                f"a time to live on {attribute} removes its rows",
                f"aws dynamodb update-time-to-live --table-name {name} "
                f"--time-to-live-specification Enabled=false,AttributeName={attribute}",
                lambda: self._dynamodb.update_time_to_live(
                    TableName=name, TimeToLiveSpecification=off
                ),
            )


def create_table(dynamodb: DynamoDBClient, parameters: Wire) -> bool:
    """Create a table unless it exists. Returns whether it was created."""
    try:
        dynamodb.create_table(**parameters)
    except dynamodb.exceptions.ResourceInUseException:
        return False
    dynamodb.get_waiter("table_exists").wait(TableName=parameters["TableName"])
    return True


def user_tags(dynamodb: DynamoDBClient, table_arn: str) -> dict[str, str]:
    """A table's tags, without those that only AWS itself sets."""
    tags = dynamodb.list_tags_of_resource(ResourceArn=table_arn).get("Tags", [])
    return {tag["Key"]: tag["Value"] for tag in tags if not tag["Key"].startswith("aws:")}
