"""Stream records that did not become entries: kept in S3 by WriteAudit itself or by Lambda.

WriteAudit's own are below ``audit/``: ``{"reason", "record"}``. Lambda's on-failure destination
writes ``aws/lambda/<mapping>/<shard>/<yyyy>/<mm>/<dd>/<time>-<uuid>``: an invocation record whose
``payload`` is the event that failed, as text.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from refunds.audit.writer import entry_of
from refunds.domain.audit_entry import NOT_AN_IMAGE, audit_entry
from refunds.domain.refund import AUDITED, Item
from refunds.tables.wire import from_wire

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

OURS = "audit/"
LAMBDAS = "aws/lambda/"
HANDLED = "handled/"
CLOSED = "closed/"


@dataclass(frozen=True)
class Kept:
    """An object of the failures bucket. ``problem``: why its records can't be read, if so."""

    key: str
    reason: str
    records: tuple[dict[str, Any], ...] = ()
    problem: str | None = None


class FailureReader:
    def __init__(self, client: S3Client, bucket: str) -> None:
        self._client = client
        self.bucket = bucket

    def keys(self) -> Iterator[str]:
        """The objects below ``audit/`` and ``aws/lambda/`` that are not handled yet."""
        yield from self._keys(OURS, LAMBDAS)

    def unhandled(self) -> Iterator[Kept]:
        """The same, read one object at a time."""
        yield from map(self.read, self.keys())

    def everything(self) -> Iterator[Kept]:
        """Handled and closed objects as well: they may hold the last image of a version."""
        yield from map(self.read, self._keys(OURS, LAMBDAS, HANDLED, CLOSED))

    def _keys(self, *prefixes: str) -> Iterator[str]:
        pages = self._client.get_paginator("list_objects_v2")
        for prefix in prefixes:
            for page in pages.paginate(Bucket=self.bucket, Prefix=prefix):
                for found in page.get("Contents", []):
                    yield found["Key"]

    def read(self, key: str) -> Kept:
        body = self._client.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        return parse(key, body)

    def move(self, key: str, below: str, **metadata: str) -> str:
        """Put an object away below ``handled/`` or ``closed/``, under its own name."""
        moved = below + key
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        self._client.copy_object(
            Bucket=self.bucket,
            Key=moved,
            CopySource={"Bucket": self.bucket, "Key": key},
            Metadata={"moved-at": now, **metadata},
            MetadataDirective="REPLACE",
        )
        self._client.delete_object(Bucket=self.bucket, Key=key)
        return moved


def parse(key: str, body: bytes) -> Kept:
    """Read an object of either kind."""
    try:
        payload = json.loads(body)
        if "record" in payload:
            reason, records = str(payload.get("reason")), [payload["record"]]
        else:
            reason = str(payload.get("requestContext", {}).get("condition", "unknown"))
            payload = payload["payload"]
            if isinstance(payload, str):
                payload = json.loads(payload)
            records = payload["Records"] if isinstance(payload, dict) else payload
        if not all(isinstance(record, dict) for record in records):
            raise ValueError("a record is no object")
        return Kept(key, reason, tuple(records))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        return Kept(key, "unknown", (), f"holds no stream records: {type(exc).__name__}")


def entries_seen(record: dict[str, Any]) -> list[Item]:
    """Every entry that a record's images can make: its own, and the one of the version before."""
    found: list[Item] = []
    try:
        if (entry := entry_of(record)) is not None:
            found.append(entry)
    except NOT_AN_IMAGE:
        pass  # For example, changed without a new version. Its old image may still be sound.
    for name in ("OldImage", "NewImage"):
        try:
            image = record["dynamodb"][name]
            found.append(
                audit_entry({each: from_wire(image[each]) for each in AUDITED if each in image})
            )
        except NOT_AN_IMAGE:
            continue
    return found
