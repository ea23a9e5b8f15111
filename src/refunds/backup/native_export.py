"""Starts and follows DynamoDB's own export of a table that is too large to scan in time."""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from refunds.backup.digest import DataFile
from refunds.backup.export_format import ExportFormatError, ListedFile, Manifest, read_manifest
from refunds.backup.write_once import read
from refunds.domain.clock import Deadline

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_s3 import S3Client

POLL_SECONDS = 20.0
CHUNK_BYTES = 1024 * 1024


class ExportFailedError(Exception):
    """DynamoDB could not export the table; the text has its code."""


class NativeExport:
    def __init__(
        self,
        *,
        dynamodb: DynamoDBClient,
        s3: S3Client,
        bucket: str,
        key_arn: str | None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._dynamodb = dynamodb
        self._s3 = s3
        self._bucket = bucket
        self._key_arn = key_arn
        self._sleep = sleep

    def start(self, table_arn: str, prefix: str, token: str) -> str:
        """Begin an export of the table as it is now; returns its ARN. Every try uses the same
        ``token``."""
        encryption = {"S3SseKmsKeyId": self._key_arn} if self._key_arn else {}
        answer = self._dynamodb.export_table_to_point_in_time(
            TableArn=table_arn,
            S3Bucket=self._bucket,
            S3Prefix=prefix,
            S3SseAlgorithm="KMS",
            ExportFormat="DYNAMODB_JSON",
            ClientToken=token,
            **encryption,  # type: ignore[arg-type]
        )
        return answer["ExportDescription"]["ExportArn"]

    def wait(self, export_arn: str, until: Deadline) -> bool:
        """Whether it ended in time. Raises ``ExportFailedError``."""
        while True:
            export = self._dynamodb.describe_export(ExportArn=export_arn)["ExportDescription"]
            match export["ExportStatus"]:
                case "COMPLETED":
                    return True
                case "FAILED":
                    raise ExportFailedError(export.get("FailureCode", "no reason given"))
            if until.left_seconds() <= POLL_SECONDS:
                return False
            self._sleep(POLL_SECONDS)

    def manifest(self, root: str) -> Manifest:
        """Its manifests, checked. Raises ``ExportFormatError``."""
        return read_manifest(root, lambda key: read(self._s3, self._bucket, key))

    def check(self, listed: ListedFile) -> DataFile:
        """Read and hash a whole data file. Raises ``ExportFormatError`` if it is not the one that
        was listed."""
        answer = self._s3.get_object(Bucket=self._bucket, Key=listed.key)
        md5, sha256, size = hashlib.md5(usedforsecurity=False), hashlib.sha256(), 0
        for chunk in answer["Body"].iter_chunks(CHUNK_BYTES):
            md5.update(chunk)
            sha256.update(chunk)
            size += len(chunk)
        if base64.b64encode(md5.digest()).decode() != listed.md5:
            raise ExportFormatError(f"{listed.key} is not what its manifest says")
        return DataFile(listed.key, sha256.hexdigest(), size, listed.item_count)
