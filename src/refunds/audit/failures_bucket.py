"""The bucket of records that could not be handled, kept whole for a person or a replay."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from typing import TYPE_CHECKING, Any

from refunds.domain.clock import Clock

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class FailureStore:
    def __init__(self, client: S3Client, bucket: str, clock: Clock) -> None:
        self._client = client
        self._bucket = bucket
        self._clock = clock

    def keep(self, kind: str, name: str | None, content: dict[str, Any]) -> str:
        """Store ``content`` as JSON and return its key.

        A second object of the same kind, day and name overwrites the first. Without a name, the
        object is named after its contents. Bytes are stored as base64, as in Lambda's events.
        """
        body = json.dumps(content, indent=1, default=_plain).encode()
        safe = re.sub(r"[^A-Za-z0-9_.-]", "_", name or hashlib.sha256(body).hexdigest())[:200]
        key = f"{kind}/{self._clock.now():%Y/%m/%d}/{safe}.json"
        self._client.put_object(
            Bucket=self._bucket, Key=key, Body=body, ContentType="application/json"
        )
        return key

    def count(self, kind: str) -> int:
        """How many objects of a kind there are; 1,000 at most."""
        answer = self._client.list_objects_v2(Bucket=self._bucket, Prefix=f"{kind}/", MaxKeys=1000)
        return len(answer.get("Contents", []))


def _plain(value: Any) -> Any:
    """The JSON form of values that a stream's image can hold but JSON can't."""
    match value:
        case bytes() | bytearray():
            return base64.b64encode(value).decode()
        case set() | frozenset():
            return sorted(value)
    return str(value)
