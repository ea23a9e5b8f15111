"""The record of restore drills that passed, and how long ago the latest was.

`refunds backup drill` writes a record beside the backups; they are kept, as proof that restoring
was tried. BackupRefunds reports the age each day, because an alarm can look back at most a week.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from refunds.backup.write_once import put_new
from refunds.domain.clock import from_rfc3339, rfc3339

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_s3 import S3Client

PREFIX = "refund-backups/drills/"
LOOK_BACK = timedelta(days=90)
UNKNOWN_DAYS = 999
"""Reported when the records can't be read: above the alarm's threshold, since silence would leave
the alarm off."""


def record_drill(s3: S3Client, bucket: str, at: datetime, result: Mapping[str, Any]) -> str:
    """Keep the result of a drill that passed. Returns its key."""
    key = f"{PREFIX}{rfc3339(at)}.json"
    put_new(s3, bucket, key, json.dumps(result).encode())
    return key


class DrillAge:
    def __init__(
        self, *, s3: S3Client, bucket: str, dynamodb: DynamoDBClient, refunds_table: str
    ) -> None:
        self._s3 = s3
        self._bucket = bucket
        self._dynamodb = dynamodb
        self._refunds_table = refunds_table

    def days(self, now: datetime) -> int:
        """Whole days since the latest drill that passed; without one, since the table was created,
        by CloudFormation or by a restore."""
        latest = None
        pages = self._s3.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=PREFIX, StartAfter=PREFIX + rfc3339(now - LOOK_BACK)
        )
        for page in pages:
            for each in page.get("Contents", []):
                latest = each["Key"]  # the keys are in the order of time
        if latest is not None:
            since = from_rfc3339(latest.removeprefix(PREFIX).removesuffix(".json"))
        else:
            table = self._dynamodb.describe_table(TableName=self._refunds_table)["Table"]
            since = table["CreationDateTime"]
        return max(0, (now - since).days)
