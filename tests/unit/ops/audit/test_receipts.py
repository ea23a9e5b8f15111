"""A receipt proves what became of a refund to whoever has the public key, and nothing else does."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from typing import Any

import pytest
from tests.support.audit_backups import Backups, Signer
from tests.support.audit_rows import Trail, rehashed

from refunds.domain.clock import rfc3339
from refunds_ops.audit.latest_backup import chosen
from refunds_ops.audit.receipts import Checked, check_receipt, make_receipt
from refunds_ops.backup.data_files import DamagedError

Receipt = dict[str, Any]


def receipt_of(trail: Trail, refund_id: str, backups: Backups | None = None) -> Receipt:
    made = make_receipt(
        trail.entries(refund_id),
        made_at=rfc3339(trail.clock.now()),
        storage=backups.storage if backups else None,
        stored=chosen(backups.storage, None) if backups else None,
        public_key=backups.signer.public if backups else None,
    )
    return json.loads(json.dumps(made))  # type: ignore[no-any-return]


def check(receipt: Receipt, signer: Signer | None = None) -> Checked:
    return check_receipt(json.dumps(receipt).encode(), signer.public if signer else None)


@pytest.fixture
def backups(trail: Trail) -> Backups:
    made = Backups(trail)
    made.publish()
    return made


@pytest.fixture
def receipt(trail: Trail, backups: Backups) -> Receipt:
    return receipt_of(trail, "r4", backups)


def test_a_receipt_is_checked_with_the_public_key_alone(receipt: Receipt) -> None:
    checked = check(receipt, Signer())
    assert (checked.problems, checked.notes) == ([], [])
    assert (checked.refund_id, checked.versions, checked.covered) == ("r4", 3, 3)
    assert checked.proven
    assert checked.fingerprint == Signer().fingerprint()


def test_without_a_key_it_says_that_its_own_was_taken(receipt: Receipt) -> None:
    checked = check(receipt)
    assert checked.problems == []
    assert "Compare the fingerprint" in checked.notes[0]
    assert (checked.proven, checked.unproven) == (False, [1, 2, 3])


def test_before_the_first_backup_it_says_that_nothing_is_signed(trail: Trail) -> None:
    receipt = receipt_of(trail, "r1")
    checked = check(receipt)
    assert (checked.problems, checked.proven, checked.covered) == ([], False, 0)
    assert "No signed digest" in checked.notes[0]
    assert check(receipt, Signer()).problems == ["not proven: versions 1 and 2"]


def test_what_came_after_the_backup_is_told_as_uncovered(trail: Trail, backups: Backups) -> None:
    from refunds.domain.refund import Status

    there = trail.refunds.get("r1")
    assert there is not None
    trail.finish(there, Status.REVERSED, failure_code="account_closed")
    trail.deliver()
    checked = check(receipt_of(trail, "r1", backups), Signer())
    assert (checked.versions, checked.covered) == (3, 2)
    assert checked.problems == ["not proven: version 3"]
    assert "Version 3" in checked.notes[0]


FORGED: dict[str, Callable[[Receipt], None]] = {
    "an amount": lambda receipt: receipt["entries"][1]["details"].update(amount_minor=1),
    "an actor": lambda receipt: receipt["entries"][0].update(processed_by="mallory"),
    "the order": lambda receipt: receipt["entries"].reverse(),
    "a missing middle": lambda receipt: receipt["entries"].pop(1),
    "a missing first": lambda receipt: receipt["entries"].pop(0),
    "no entries": lambda receipt: receipt["entries"].clear(),
    "another refund's id": lambda receipt: receipt.update(refund_id="r1"),
    "the digest": lambda receipt: receipt["digest"].update(
        content=receipt["digest"]["content"].replace("audit", "Audit", 1)
    ),
    "the signature": lambda receipt: receipt["digest"].update(signature="00" * 256),
    "no signature": lambda receipt: receipt["digest"].update(signature=""),
    "a path": lambda receipt: receipt["proofs"][0].update(path=["00" * 32]),
    "a leaf's place": lambda receipt: receipt["proofs"][0].update(leaf_index=0),
    "a file": lambda receipt: receipt["proofs"][0].update(file="x"),
    "a tree's size": lambda receipt: receipt["proofs"][0].update(tree_size=10**9),
    "text for a place": lambda receipt: receipt["proofs"][0].update(leaf_index="0"),
    "another kind": lambda receipt: receipt.update(kind="x"),
    "a later version": lambda receipt: receipt.update(version=2),
    "a cut": lambda receipt: receipt.pop("entries"),
}


@pytest.mark.parametrize("what", FORGED)
def test_a_forged_receipt_is_refused(receipt: Receipt, what: str) -> None:
    before = json.dumps(receipt)
    FORGED[what](receipt)
    assert json.dumps(receipt) != before
    assert check(receipt, Signer()).problems


def test_a_whole_chain_made_anew_is_refused(receipt: Receipt) -> None:
    previous = None
    for number, entry in enumerate(receipt["entries"]):
        details = entry["details"] | {"amount_minor": 1}
        new = rehashed(entry | {"details": details, "previous_hash": previous})
        receipt["entries"][number], previous = new, new["entry_hash"]
    assert check(receipt, Signer()).problems == [
        f"entry {version} is not among those of the signed digest" for version in (1, 2, 3)
    ]


def made_anew(receipt: Receipt) -> None:
    previous = None
    for number, entry in enumerate(receipt["entries"]):
        new = rehashed(entry | {"user_id": "mallory", "previous_hash": previous})
        receipt["entries"][number], previous = new, new["entry_hash"]


def without_proofs(receipt: Receipt) -> None:
    made_anew(receipt)
    receipt["proofs"] = []


def without_a_digest(receipt: Receipt) -> None:
    made_anew(receipt)
    receipt["digest"] = None


def with_another_end(receipt: Receipt) -> None:
    end = {"status": "SUCCEEDED", "outcome": "Refund Successful"}
    receipt["entries"][2] = rehashed(receipt["entries"][2] | end)
    receipt["proofs"] = receipt["proofs"][:2]


@pytest.mark.parametrize(
    ("forge", "versions"),
    [
        (without_proofs, "versions 1, 2 and 3"),
        (without_a_digest, "versions 1, 2 and 3"),
        (with_another_end, "version 3"),
    ],
)
def test_what_was_forged_and_has_no_proof_is_refused(
    receipt: Receipt, forge: Callable[[Receipt], None], versions: str
) -> None:
    forge(receipt)
    assert check(receipt, Signer()).problems == [f"not proven: {versions}"]
    assert not check(receipt).proven


def test_a_digest_of_another_key_is_refused(trail: Trail) -> None:
    forged = Backups(trail, Signer("mallory"))
    forged.publish()
    assert check(receipt_of(trail, "r4", forged), Signer()).problems == [
        "the digest's signature is not by this public key"
    ]


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"\xff", b'{"kind": "refund-receipt"}'])
def test_what_is_no_receipt_is_refused(content: bytes) -> None:
    assert check_receipt(content, None).problems


@pytest.mark.parametrize(
    "line",
    [
        b'{"Item":{"refund_id":{"S":"r4"}}}',
        b'{"Item":{"refund_id":{"S":"r4"},"transaction_id":1,"entry_id":[]}}',
        b'{"Item":["r4"]}' + b" ",
        b'{"Item":"r4","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
    ids=["no key", "no texts", "no item", "too deep"],
)
def test_a_tampered_line_of_the_backup_is_damage(
    trail: Trail, backups: Backups, line: bytes
) -> None:
    keys = [each.key for each in backups.storage.list() if "/audit/" in each.key]
    (key,) = [each for each in keys if "/data/" in each]
    backups.rewrite(key, gzip.compress(line + b"\n"))
    with pytest.raises(DamagedError):
        receipt_of(trail, "r4", backups)
