"""The chain of digests: signed, numbered without forks, whole after a crash or a race."""

from __future__ import annotations

import hashlib
import json
import subprocess
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import boto3
import pytest
from tests.support.backup_parts import BackedUp, LocalSigner, refund
from tests.support.moto_stack import REGION

from refunds.backup.digest import (
    DataFile,
    Digest,
    DigestError,
    Export,
    Previous,
    StoredFile,
    audit_leaf,
    digest_key,
    sequence_of,
    sha256_hex,
    signature_key,
)
from refunds.backup.digest_chain import PUBLISH_TRIES, ContendedError, DigestChain, KmsSigner
from refunds.backup.merkle import MerkleTree, inclusion_path, is_included
from refunds.backup.write_once import put_new
from refunds.domain.audit_entry import audit_entry
from refunds.tables.wire import item_to_wire
from refunds_ops.backup.signatures import NotAPublicKeyError, PublicKey


def digest(
    sequence: int = 1, fingerprint: str = "f" * 64, previous: Previous | None = None
) -> Digest:
    return Digest(
        sequence=sequence,
        bucket="backups",
        start_time="2026-11-23T07:10:00.000000Z",
        end_time="2026-11-23T07:11:00.000000Z",
        backup_prefix="refund-backups/2026/11/23/20261123T071000Z",
        exports=(
            Export(
                table="audit",
                table_arn="arn:aws:dynamodb:eu-central-1:111122223333:table/PaymentAuditTrail",
                root="refund-backups/2026/11/23/20261123T071000Z/audit/AWSDynamoDB/1-a",
                export_time="2026-11-23T07:10:00.000Z",
                item_count=2,
                manifests=(StoredFile("m", "0" * 64),),
                files=(DataFile("d", "1" * 64, 10, 2, "2" * 64), DataFile("e", "3" * 64, 1, 0)),
            ),
        ),
        fingerprint=fingerprint,
        previous=previous,
    )


def test_a_digest_is_read_as_it_was_written() -> None:
    first = digest()
    second = digest(2, previous=Previous("backups", first.key, "a" * 64, "b" * 512))
    for each in (first, second):
        assert Digest.from_bytes(each.to_bytes()) == each
        assert Digest.from_bytes(each.to_bytes()).to_bytes() == each.to_bytes()


def test_the_first_digest_has_nulls_for_the_one_before() -> None:
    told = json.loads(digest().to_bytes())
    before = {name: value for name, value in told.items() if name.startswith("previousDigest")}
    assert len(before) == 5
    assert set(before.values()) == {None}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b'{"digestVersion": 2}',
        b"\xff",
        digest().to_bytes().replace(b'"itemCount": 2', b'"itemCount": -1'),
        digest().to_bytes().replace(b'"itemCount": 2', b'"itemCount": true'),
        digest().to_bytes().replace(b'"digestS3Bucket": "backups"', b'"digestS3Bucket": 5'),
        digest().to_bytes()[:-2],
    ],
)
def test_what_is_no_digest_is_an_error(content: bytes) -> None:
    with pytest.raises(DigestError):
        Digest.from_bytes(content)


def test_keys_are_twelve_digits() -> None:
    assert digest_key(7) == "refund-backups/digests/000000000007.json"
    assert signature_key(7) == "refund-backups/digests/000000000007.sig"
    assert sequence_of(digest_key(7)) == sequence_of(signature_key(7)) == 7
    assert sequence_of("refund-backups/digests/7.json") is None
    assert sequence_of("refund-backups/digests/000000000007.json.bak") is None


# --- Publishing -----------------------------------------------------------------------------------


def publish(chain: DigestChain) -> Digest:
    """A digest of a backup of nothing; like any run's, its prefix is its own."""
    prefix = f"refund-backups/2026/11/23/run-{next(_RUNS)}"
    return chain.publish(lambda *about: replace(digest(*about), exports=(), backup_prefix=prefix))


_RUNS = count(1)


def test_each_digest_names_the_one_before_it(stack: BackedUp) -> None:
    chain = DigestChain(stack.s3, stack.bucket, stack.signer)
    first, second = publish(chain), publish(chain)
    assert (first.sequence, first.previous) == (1, None)
    assert second.previous == Previous(
        bucket=stack.bucket,
        key=first.key,
        sha256=sha256_hex(stack.object(first.key)),
        signature=stack.object(signature_key(1)).hex(),
    )
    stored = stack.s3.get_object(Bucket=stack.bucket, Key=second.key)
    signature = stack.object(signature_key(2))
    assert stored["Metadata"]["signature"] == signature.hex()
    assert stored["Metadata"]["signature-algorithm"] == "SHA256withRSA"
    assert stack.signer.public_key.verifies(stored["Body"].read(), signature)


class Overtaken(LocalSigner):
    """While it signs, another run publishes: the race, made certain."""

    def __init__(self, other: DigestChain, times: int) -> None:
        super().__init__()
        self._other = other
        self._times = times

    def sign(self, sha256: bytes) -> bytes:
        if self._times:
            self._times -= 1
            publish(self._other)
        return super().sign(sha256)


def test_of_two_runs_at_once_the_loser_chains_itself_to_the_winner(stack: BackedUp) -> None:
    other = DigestChain(stack.s3, stack.bucket, stack.signer)
    loser = publish(DigestChain(stack.s3, stack.bucket, Overtaken(other, times=2)))
    assert loser.sequence == 3
    assert loser.previous is not None
    assert loser.previous.key == digest_key(2)
    assert loser.previous.sha256 == sha256_hex(stack.object(digest_key(2)))
    assert not stack.verify().findings


def test_a_run_that_always_loses_gives_up(stack: BackedUp) -> None:
    other = DigestChain(stack.s3, stack.bucket, stack.signer)
    with pytest.raises(ContendedError):
        publish(DigestChain(stack.s3, stack.bucket, Overtaken(other, times=99)))
    assert len(stack.listed("refund-backups/digests/")) == 2 * PUBLISH_TRIES


def test_a_lost_answer_does_not_publish_twice(stack: BackedUp) -> None:
    lost: list[int] = []

    def lose_it(**_: Any) -> None:
        # The object is stored; botocore sees an answer as if it had tried a second time.
        if not lost:
            lost.append(1)
            raise ConnectionError

    event = "before-parse.s3.PutObject"
    stack.s3.meta.events.register(event, lose_it)
    chain = DigestChain(stack.s3, stack.bucket, stack.signer)
    with pytest.raises(ConnectionError):
        publish(chain)
    stack.s3.meta.events.unregister(event, lose_it)
    # What botocore would do by itself: the same put again.
    stored = stack.object(digest_key(1))
    assert put_new(stack.s3, stack.bucket, digest_key(1), stored)
    assert not put_new(stack.s3, stack.bucket, digest_key(1), stored + b" ")


def test_the_next_run_stores_a_signature_that_a_crash_left_out(stack: BackedUp) -> None:
    chain = DigestChain(stack.s3, stack.bucket, stack.signer)
    publish(chain)
    stack.s3.delete_object(
        Bucket=stack.bucket,
        Key=signature_key(1),
        VersionId=stack.s3.head_object(Bucket=stack.bucket, Key=signature_key(1))["VersionId"],
    )
    report = stack.verify()
    assert not report.findings
    assert "next run stores it" in report.notes[0]
    publish(chain)
    assert stack.listed("refund-backups/digests/")[1] == signature_key(1)
    assert not stack.verify().findings


def test_kms_signs_the_hash_and_nothing_else(stack: BackedUp) -> None:
    # moto's KMS hashes a DIGEST again; MiniStack's signature is verified in tests/engines.
    kms = boto3.client("kms", region_name=REGION)
    key = kms.create_key(KeySpec="RSA_3072", KeyUsage="SIGN_VERIFY")["KeyMetadata"]["Arn"]
    asked: list[dict[str, Any]] = []
    kms.meta.events.register(
        "provide-client-params.kms.Sign", lambda params, **_: asked.append(params)
    )
    published = publish(DigestChain(stack.s3, stack.bucket, KmsSigner(kms, key)))
    public_key = PublicKey(kms.get_public_key(KeyId=key)["PublicKey"])
    assert published.fingerprint == public_key.fingerprint
    assert asked == [
        {
            "KeyId": key,
            "Message": hashlib.sha256(stack.object(published.key)).digest(),
            "MessageType": "DIGEST",
            "SigningAlgorithm": "RSASSA_PKCS1_V1_5_SHA_256",
        }
    ]


def test_openssl_alone_verifies_a_digest(stack: BackedUp, tmp_path: Path) -> None:
    published = publish(DigestChain(stack.s3, stack.bucket, stack.signer))
    (tmp_path / "digest.json").write_bytes(stack.object(published.key))
    (tmp_path / "digest.sig").write_bytes(stack.object(signature_key(1)))
    (tmp_path / "key.pem").write_bytes(stack.signer.public_key.pem)

    def openssl(*arguments: str) -> str:
        told = subprocess.run(
            ["openssl", *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        return told.stdout

    verify = ("dgst", "-sha256", "-verify", "key.pem", "-signature", "digest.sig", "digest.json")
    assert openssl(*verify) == "Verified OK\n"
    openssl("pkey", "-pubin", "-in", "key.pem", "-outform", "DER", "-out", "key.der")
    assert openssl("dgst", "-sha256", "-r", "key.der").split()[0] == published.fingerprint
    (tmp_path / "digest.json").write_bytes(stack.object(published.key) + b" ")
    assert openssl(*verify) != "Verified OK\n"


@pytest.mark.parametrize("content", [b"", b"-----BEGIN PUBLIC KEY-----\nnone", b"\x30\x03\x02\x01"])
def test_what_is_no_public_key_is_refused(content: bytes) -> None:
    with pytest.raises(NotAPublicKeyError):
        PublicKey(content)


# --- Leaves ---------------------------------------------------------------------------------------


def line(item: dict[str, Any]) -> bytes:
    return json.dumps({"Item": item}, separators=(",", ":")).encode()


def test_an_auditor_proves_an_entry_from_its_plain_json() -> None:
    entries = [audit_entry(refund(number).item()) for number in range(7)]
    leaves = [audit_leaf(line(item_to_wire(entry))) for entry in entries]
    tree = MerkleTree()
    for leaf in leaves:
        tree.add(leaf)
    path = inclusion_path(leaves, 5)
    assert is_included(bytes.fromhex(entries[5]["entry_hash"]), 5, 7, path, tree.root())


def test_only_the_entrys_own_hash_makes_its_leaf() -> None:
    ours, theirs = "a" * 64, "b" * 64
    nested = {"M": {"metadata": {"M": {"entry_hash": {"S": theirs}}}}}
    assert audit_leaf(line({"details": nested, "entry_hash": {"S": ours}})).hex() == ours
    assert audit_leaf(line({"entry_hash": {"S": ours}, "details": nested})).hex() == ours
    assert audit_leaf(line({"details": nested})) == bytes(32)
    assert audit_leaf(line({"text": {"S": f'"entry_hash":{{"S":"{theirs}"}}'}})) == bytes(32)
    assert audit_leaf(line({"entry_hash": {"S": "short"}})) == bytes(32)
    assert audit_leaf(b"not json") == bytes(32)
