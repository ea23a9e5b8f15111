"""Signed backups of a stack in moto, as BackupRefunds publishes them."""

from __future__ import annotations

import gzip
import json
from functools import cache
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa, utils
from tests.support.audit_rows import Trail

from refunds.backup.digest import DataFile, Digest, Export, audit_leaf, sha256_hex
from refunds.backup.digest_chain import DigestChain
from refunds.backup.merkle import merkle_root
from refunds.domain.clock import rfc3339
from refunds_ops.audit.latest_backup import BackupReader, chosen
from refunds_ops.backup.signatures import PublicKey
from refunds_ops.backup.storage import Bucket


@cache
def _key(name: str) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


class Signer:
    """An RSA key as KMS would have it."""

    def __init__(self, name: str = "ours") -> None:
        self._key = _key(name)

    @property
    def der(self) -> bytes:
        return self._key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    @property
    def public(self) -> PublicKey:
        return PublicKey(self.der)

    def fingerprint(self) -> str:
        return self.public.fingerprint

    def sign(self, sha256: bytes) -> bytes:
        return self._key.sign(sha256, padding.PKCS1v15(), utils.Prehashed(hashes.SHA256()))

    def pem_file(self, folder: Path) -> Path:
        path = folder / "key.pem"
        path.write_bytes(self.public.pem)
        return path


class Backups:
    """Makes backups of a trail's stack, and reads them as `verify` does."""

    def __init__(self, trail: Trail, signer: Signer | None = None) -> None:
        self.trail = trail
        self.s3 = trail.stack.clients.s3
        self.bucket = trail.stack.backup_bucket
        self.signer = signer or Signer()
        self.storage = Bucket(self.s3, self.bucket)

    def publish(self) -> Digest:
        stack, now = self.trail.stack, self.trail.clock.now()
        prefix = f"refund-backups/{now:%Y/%m/%d}/{now:%Y%m%dT%H%M%SZ}"
        items = self.trail.all_items()
        audit = [item for item in items[stack.audit_table] if item.get("record_type") == REFUND]
        exports = tuple(
            self._export(name, f"{prefix}/{name}", rows)
            for name, rows in (
                ("refunds", items[stack.refunds_table]),
                ("ledger", items[stack.ledger_table]),
                ("audit", audit),
            )
        )
        return DigestChain(self.s3, self.bucket, self.signer).publish(
            lambda sequence, fingerprint, previous: Digest(
                sequence=sequence,
                bucket=self.bucket,
                start_time=rfc3339(now),
                end_time=rfc3339(now),
                backup_prefix=prefix,
                exports=exports,
                fingerprint=fingerprint,
                previous=previous,
            )
        )

    def _export(self, name: str, prefix: str, rows: list[Any]) -> Export:
        root = f"{prefix}/AWSDynamoDB/1-1"
        lines = [json.dumps({"Item": row}, separators=(",", ":")).encode() for row in rows]
        body = gzip.compress(b"".join(line + b"\n" for line in lines), mtime=0)
        key = f"{root}/data/a.json.gz"
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=body)
        self.s3.put_object(Bucket=self.bucket, Key=f"{root}/manifest-summary.json", Body=b"{}")
        root_hash = merkle_root(audit_leaf(line) for line in lines).hex()
        file = DataFile(
            key=key,
            sha256=sha256_hex(body),
            size=len(body),
            item_count=len(lines),
            merkle_root=root_hash if name == "audit" else None,
        )
        now = rfc3339(self.trail.clock.now())
        return Export(name, f"arn:{name}", root, now, len(lines), (), (file,))

    def read(self, sequence: int | None = None, key: PublicKey | None = None) -> BackupReader:
        stored = chosen(self.storage, sequence)
        assert stored is not None
        return BackupReader(self.storage, stored, key or self.signer.public)

    def rewrite(self, key: str, body: bytes) -> None:
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=body)


REFUND = {"S": "REFUND"}
