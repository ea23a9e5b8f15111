"""A receipt of a real trail and backup, and one table of the ways to forge it.

`check-receipt` and the receipt's own page must each name every one of them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import boto3
from moto import mock_aws
from tests.support.audit_backups import Backups, Signer
from tests.support.audit_rows import Trail, rehashed
from tests.support.moto_stack import REGION, Clients, Stack

from refunds.backup.table_scan import PageReader, ReadLimit
from refunds.domain.clock import rfc3339
from refunds_ops.audit.latest_backup import chosen
from refunds_ops.audit.receipts import make_receipt

Receipt = dict[str, Any]


@dataclass(frozen=True)
class Forgery:
    forge: Callable[[Receipt], object]
    says: str
    """What the first problem must say."""


def receipt_of(trail: Trail, refund_id: str, backups: Backups | None = None) -> Receipt:
    made = make_receipt(
        trail.entries(refund_id),
        made_at=rfc3339(trail.clock.now()),
        storage=backups.storage if backups else None,
        stored=chosen(backups.storage, None) if backups else None,
        public_key=backups.signer.public if backups else None,
    )
    return json.loads(json.dumps(made))  # type: ignore[no-any-return]


def signed_receipt() -> Receipt:
    """A refund of three versions, all signed by ``Signer()``. For tests without a stack in moto."""
    with mock_aws():
        clients = Clients(
            boto3.client("dynamodb", region_name=REGION),
            boto3.client("sqs", region_name=REGION),
            boto3.client("s3", region_name=REGION),
            boto3.client("events", region_name=REGION),
        )
        scan = PageReader(boto3.client("dynamodb", region_name=REGION), ReadLimit(0))
        trail = Trail(Stack.create(clients), scan)
        trail.populate()
        backups = Backups(trail)
        backups.publish()
        return receipt_of(trail, "r4", backups)


# --- Forging --------------------------------------------------------------------------------------


def rewrite_chain(receipt: Receipt, **changes: Any) -> None:
    """A chain that is consistent in itself, of other contents."""
    previous = None
    for number, entry in enumerate(receipt["entries"]):
        new = rehashed(entry | changes | {"previous_hash": previous})
        receipt["entries"][number], previous = new, new["entry_hash"]


def _rewrite_amounts(receipt: Receipt) -> None:
    rewrite_chain(receipt, details=receipt["entries"][0]["details"] | {"amount_minor": 1})


def _rewrite_without_proofs(receipt: Receipt) -> None:
    rewrite_chain(receipt, user_id="mallory")
    receipt["proofs"] = []


def _rewrite_without_a_digest(receipt: Receipt) -> None:
    rewrite_chain(receipt, user_id="mallory")
    receipt["digest"] = None


def _another_end(receipt: Receipt) -> None:
    end = {"status": "SUCCEEDED", "outcome": "Refund Successful"}
    receipt["entries"][2] = rehashed(receipt["entries"][2] | end)
    receipt["proofs"] = receipt["proofs"][:2]


def _cut_the_end(receipt: Receipt) -> None:
    """The last entry's proof goes to the entry before."""
    receipt["entries"][1] = rehashed(receipt["entries"][1] | {"user_id": "mallory"})
    receipt["entries"].pop()
    last = receipt["proofs"].pop()
    receipt["proofs"][1] |= {"leaf_index": last["leaf_index"], "path": last["path"]}


def _signed_by_mallory(receipt: Receipt) -> None:
    mallory, digest = Signer("mallory"), receipt["digest"]
    digest["signature"] = mallory.sign(hashlib.sha256(digest["content"].encode()).digest()).hex()
    digest["public_key"] = mallory.public.pem.decode()


def _a_root_of_mallorys(receipt: Receipt) -> None:
    """Entries of other contents, in a digest that has their root: only the signature is missing."""
    digest = json.loads(receipt["digest"]["content"])
    rewrite_chain(receipt, user_id="mallory")
    for export in digest["exports"]:
        for file in export["dataFiles"]:
            file.update(itemCount=1, merkleRoot="00" * 32)
    receipt["digest"]["content"] = json.dumps(digest)


def _entry(number: int, **changes: Any) -> Callable[[Receipt], None]:
    return lambda receipt: receipt["entries"][number - 1].update(changes)


def _details(number: int, **changes: Any) -> Callable[[Receipt], None]:
    return lambda receipt: receipt["entries"][number - 1]["details"].update(changes)


def _proof(**changes: Any) -> Callable[[Receipt], None]:
    return lambda receipt: receipt["proofs"][0].update(changes)


_CHANGED = "was changed: its hash is not that of its contents"
_NOT_IN_DIGEST = "entry 1 is not among those of the signed digest"
_SIGNATURE = "the digest's signature is not by this public key"

FORGERIES: dict[str, Forgery] = {
    # Entries
    "an amount": Forgery(_details(2, amount_minor=1), f"entry 2 {_CHANGED}"),
    "an actor": Forgery(_entry(1, processed_by="mallory"), f"entry 1 {_CHANGED}"),
    "a member more": Forgery(_entry(3, approved="yes"), f"entry 3 {_CHANGED}"),
    "a member of the prototype": Forgery(_entry(3, __proto__={"a": 1}), f"entry 3 {_CHANGED}"),
    "a member less": Forgery(
        lambda receipt: receipt["entries"][2].pop("outcome"), f"entry 3 {_CHANGED}"
    ),
    "a member's type": Forgery(_details(2, amount_minor="500"), f"entry 2 {_CHANGED}"),
    "a look-alike letter": Forgery(_entry(1, user_id="usеr-1"), f"entry 1 {_CHANGED}"),
    "a number past 2^53": Forgery(_details(1, amount_minor=2**53 + 1), "entry 1 can't be read"),
    "broken Unicode": Forgery(_entry(1, user_id="\ud800"), "entry 1 can't be read"),
    "a hash": Forgery(_entry(2, entry_hash="00" * 32), f"entry 2 {_CHANGED}"),
    "a hash in capitals": Forgery(
        lambda receipt: receipt["entries"][1].update(
            entry_hash=receipt["entries"][1]["entry_hash"].upper()
        ),
        "entry 2: entry_hash is not a hash",
    ),
    "a version of another type": Forgery(_entry(1, version=True), "entry 1: version is missing"),
    # Chain
    "the order": Forgery(lambda receipt: receipt["entries"].reverse(), "entry 1 is of version 3"),
    "a missing middle": Forgery(
        lambda receipt: receipt["entries"].pop(1), "entry 2 is of version 3"
    ),
    "a missing first": Forgery(
        lambda receipt: receipt["entries"].pop(0), "entry 1 is of version 2"
    ),
    "an entry twice": Forgery(
        lambda receipt: receipt["entries"].insert(1, receipt["entries"][0]),
        "entry 2 is of version 1",
    ),
    "no entries": Forgery(lambda receipt: receipt["entries"].clear(), "it has no entries"),
    "a rewritten middle": Forgery(
        lambda receipt: receipt["entries"].__setitem__(
            1, rehashed(receipt["entries"][1] | {"user_id": "mallory"})
        ),
        "entry 3 does not follow the one before it",
    ),
    "a beginning that follows another": Forgery(
        lambda receipt: receipt["entries"].__setitem__(
            0, rehashed(receipt["entries"][0] | {"previous_hash": "00" * 32})
        ),
        "entry 2 does not follow the one before it",
    ),
    "another refund's id": Forgery(
        lambda receipt: receipt.update(refund_id="r1"), "entry 1 has another refund's"
    ),
    "another payment's id": Forgery(
        lambda receipt: receipt.update(transaction_id="p1"), "entry 1 is another refund's"
    ),
    # Digest and proofs
    "a whole chain": Forgery(_rewrite_amounts, _NOT_IN_DIGEST),
    "a whole chain without proofs": Forgery(
        _rewrite_without_proofs, "not proven: versions 1, 2 and 3"
    ),
    "a whole chain without a digest": Forgery(
        _rewrite_without_a_digest, "not proven: versions 1, 2 and 3"
    ),
    "another end": Forgery(_another_end, "not proven: version 3"),
    "a cut end": Forgery(_cut_the_end, "entry 2 is not among those of the signed digest"),
    "a proof less": Forgery(lambda receipt: receipt["proofs"].pop(0), "not proven: version 1"),
    "the digest": Forgery(
        lambda receipt: receipt["digest"].update(
            content=receipt["digest"]["content"].replace("audit", "Audit", 1)
        ),
        _SIGNATURE,
    ),
    "a digest of its own": Forgery(_a_root_of_mallorys, _SIGNATURE),
    "a digest in broken Unicode": Forgery(
        lambda receipt: receipt["digest"].update(content="\udfff"), "the digest can't be read"
    ),
    "another's signature": Forgery(_signed_by_mallory, _SIGNATURE),
    "the signature": Forgery(
        lambda receipt: receipt["digest"].update(signature="00" * 256), _SIGNATURE
    ),
    "no signature": Forgery(lambda receipt: receipt["digest"].update(signature=""), _SIGNATURE),
    "a signature that is none": Forgery(
        lambda receipt: receipt["digest"].update(signature="zz"), "signature is not hexadecimal"
    ),
    "a path": Forgery(_proof(path=["00" * 32]), _NOT_IN_DIGEST),
    "no path": Forgery(_proof(path=[]), _NOT_IN_DIGEST),
    "a longer path": Forgery(
        lambda receipt: receipt["proofs"][0]["path"].append("00" * 32), _NOT_IN_DIGEST
    ),
    "a path of texts": Forgery(_proof(path=["root"]), "path has something that is not a hash"),
    "a leaf's place": Forgery(
        lambda receipt: receipt["proofs"][0].update(
            leaf_index=receipt["proofs"][0]["leaf_index"] ^ 1
        ),
        _NOT_IN_DIGEST,
    ),
    "a place before the first": Forgery(_proof(leaf_index=-1), _NOT_IN_DIGEST),
    "a place past 32 bits": Forgery(
        lambda receipt: receipt["proofs"][0].update(
            leaf_index=receipt["proofs"][0]["leaf_index"] + 2**32
        ),
        _NOT_IN_DIGEST,
    ),
    "a file": Forgery(_proof(file="x"), _NOT_IN_DIGEST),
    "a tree's size": Forgery(_proof(tree_size=10**9), _NOT_IN_DIGEST),
    "a tree's size that fits the path": Forgery(
        lambda receipt: receipt["proofs"][0].update(
            tree_size=receipt["proofs"][0]["tree_size"] + 1
        ),
        _NOT_IN_DIGEST,
    ),
    "text for a place": Forgery(_proof(leaf_index="0"), "proof 1: leaf_index is missing"),
    # The file
    "another kind": Forgery(lambda receipt: receipt.update(kind="x"), "of a known version"),
    "a later version": Forgery(lambda receipt: receipt.update(version=2), "of a known version"),
    "a cut": Forgery(lambda receipt: receipt.pop("entries"), "entries is missing"),
    "no proofs": Forgery(lambda receipt: receipt.pop("proofs"), "proofs is missing"),
    "an entry that is none": Forgery(
        lambda receipt: receipt["entries"].append("r4"), "entry 4 is not an object"
    ),
}
