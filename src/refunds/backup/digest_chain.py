"""Appends to the chain of digests: each is signed by a KMS key and takes the next free number."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from refunds.backup.digest import (
    DIGESTS_PREFIX,
    FIRST_SEQUENCE,
    SIGNATURE_ALGORITHM,
    Digest,
    Previous,
    digest_key,
    sequence_of,
    sha256_hex,
    signature_key,
)
from refunds.backup.write_once import put_new, read

if TYPE_CHECKING:
    from mypy_boto3_kms import KMSClient
    from mypy_boto3_s3 import S3Client

PUBLISH_TRIES = 10
"""Runs that end at the same time publish one after another. Each retry means that another run has
published first."""


class ContendedError(Exception):
    """Other runs kept taking the next number of the chain."""


class Signer(Protocol):
    def fingerprint(self) -> str:
        """Hex SHA-256 of the public key in DER form."""
        ...

    def sign(self, sha256: bytes) -> bytes:
        """An RSASSA-PKCS1-v1_5 signature of a SHA-256 hash."""
        ...


class KmsSigner:
    """An RSA key that never leaves KMS."""

    def __init__(self, kms: KMSClient, key_arn: str) -> None:
        self._kms = kms
        self._key_arn = key_arn
        self._fingerprint: str | None = None

    def fingerprint(self) -> str:
        if self._fingerprint is None:
            public_key = self._kms.get_public_key(KeyId=self._key_arn)["PublicKey"]
            self._fingerprint = sha256_hex(public_key)
        return self._fingerprint

    def sign(self, sha256: bytes) -> bytes:
        return self._kms.sign(
            KeyId=self._key_arn,
            Message=sha256,
            MessageType="DIGEST",
            SigningAlgorithm="RSASSA_PKCS1_V1_5_SHA_256",
        )["Signature"]


@dataclass(frozen=True)
class Latest:
    """The chain's end as it is stored."""

    sequence: int
    previous: Previous
    """The link to this digest in the next one."""


class DigestChain:
    def __init__(self, s3: S3Client, bucket: str, signer: Signer) -> None:
        self._s3 = s3
        self._bucket = bucket
        self._signer = signer

    def publish(self, build: Callable[[int, str, Previous | None], Digest]) -> Digest:
        """Sign and store the digest that ``build`` makes of sequence, fingerprint and previous.

        One create-only write of the digest's object, with the signature in its metadata, publishes
        the backup. If two runs want the same number, one gets it and the other links its digest to
        it. Raises ``ContendedError``.
        """
        fingerprint = self._signer.fingerprint()
        for _ in range(PUBLISH_TRIES):
            latest = self.latest()
            digest = build(
                latest.sequence + 1 if latest else FIRST_SEQUENCE,
                fingerprint,
                latest.previous if latest else None,
            )
            content = digest.to_bytes()
            signature = self._signer.sign(hashlib.sha256(content).digest())
            if put_new(
                self._s3,
                self._bucket,
                digest.key,
                content,
                {"signature": signature.hex(), "signature-algorithm": SIGNATURE_ALGORITHM},
            ):
                # A crash here leaves a published digest. The next run stores the copy of its
                # signature.
                put_new(self._s3, self._bucket, signature_key(digest.sequence), signature)
                return digest
        raise ContendedError(f"{PUBLISH_TRIES} other runs published in the meantime")

    def latest(self) -> Latest | None:
        """The digest with the highest number; None when there is none yet."""
        keys = [
            entry["Key"]
            for page in self._s3.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=DIGESTS_PREFIX
            )
            for entry in page.get("Contents", [])
        ]
        sequences = [
            sequence
            for key in keys
            if key.endswith(".json") and (sequence := sequence_of(key)) is not None
        ]
        if not sequences:
            return None
        sequence = max(sequences)
        answer = self._s3.get_object(Bucket=self._bucket, Key=digest_key(sequence))
        # Damaged metadata must not stop a run: `refunds backup verify` reports it.
        signature = _unhex(answer["Metadata"].get("signature", ""))
        if signature_key(sequence) not in keys and signature:
            put_new(self._s3, self._bucket, signature_key(sequence), signature)
        if not signature:
            signature = read(self._s3, self._bucket, signature_key(sequence)) or b""
        return Latest(
            sequence,
            Previous(
                bucket=self._bucket,
                key=digest_key(sequence),
                sha256=sha256_hex(answer["Body"].read()),
                signature=signature.hex(),
            ),
        )


def _unhex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""
