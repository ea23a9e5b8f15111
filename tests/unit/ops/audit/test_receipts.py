"""A receipt proves what became of a refund to whoever has the public key, and nothing else does."""

from __future__ import annotations

import copy
import gzip
import hashlib
import json
from pathlib import Path
from unittest.mock import Mock

import pytest
from tests.support.audit_backups import Backups, Signer
from tests.support.audit_rows import Trail
from tests.support.receipts import FORGERIES, Receipt, receipt_of, rewrite_chain

from refunds_ops.audit import receipts
from refunds_ops.audit.latest_backup import chosen
from refunds_ops.audit.receipt_check import Checked, check_receipt
from refunds_ops.audit.receipt_page import html_receipt, script_hash
from refunds_ops.backup.data_files import DamagedError, checked_lines


def check(receipt: Receipt, signer: Signer | None = None) -> Checked:
    return check_receipt(json.dumps(receipt).encode(), signer.public if signer else None)


@pytest.fixture
def backups(trail: Trail) -> Backups:
    made = Backups(trail)
    made.publish()
    return made


@pytest.fixture(scope="module")
def made_receipt(made: Trail) -> Receipt:
    backups = Backups(made)
    backups.publish()
    return receipt_of(made, "r4", backups)


@pytest.fixture
def receipt(made_receipt: Receipt) -> Receipt:
    return copy.deepcopy(made_receipt)


def test_a_receipt_is_checked_with_the_public_key_alone(receipt: Receipt) -> None:
    checked = check(receipt, Signer())
    assert (checked.problems, checked.notes) == ([], [])
    assert (checked.refund_id, checked.versions, checked.covered) == ("r4", 3, 3)
    assert checked.proven
    assert checked.fingerprint == Signer().fingerprint()


def test_receipts_of_many_refunds_read_the_backup_once(
    trail: Trail, backups: Backups, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = receipt_of(trail, "r4", backups)
    lines = Mock(wraps=checked_lines)
    monkeypatch.setattr(receipts, "checked_lines", lines)
    stored = chosen(backups.storage, None)
    assert stored is not None
    made = receipts.make_receipts(
        [trail.entries("r1"), trail.entries("r4")],
        made_at=alone["made_at"],
        storage=backups.storage,
        stored=stored,
        public_key=backups.signer.public,
    )
    assert made[1] == alone
    assert check(made[0], Signer()).proven
    assert lines.call_count == len(receipts.audit_files(stored.digest))


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


@pytest.mark.parametrize("what", FORGERIES)
def test_a_forged_receipt_is_refused_and_the_forgery_named(receipt: Receipt, what: str) -> None:
    before = json.dumps(receipt)
    FORGERIES[what].forge(receipt)
    assert json.dumps(receipt) != before
    assert FORGERIES[what].says in check(receipt, Signer()).problems[0]
    assert not check(receipt).proven


def test_a_rewritten_chain_is_refused_in_every_version(receipt: Receipt) -> None:
    rewrite_chain(receipt, user_id="mallory")
    assert check(receipt, Signer()).problems == [
        f"entry {version} is not among those of the signed digest" for version in (1, 2, 3)
    ]


@pytest.mark.parametrize(
    "digest",
    [
        {"merkleRoot": "zz"},
        {"merkleRoot": ""},
        {"itemCount": True},
        {"itemCount": -1},
    ],
)
def test_a_strange_digest_that_its_own_key_signed_proves_nothing(
    receipt: Receipt, digest: Receipt
) -> None:
    content = json.loads(receipt["digest"]["content"])
    for export in content["exports"]:
        for file in export["dataFiles"]:
            file.update(digest)
    text, mallory = json.dumps(content), Signer("mallory")
    signature = mallory.sign(hashlib.sha256(text.encode()).digest()).hex()
    receipt["digest"] |= {"content": text, "signature": signature}
    receipt["digest"]["public_key"] = mallory.public.pem.decode()
    assert check(receipt).problems
    assert not check(receipt).proven


@pytest.mark.parametrize("own_key", [None, "", "no key"])
def test_a_receipt_without_a_key_of_its_own_asks_for_one(
    receipt: Receipt, own_key: str | None
) -> None:
    receipt["digest"]["public_key"] = own_key
    assert "public key" in check(receipt).problems[0]
    assert check(receipt, Signer()).proven


def test_a_digest_of_another_key_is_refused(trail: Trail) -> None:
    forged = Backups(trail, Signer("mallory"))
    forged.publish()
    assert check(receipt_of(trail, "r4", forged), Signer()).problems == [
        "the digest's signature is not by this public key"
    ]


def test_the_page_of_a_receipt_is_checked_like_the_receipt(receipt: Receipt) -> None:
    receipt["made_at"] = "</script><b>"
    page = html_receipt(receipt).encode("ascii")
    assert check_receipt(page, Signer().public).proven
    changed = page.replace(b'"user_id": "user-1"', b'"user_id": "user-2"', 1)
    assert "entry 1 was changed" in check_receipt(changed, Signer().public).problems[0]


@pytest.mark.parametrize(
    "content", [b"", b"NaN", b"[]", b"{}", b"\xff", b'{"kind": "refund-receipt"}']
)
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


def test_the_page_can_run_its_own_program_only_which_the_docs_name(receipt: Receipt) -> None:
    docs = (Path(__file__).parents[4] / "docs/audit.md").read_text()
    assert f"\n{script_hash()}\n" in docs
    head = html_receipt(receipt).partition("<title>")[0]
    assert f"default-src 'none'; script-src '{script_hash()}'; style-src 'sha256-" in head
