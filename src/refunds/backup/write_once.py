"""Objects that are written once and never over."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import IO, TYPE_CHECKING

from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_TAKEN = frozenset({"PreconditionFailed", "ConditionalRequestConflict"})
_ABSENT = frozenset({"NoSuchKey", "404"})


def put_new(
    s3: S3Client,
    bucket: str,
    key: str,
    content: bytes,
    metadata: Mapping[str, str] | None = None,
) -> bool:
    """Store an object that is not there yet; False when another one is.

    The same content being there is our own earlier try whose answer was lost.
    """
    try:
        s3.put_object(
            Bucket=bucket, Key=key, Body=content, IfNoneMatch="*", Metadata=dict(metadata or {})
        )
    except ClientError as exc:
        if exc.response["Error"]["Code"] not in _TAKEN:
            raise
        return read(s3, bucket, key) == content
    return True


def put_new_file(
    s3: S3Client, bucket: str, key: str, file: IO[bytes], size: int, sha256: bytes
) -> str:
    """Store a file, whole or not at all, under a key that is nobody else's; its ETag.

    An object of its size there is our own earlier try whose answer was lost. S3 checks the hash.
    """
    try:
        return s3.put_object(
            Bucket=bucket,
            Key=key,
            Body=file,
            ContentLength=size,
            ChecksumSHA256=base64.b64encode(sha256).decode(),
            IfNoneMatch="*",
        )["ETag"]
    except ClientError as exc:
        if exc.response["Error"]["Code"] not in _TAKEN:
            raise
        head = s3.head_object(Bucket=bucket, Key=key)
        if head["ContentLength"] != size:
            raise
        return head["ETag"]


def read(s3: S3Client, bucket: str, key: str) -> bytes | None:
    """An object's bytes, which must fit into memory; None when there is no such object."""
    try:
        return s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    except ClientError as exc:
        if exc.response["Error"]["Code"] not in _ABSENT:
            raise
        return None
