"""A backup has every row, in the layout that `aws dynamodb import-table` reads."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
from typing import Any

from tests.local.flow import Flow

from refunds_ops.backup.storage import Bucket
from refunds_ops.backup.verification import newest


def rows(flow: Flow, table: str) -> list[Any]:
    pages = flow.stack.dynamodb.get_paginator("scan").paginate(
        TableName=flow.stack[f"{table}TableName"], ConsistentRead=True
    )
    return [item for page in pages for item in page["Items"]]


def sorted_rows(items: list[Any]) -> list[str]:
    return sorted(json.dumps(item, sort_keys=True) for item in items)


def test_a_backup_equals_the_tables_and_its_checksums_hold(flow: Flow) -> None:
    payment = flow.payment()
    body = flow.request(payment, 500)
    flow.send(body)
    flow.entries(flow.refund(body, "SUCCEEDED"))
    flow.stack.dynamodb.put_item(
        TableName=flow.stack["AuditTableName"],
        Item={
            "transaction_id": {"S": payment},
            "entry_id": {"S": "PAYMENT#1"},
            "record_type": {"S": "PAYMENT"},
        },
    )
    flow.queue_is_empty()
    flow.invoke("BackupRefunds")
    backup = newest(Bucket(flow.stack.s3, flow.stack["BackupBucketName"]))
    assert backup is not None
    prefix = backup.backup_prefix
    assert re.fullmatch(r"refund-backups/\d{4}/\d\d/\d\d/\d{8}T\d{6}Z", prefix)
    audit = [item for item in rows(flow, "Audit") if item["record_type"] == {"S": "REFUND"}]
    ledger = [i for i in rows(flow, "Ledger") if not i["transaction_id"]["S"].startswith("#")]
    for table, there in (("refunds", rows(flow, "Refunds")), ("ledger", ledger), ("audit", audit)):
        backed_up = exported(flow, f"{prefix}/{table}/")
        assert sorted_rows(backed_up) == sorted_rows(there)


def exported(flow: Flow, prefix: str) -> list[Any]:
    """The items of one table's export, with all checksums verified."""
    bucket = flow.stack["BackupBucketName"]

    def read(key: str) -> bytes:
        return flow.stack.s3.get_object(Bucket=bucket, Key=key)["Body"].read()

    listed = flow.stack.s3.list_objects_v2(Bucket=bucket, Prefix=f"{prefix}AWSDynamoDB/")
    (summary_key,) = [
        each["Key"] for each in listed["Contents"] if each["Key"].endswith("manifest-summary.json")
    ]
    summary = json.loads(read(summary_key))
    assert _md5(read(summary_key)) == read(summary_key.replace(".json", ".md5")).decode()
    files_key = summary["manifestFilesS3Key"]
    assert _md5(read(files_key)) == read(files_key.replace(".json", ".md5")).decode()
    items = []
    for line in read(files_key).splitlines():
        file = json.loads(line)
        packed = read(file["dataFileS3Key"])
        assert _md5(packed) == file["md5Checksum"]
        found = [json.loads(row)["Item"] for row in gzip.decompress(packed).splitlines()]
        assert len(found) == file["itemCount"]
        items += found
    assert len(items) == summary["itemCount"]
    return items


def _md5(content: bytes) -> str:
    return base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()
