"""A refund's receipt: one file that proves its story to anybody who has the public key.

It holds the audit entries, the signed digest of a backup that covers them, and for each covered
entry the Merkle path from its hash to a root in that digest. docs/audit.md describes the format.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

from refunds.audit.writer import NOT_AN_IMAGE
from refunds.backup.digest import DataFile, Digest, DigestError, audit_leaf
from refunds.backup.merkle import inclusion_path, is_included
from refunds.domain.audit_entry import entry_hash
from refunds.domain.clock import CLOCK_SKEW, later
from refunds.domain.identifiers import entry_id
from refunds.domain.refund import Item
from refunds_ops.audit.latest_backup import signature_of
from refunds_ops.backup.data_files import checked_lines, item_of
from refunds_ops.backup.signatures import NotAPublicKeyError, PublicKey
from refunds_ops.backup.storage import BackupStorage
from refunds_ops.backup.verification import StoredDigest

KIND = "refund-receipt"
VERSION = 1
MAX_RECEIPT_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class Checked:
    """What a receipt proves, and its problems. ``unproven``: the versions that no digest signed by
    the trusted key covers."""

    refund_id: str = ""
    versions: int = 0
    covered: int = 0
    fingerprint: str | None = None
    unproven: list[int] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def proven(self) -> bool:
        return not self.problems and not self.unproven


def make_receipt(
    entries: Sequence[Item],
    *,
    made_at: str,
    storage: BackupStorage | None = None,
    stored: StoredDigest | None = None,
    public_key: PublicKey | None = None,
) -> Item:
    """The receipt of one refund's entries, covered as far as the backup ``stored`` goes.

    Raises ``DamagedError`` or ``AbsentError`` when the backup can't be read.
    """
    receipt: Item = {
        "kind": KIND,
        "version": VERSION,
        "made_at": made_at,
        "refund_id": entries[0]["refund_id"],
        "transaction_id": entries[0]["transaction_id"],
        "entries": list(entries),
        "digest": None,
        "proofs": [],
    }
    if storage is not None and stored is not None:
        receipt["digest"] = {
            "content": stored.content.decode(),
            "signature": signature_of(storage, stored).hex(),
            "public_key": public_key.pem.decode() if public_key else None,
        }
        receipt["proofs"] = list(_proofs(entries, storage, stored.digest))
    return receipt


def _proofs(entries: Sequence[Item], storage: BackupStorage, digest: Digest) -> Iterator[Item]:
    wanted = {(entry["transaction_id"], entry["entry_id"]): entry for entry in entries}
    for file in _audit_files(digest):
        # Only lines that name the refund need to be parsed.
        mark = f'"{entries[0]["refund_id"]}"'.encode()
        leaves: list[bytes] = []
        found: dict[str, int] = {}
        for line in checked_lines(storage, file):
            leaf = audit_leaf(line)
            key = _key_in(line, file.key) if mark in line else None
            if key is not None and key in wanted and leaf.hex() == wanted[key]["entry_hash"]:
                found[key[1]] = len(leaves)
            leaves.append(leaf)
        for name, index in sorted(found.items()):
            yield {
                "entry_id": name,
                "file": file.key,
                "leaf_index": index,
                "tree_size": len(leaves),
                "path": [each.hex() for each in inclusion_path(leaves, index)],
            }


def _key_in(line: bytes, file_key: str) -> tuple[str, str] | None:
    """The entry's key in a line, which may hold anything until the file's hash is checked."""
    try:
        item = item_of(line, file_key)
        return str(item["transaction_id"]["S"]), str(item["entry_id"]["S"])
    except NOT_AN_IMAGE:
        return None


def _audit_files(digest: Digest) -> list[DataFile]:
    return [
        file
        for export in digest.exports
        if export.table == "audit"
        for file in export.files
        if file.merkle_root
    ]


def check_receipt(content: bytes, key: PublicKey | None) -> Checked:
    """Verify a receipt with only itself and the public key that is trusted.

    With ``key``, what it doesn't prove is a problem. Without, the receipt's own is taken: then it
    may be consistent, and nothing of it is proven.
    """
    try:
        receipt = json.loads(content)
        if (receipt["kind"], receipt["version"]) != (KIND, VERSION):
            return Checked(problems=["this is not a refund's receipt of a known version"])
        entries: list[Item] = receipt["entries"]
        checked = Checked(str(receipt["refund_id"]), len(entries))
        checked.problems.extend(receipt_problems(receipt))
        if checked.problems:
            return checked
        checked = _check_digest(checked, receipt, key)
        if key is None:
            return replace(checked, unproven=[entry["version"] for entry in entries])
        if checked.unproven:
            checked.problems.append(f"not proven: {versions_text(checked.unproven)}")
        return checked
    except (*NOT_AN_IMAGE, UnicodeDecodeError, NotAPublicKeyError) as exc:
        return Checked(problems=[f"the receipt can't be read: {type(exc).__name__}"])


def versions_text(versions: Sequence[int]) -> str:
    """ "version 3", "versions 1, 2 and 3"."""
    *some, last = map(str, versions)
    return f"versions {', '.join(some)} and {last}" if some else f"version {last}"


def missing_in(digest: Digest, receipt: Item) -> list[str]:
    """Entries that were recorded before a backup, by their own account, and are not in it. No later
    backup can prove them."""
    covered = {proof["entry_id"] for proof in receipt["proofs"]}
    exported = [export.export_time for export in digest.exports if export.table == "audit"]
    until = [later(each, -CLOCK_SKEW) for each in exported]
    return [
        f"version {entry['version']} was recorded before the backup, which hasn't got it"
        for entry in receipt["entries"]
        if entry["entry_id"] not in covered and [str(entry.get("recorded_at", ""))] < until
    ]


def receipt_problems(receipt: Item) -> list[str]:
    """Contradictions within the receipt's entries and between them."""
    try:
        return list(_chain_problems(receipt, receipt["entries"]))
    except NOT_AN_IMAGE as exc:
        return [f"an entry can't be read: {type(exc).__name__}"]


def _chain_problems(receipt: Item, entries: Sequence[Item]) -> Iterator[str]:
    if not entries:
        yield "it has no entries"
    for number, entry in enumerate(entries, 1):
        where = f"entry {number}"
        if entry["version"] != number:
            yield f"{where} is of version {entry['version']}"
        if entry["entry_id"] != entry_id(receipt["refund_id"], number):
            yield f"{where} has another refund's or version's key"
        if any(entry[name] != receipt[name] for name in ("refund_id", "transaction_id")):
            yield f"{where} is another refund's"
        if entry_hash(entry) != entry["entry_hash"]:
            yield f"{where} was changed: its hash is not that of its contents"
    for before, after in pairwise(entries):
        if after["previous_hash"] != before["entry_hash"]:
            yield f"entry {after['version']} does not follow the one before it"
    if entries and entries[0]["previous_hash"] is not None:
        yield "the first entry says that there is one before it"


def _check_digest(checked: Checked, receipt: Item, key: PublicKey | None) -> Checked:
    entries: list[Item] = receipt["entries"]
    signed = receipt["digest"]
    if signed is None:
        checked.notes.append("No signed digest covers it: anyone could have made this chain.")
        return replace(checked, unproven=[entry["version"] for entry in entries])
    content = signed["content"].encode()
    if key is None:
        if not signed["public_key"]:
            return replace(checked, problems=["it has no public key; give one with --public-key"])
        key = PublicKey(signed["public_key"].encode())
        checked.notes.append(
            "Its own public key was taken. Compare the fingerprint with one that you know, "
            "or give the key with --public-key."
        )
    if not key.verifies(content, bytes.fromhex(signed["signature"])):
        return replace(checked, problems=["the digest's signature is not by this public key"])
    try:
        digest = Digest.from_bytes(content)
    except DigestError as exc:
        return replace(checked, problems=[str(exc)])
    files = {file.key: file for file in _audit_files(digest)}
    proofs = {proof["entry_id"]: proof for proof in receipt["proofs"]}
    for entry in entries:
        version = entry["version"]
        if (proof := proofs.get(entry["entry_id"])) is None:
            checked.notes.append(f"Version {version} is in no signed digest of this receipt.")
            checked.unproven.append(version)
        elif not _proven(entry, proof, files):
            checked.problems.append(f"entry {version} is not among those of the signed digest")
    wrong = len(checked.problems) + len(checked.unproven)
    return replace(checked, covered=len(entries) - wrong, fingerprint=key.fingerprint)


def _proven(entry: Item, proof: Mapping[str, Any], files: Mapping[str, DataFile]) -> bool:
    file = files.get(proof["file"])
    if file is None or file.merkle_root is None or proof["tree_size"] != file.item_count:
        return False
    return is_included(
        bytes.fromhex(entry["entry_hash"]),
        proof["leaf_index"],
        proof["tree_size"],
        [bytes.fromhex(each) for each in proof["path"]],
        bytes.fromhex(file.merkle_root),
    )
