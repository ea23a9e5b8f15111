"""What the backup tests are made of: a key to sign with, one stack's tables and bucket in moto,
rows, and runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from itertools import count
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests.support.builders import NOW
from tests.support.moto_stack import REGION, create_tables

from refunds.backup.digest import Digest
from refunds.backup.digest_chain import DigestChain
from refunds.backup.native_export import NativeExport
from refunds.backup.run import BackupRun
from refunds.backup.table_scan import PageReader, ReadLimit, sources
from refunds.domain.audit_entry import audit_entry
from refunds.domain.clock import Clock, Deadline, SystemClock, rfc3339
from refunds.domain.refund import Item, Refund, Status
from refunds.lambda_runtime import new_token
from refunds.tables.wire import item_to_wire
from refunds_ops.backup.data_files import items
from refunds_ops.backup.signatures import PublicKey
from refunds_ops.backup.storage import Bucket
from refunds_ops.backup.verification import BackupReport, BackupVerification

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_s3 import S3Client

# Faults are injected by the call; botocore's own retries would hide them.
ONCE = Config(retries={"mode": "standard", "total_max_attempts": 1})


@cache
def _private_key(name: str) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


class LocalSigner:
    """Signs as KMS does, with a key of its own for each name."""

    def __init__(self, name: str = "ours") -> None:
        self._key = _private_key(name)

    @property
    def public_key(self) -> PublicKey:
        return PublicKey(
            self._key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        )

    def fingerprint(self) -> str:
        return self.public_key.fingerprint

    def sign(self, sha256: bytes) -> bytes:
        return self._key.sign(sha256, PKCS1v15(), Prehashed(SHA256()))


def refund(number: int, **fields: Any) -> Refund:
    """A refund that succeeded; every one of another transaction."""
    told: dict[str, Any] = {
        "refund_id": f"rf-{number:06d}",
        "transaction_id": f"tx-{number:06d}",
        "user_id": f"user-{number}",
        "amount_minor": 100 + number,
        "currency": "EUR",
        "status": Status.SUCCEEDED,
        "reason": "order_cancelled",
        "requested_by": "agent:ann",
        "processed_by": "ProcessRefund:1",
        "gateway": "flair",
        "gateway_refund_id": f"fr_{number}",
        "created_at": rfc3339(NOW),
        "updated_at": rfc3339(NOW),
        "version": 1,
        "fingerprint": f"1:{number:064x}",
    } | fields
    return Refund(**told)


def ledger_row(refunds: list[Refund], captured: int = 1_000_000) -> Item:
    held = {f"r#{each.refund_id}": each.amount_minor or 0 for each in refunds}
    return {
        "transaction_id": refunds[0].transaction_id,
        "captured": captured,
        "remaining": captured - sum(held.values()),
        "currency": refunds[0].currency,
        **held,
    }


@dataclass
class BackedUp:
    """One stack's tables and bucket, and its backups. ``continuations``: events of later steps."""

    dynamodb: DynamoDBClient
    s3: S3Client
    refunds: str
    ledger: str
    audit: str
    bucket: str
    signer: LocalSigner = field(default_factory=LocalSigner)
    clock: Clock = field(default_factory=SystemClock)
    continuations: list[dict[str, Any]] = field(default_factory=list)
    token: Callable[[], str] = new_token

    _names = count(1)

    @classmethod
    def create(cls, url: str | None = None, dynamodb_url: str | None = None) -> BackedUp:
        """In moto, or on engines at these addresses."""
        s3 = boto3.client("s3", region_name=REGION, config=ONCE, endpoint_url=url)
        dynamodb = boto3.client(
            "dynamodb", region_name=REGION, config=ONCE, endpoint_url=dynamodb_url or url
        )
        number = next(cls._names)
        names = (f"Refunds-{number}", f"Ledger-{number}", f"Audit-{number}")
        create_tables(dynamodb, *names)
        bucket = f"backups-{number}"
        s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        return cls(dynamodb, s3, *names, bucket)

    def put(self, table: str, item: Item) -> None:
        self.dynamodb.put_item(TableName=table, Item=item_to_wire(item))

    def add(self, *refunds: Refund) -> None:
        """Each with its entry in the audit trail and its row in the ledger."""
        for each in refunds:
            self.put(self.refunds, each.item())
            self.put(self.ledger, ledger_row([each]))
            entry = audit_entry(each.item())
            self.put(self.audit, entry | {"recorded_at": each.updated_at})

    def make_run(self, signer: LocalSigner | None = None, **more: Any) -> BackupRun:
        parts: dict[str, Any] = {
            "dynamodb": self.dynamodb,
            "s3": self.s3,
            "bucket": self.bucket,
            "key_arn": "arn:aws:kms:eu-central-1:111122223333:key/data",
            "reader": PageReader(self.dynamodb, ReadLimit(0)),
            "native": NativeExport(
                dynamodb=self.dynamodb, s3=self.s3, bucket=self.bucket, key_arn=None
            ),
            "chain": DigestChain(self.s3, self.bucket, signer or self.signer),
            "tables": sources(self.refunds, self.ledger, self.audit),
            "clock": self.clock,
            "new_token": self.token,
            "invoke_again": self.continuations.append,
        } | more
        return BackupRun(**parts)

    def back_up(self, event: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
        return self.make_run(**more).run(event or {}, Deadline.after(self.clock, 900))

    def verify(self, **more: Any) -> BackupReport:
        storage = Bucket(self.s3, self.bucket)
        return BackupVerification(storage, [self.signer.public_key]).run(**more)

    def listed(self, prefix: str = "") -> list[str]:
        """The keys that are there."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        return [found["Key"] for page in pages for found in page.get("Contents", [])]

    def object(self, key: str) -> bytes:
        return self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()


def latest(stack: BackedUp) -> Digest:
    newest = max(key for key in stack.listed("refund-backups/digests/") if key.endswith(".json"))
    return Digest.from_bytes(stack.object(newest))


def rows(stack: BackedUp, digest: Digest, table: str) -> list[dict[str, Any]]:
    (export,) = [each for each in digest.exports if each.table == table]
    return list(items(Bucket(stack.s3, stack.bucket), export))


def small_pages(stack: BackedUp, limit: int) -> None:
    stack.dynamodb.meta.events.register(
        "provide-client-params.dynamodb.Scan", lambda params, **_: params.update(Limit=limit)
    )
