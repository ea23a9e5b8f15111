"""Create-only writes to S3: an object is stored once and never overwritten.

S3 answers a conditional write with 412 when the key is taken, and with 409 when another write to
the same key is in progress. A 409 says nothing about the outcome, so the write is repeated.
https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Mapping
from typing import IO, TYPE_CHECKING, TypeVar

from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

Answer = TypeVar("Answer")

CONFLICT_TRIES = 6
"""Tries of a write that ends in 409, with waits of 0.1 to 1.6 seconds between them: about three
seconds in all."""

_TAKEN = "PreconditionFailed"
_CONFLICT = "ConditionalRequestConflict"
_ABSENT = frozenset({"NoSuchKey", "404"})


def put_new(
    s3: S3Client,
    bucket: str,
    key: str,
    content: bytes,
    metadata: Mapping[str, str] | None = None,
) -> bool:
    """Store an object under a free key. Returns False when the key has other content.

    If the key has the same content, an earlier attempt of this write stored it and its response was
    lost.
    """

    def write() -> None:
        s3.put_object(
            Bucket=bucket, Key=key, Body=content, IfNoneMatch="*", Metadata=dict(metadata or {})
        )

    try:
        _retry_conflicts(write)
    except ClientError as exc:
        if exc.response["Error"]["Code"] != _TAKEN:
            raise
        return read(s3, bucket, key) == content
    return True


def put_new_file(  # noqa: PLR0913, PLR0917 - the object's place, then its content, as for put_object
    s3: S3Client, bucket: str, key: str, file: IO[bytes], size: int, sha256: bytes
) -> str:
    """Store a file in one request, under a key that nobody else uses. Returns its ETag.

    If the key has an object of the same size, an earlier attempt of this write stored it and its
    response was lost. S3 verifies the hash.
    """
    start = file.tell()

    def write() -> str:
        file.seek(start)
        return s3.put_object(
            Bucket=bucket,
            Key=key,
            Body=file,
            ContentLength=size,
            ChecksumSHA256=base64.b64encode(sha256).decode(),
            IfNoneMatch="*",
        )["ETag"]

    try:
        return _retry_conflicts(write)
    except ClientError as exc:
        if exc.response["Error"]["Code"] != _TAKEN:
            raise
        head = s3.head_object(Bucket=bucket, Key=key)
        if head["ContentLength"] != size:
            raise
        return head["ETag"]


def read(s3: S3Client, bucket: str, key: str) -> bytes | None:
    """The bytes of an object that fits into memory, or None when there is no such object."""
    try:
        return s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    except ClientError as exc:
        if exc.response["Error"]["Code"] not in _ABSENT:
            raise
        return None


def _retry_conflicts(write: Callable[[], Answer]) -> Answer:
    for attempt in range(CONFLICT_TRIES - 1):
        try:
            return write()
        except ClientError as exc:
            if exc.response["Error"]["Code"] != _CONFLICT:
                raise
        time.sleep(0.1 * 2**attempt)
    return write()
