"""Makes a refund's receipt: one file that proves its story to anybody who has the public key.

A receipt holds the audit entries, the signed digest of a backup that covers them, and for each
covered entry the Merkle path from its hash to a root in that digest. docs/audit.md describes the
format; receipt_check.py verifies it, and so does the page that receipt_page.py makes of it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from refunds.backup.digest import DataFile, Digest, audit_leaf
from refunds.backup.merkle import inclusion_paths
from refunds.domain.audit_entry import NOT_AN_IMAGE
from refunds.domain.clock import CLOCK_SKEW, later
from refunds.domain.refund import Item
from refunds_ops.audit.latest_backup import signature_of
from refunds_ops.backup.data_files import checked_lines, item_of
from refunds_ops.backup.signatures import PublicKey
from refunds_ops.backup.storage import BackupStorage
from refunds_ops.backup.verification import StoredDigest

KIND = "refund-receipt"
VERSION = 1


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
    (receipt,) = make_receipts(
        [entries], made_at=made_at, storage=storage, stored=stored, public_key=public_key
    )
    return receipt


def make_receipts(
    stories: Sequence[Sequence[Item]],
    *,
    made_at: str,
    storage: BackupStorage | None = None,
    stored: StoredDigest | None = None,
    public_key: PublicKey | None = None,
) -> list[Item]:
    """A receipt for each refund's entries, for one reading of the backup. See ``make_receipt``."""
    receipts: list[Item] = [
        {
            "kind": KIND,
            "version": VERSION,
            "made_at": made_at,
            "refund_id": entries[0].get("refund_id"),
            "transaction_id": entries[0]["transaction_id"],
            "entries": list(entries),
            "digest": None,
            "proofs": [],
        }
        for entries in stories
    ]
    if storage is None or stored is None:
        return receipts
    signature = signature_of(storage, stored).hex()
    proofs = _proofs([entry for entries in stories for entry in entries], storage, stored.digest)
    for receipt in receipts:
        receipt["digest"] = {
            "content": stored.content.decode(),
            "signature": signature,
            "public_key": public_key.pem.decode() if public_key else None,
        }
        receipt["proofs"] = [
            proof for entry in receipt["entries"] for proof in proofs.get(_key_of(entry), ())
        ]
    return receipts


def _proofs(
    entries: Sequence[Item], storage: BackupStorage, digest: Digest
) -> dict[tuple[str, str], list[Item]]:
    """The proofs of each entry that the backup has, by the entry's key."""
    wanted: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for entry in entries:
        if isinstance(hash_ := entry.get("entry_hash"), str):
            wanted[hash_].add(_key_of(entry))
    proofs: dict[tuple[str, str], list[Item]] = defaultdict(list)
    for file in audit_files(digest):
        leaves: list[bytes] = []
        found: dict[tuple[str, str], int] = {}
        for line in checked_lines(storage, file):
            leaf = audit_leaf(line)
            keys = wanted.get(leaf.hex())
            if keys and (key := _key_in(line, file.key)) in keys:
                found[key] = len(leaves)
            leaves.append(leaf)
        paths = inclusion_paths(leaves, found.values())
        for key, index in found.items():
            proofs[key].append(
                {
                    "entry_id": key[1],
                    "file": file.key,
                    "leaf_index": index,
                    "tree_size": len(leaves),
                    "path": [each.hex() for each in paths[index]],
                }
            )
    return proofs


def _key_of(entry: Item) -> tuple[str, str]:
    return entry["transaction_id"], entry["entry_id"]


def _key_in(line: bytes, file_key: str) -> tuple[str, str] | None:
    """The entry's key in a line, which may hold anything until the file's hash is checked."""
    try:
        item = item_of(line, file_key)
        return str(item["transaction_id"]["S"]), str(item["entry_id"]["S"])
    except NOT_AN_IMAGE:
        return None


def audit_files(digest: Digest) -> list[DataFile]:
    return [
        file
        for export in digest.exports
        if export.table == "audit"
        for file in export.files
        if file.merkle_root
    ]


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
