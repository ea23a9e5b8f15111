"""One backup run: each table scanned into the layout of DynamoDB's own export to S3.

So ``aws dynamodb import-table`` restores it without any code of ours. The wire form of an item is
the backup's form: nothing is converted. Signed digests come with a later version.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import IO, TYPE_CHECKING, Any

from refunds.audit import RECORD_TYPE
from refunds.times import Clock, Deadline, rfc3339

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_s3 import S3Client

PREFIX = "refund-backups"
MIN_LEFT_SECONDS = 20.0


class BackupIncompleteError(Exception):
    """The run ended before all was stored; what it stored is not a backup."""


@dataclass(frozen=True)
class Source:
    """A table to back up; ``filter_`` is a Scan's filter expression and its values."""

    name: str
    table: str
    filter_: str | None = None
    values: Mapping[str, Any] | None = None


def sources(refunds_table: str, ledger_table: str, audit_table: str) -> tuple[Source, ...]:
    """Refunds, ledger, then audit: what an entry tells of is then never newer than the entry."""
    return (
        Source("refunds", refunds_table),
        # Ids with '#' are the functions' own notes, not transactions.
        Source(
            "ledger",
            ledger_table,
            "NOT begins_with(transaction_id, :note)",
            {":note": {"S": "#"}},
        ),
        # The payment side shares this table.
        Source("audit", audit_table, "record_type = :refund", {":refund": {"S": RECORD_TYPE}}),
    )


@dataclass(frozen=True)
class Exported:
    """One table's part of a backup: where it is, how many items, of which bytes."""

    name: str
    prefix: str
    item_count: int
    sha256: str


class BackupRun:
    def __init__(
        self,
        *,
        dynamodb: DynamoDBClient,
        s3: S3Client,
        bucket: str,
        clock: Clock,
        new_token: Callable[[], str],
    ) -> None:
        self._dynamodb = dynamodb
        self._s3 = s3
        self._bucket = bucket
        self._clock = clock
        self._new_token = new_token

    def run(self, tables: tuple[Source, ...], deadline: Deadline) -> dict[str, Any]:
        """Back all tables up; returns the run's prefix and what it holds.

        Raises ``BackupIncompleteError`` when the time is up first.
        """
        started = self._clock.now()
        prefix = f"{PREFIX}/{started:%Y/%m/%d}/{started:%Y%m%dT%H%M%SZ}"
        exported = [self._export(source, f"{prefix}/{source.name}", deadline) for source in tables]
        return {
            "bucket": self._bucket,
            "prefix": prefix,
            "started_at": rfc3339(started),
            "finished_at": rfc3339(self._clock.now()),
            "tables": {
                each.name: {
                    "prefix": each.prefix,
                    "item_count": each.item_count,
                    "sha256": each.sha256,
                }
                for each in exported
            },
        }

    def _export(self, source: Source, prefix: str, deadline: Deadline) -> Exported:
        started = self._clock.now()
        described = self._dynamodb.describe_table(TableName=source.table)["Table"]
        export_id = f"{int(started.timestamp() * 1000):014d}-{self._new_token()[:8]}"
        root = f"{prefix}/AWSDynamoDB/{export_id}"
        data_key = f"{root}/data/{self._new_token()}.json.gz"
        self._put(f"{root}/_started", b"")
        with tempfile.TemporaryFile() as file:
            item_count = self._write_items(source, file, deadline)
            size, md5, sha256 = _digests(file)
            file.seek(0)
            # boto3's transfer: parts of 8 MB, aborted when one fails.
            self._s3.upload_fileobj(file, self._bucket, data_key)
        files = {
            "itemCount": item_count,
            "md5Checksum": md5,
            "etag": self._s3.head_object(Bucket=self._bucket, Key=data_key)["ETag"].strip('"'),
            "dataFileS3Key": data_key,
        }
        self._put_with_md5(f"{root}/manifest-files", json.dumps(files).encode() + b"\n")
        table_arn = described["TableArn"]
        summary = {
            "version": "2020-06-30",
            "exportArn": f"{table_arn}/export/{export_id}",
            "startTime": _milliseconds(started),
            "endTime": _milliseconds(self._clock.now()),
            "tableArn": table_arn,
            "tableId": described.get("TableId"),
            "exportTime": _milliseconds(started),
            "s3Bucket": self._bucket,
            "s3Prefix": prefix,
            "s3SseAlgorithm": "KMS",
            "s3SseKmsKeyId": None,
            "manifestFilesS3Key": f"{root}/manifest-files.json",
            "billedSizeBytes": size,
            "itemCount": item_count,
            "outputFormat": "DYNAMODB_JSON",
        }
        # Last, as DynamoDB does it: an export without a summary is not one.
        self._put_with_md5(f"{root}/manifest-summary", json.dumps(summary).encode())
        return Exported(source.name, root, item_count, sha256)

    def _write_items(self, source: Source, file: IO[bytes], deadline: Deadline) -> int:
        item_count = 0
        with gzip.GzipFile(fileobj=file, mode="wb", compresslevel=1, mtime=0) as packed:
            for page in self._pages(source):
                if deadline.left_seconds() < MIN_LEFT_SECONDS:
                    raise BackupIncompleteError(
                        f"time ran out after {item_count} items of {source.name}: raise the "
                        "function's timeout or its memory"
                    )
                for item in page:
                    packed.write(json.dumps({"Item": item}, separators=(",", ":")).encode())
                    packed.write(b"\n")
                item_count += len(page)
        return item_count

    def _pages(self, source: Source) -> Iterator[list[dict[str, Any]]]:
        arguments: dict[str, Any] = {"TableName": source.table, "ConsistentRead": True}
        if source.filter_:
            arguments |= {
                "FilterExpression": source.filter_,
                "ExpressionAttributeValues": source.values,
            }
        while True:
            answer = self._dynamodb.scan(**arguments)
            yield answer["Items"]
            if not (last := answer.get("LastEvaluatedKey")):
                return
            arguments["ExclusiveStartKey"] = last

    def _put_with_md5(self, stem: str, content: bytes) -> None:
        self._put(f"{stem}.json", content)
        digest = hashlib.md5(content, usedforsecurity=False).digest()
        self._put(f"{stem}.md5", base64.b64encode(digest))

    def _put(self, key: str, content: bytes) -> None:
        self._s3.put_object(Bucket=self._bucket, Key=key, Body=content)


def _digests(file: IO[bytes]) -> tuple[int, str, str]:
    """Size in bytes, base64 MD5 and hex SHA-256 of the compressed bytes."""
    md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
    file.seek(0)
    size = 0
    while chunk := file.read(1024 * 1024):
        md5.update(chunk)
        sha256.update(chunk)
        size += len(chunk)
    return size, base64.b64encode(md5.digest()).decode(), sha256.hexdigest()


def _milliseconds(instant: datetime) -> str:
    return instant.strftime("%Y-%m-%dT%H:%M:%S.") + f"{instant.microsecond // 1000:03d}Z"
