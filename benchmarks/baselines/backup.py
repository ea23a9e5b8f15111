"""The common backup: scan with a boto3 resource, ``json.dumps`` of all rows, gzip, one upload.

The loop is that of boto3's and AWS's own examples. As there, everything is in memory.
https://github.com/aws-samples/aws-dynamodb-examples (scan_paginate.py)
"""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import boto3


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return int(value)
    raise TypeError(type(value).__name__)


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Back up the table of ``{"table": …}``. Returns its number of rows."""
    table = boto3.resource("dynamodb").Table(event["table"])
    answer = table.scan()
    items = answer["Items"]
    while "LastEvaluatedKey" in answer:
        answer = table.scan(ExclusiveStartKey=answer["LastEvaluatedKey"])
        items.extend(answer["Items"])
    body = gzip.compress(json.dumps(items, default=_plain).encode())
    key = f"backups/{datetime.now(UTC):%Y-%m-%dT%H-%M-%SZ}.json.gz"
    boto3.client("s3").put_object(Bucket="backups", Key=key, Body=body)
    return {"rows": len(items)}
