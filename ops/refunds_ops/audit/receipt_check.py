"""Verifies a refund's receipt with only itself and a public key.

web/check.js does the same in a browser: the same steps, in the same order, with the same words.
tests/browser/test_receipts.py compares the two.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, NoReturn

from refunds.backup.digest import DataFile, Digest, DigestError
from refunds.backup.merkle import is_included
from refunds.domain.audit_entry import entry_hash
from refunds.domain.identifiers import entry_id
from refunds.domain.refund import Item
from refunds_ops.audit.receipts import KIND, VERSION, audit_files
from refunds_ops.backup.signatures import NotAPublicKeyError, PublicKey

MAX_RECEIPT_BYTES = 64 * 1024 * 1024
EMBEDDED_START = '<script type="application/json" id="receipt">'
"""How the receipt begins within its page (receipt_page.py)."""
EMBEDDED_END = "</script>"

_HASH = re.compile(r"[0-9a-f]{64}", re.ASCII)
_HEX = re.compile(r"(?:[0-9a-f]{2})*", re.ASCII)


class NotAReceiptError(ValueError):
    """The file is not a receipt. The message says what is wrong with it."""


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


def check_receipt(content: bytes, key: PublicKey | None) -> Checked:
    """Verify a receipt: its JSON, or the page that holds it.

    With ``key``, what the receipt doesn't prove is a problem. Without, the receipt's own key is
    taken: then the receipt may be consistent, and nothing of it is proven.
    """
    try:
        receipt = _parse(content)
        _check_shape(receipt)
    except NotAReceiptError as exc:
        return Checked(problems=[str(exc)])
    entries: list[Item] = receipt["entries"]
    checked = Checked(receipt["refund_id"], len(entries))
    checked.problems.extend(receipt_problems(receipt))
    if checked.problems:
        return checked
    try:
        checked = _check_digest(checked, receipt, key)
    except NotAReceiptError as exc:
        return replace(checked, problems=[str(exc)])
    if key is None:
        return replace(checked, unproven=[entry["version"] for entry in entries])
    if checked.unproven:
        checked.problems.append(f"not proven: {versions_text(checked.unproven)}")
    return checked


def versions_text(versions: Sequence[int]) -> str:
    """ "version 3", "versions 1, 2 and 3"."""
    *some, last = map(str, versions)
    return f"versions {', '.join(some)} and {last}" if some else f"version {last}"


# --- Shape ----------------------------------------------------------------------------------------


def _parse(content: bytes) -> Any:
    try:
        text = content.decode()
        _, is_page, embedded = text.partition(EMBEDDED_START)
        return json.loads(
            embedded.partition(EMBEDDED_END)[0] if is_page else text,
            parse_constant=_refuse_constant,
        )
    except (ValueError, RecursionError) as exc:
        raise NotAReceiptError("this is not a refund's receipt: it is not JSON") from exc


def _refuse_constant(name: str) -> NoReturn:
    """NaN and Infinity, which Python reads and JSON doesn't have."""
    raise ValueError(f"{name} is not JSON")


def _check_shape(receipt: Any) -> None:
    """Raise ``NotAReceiptError`` for a member that is missing or of another type."""
    if not isinstance(receipt, dict):
        raise NotAReceiptError("this is not a refund's receipt of a known version")
    if (receipt.get("kind"), receipt.get("version")) != (KIND, VERSION):
        raise NotAReceiptError("this is not a refund's receipt of a known version")
    _require(receipt, "the receipt", text=("refund_id", "transaction_id"), lists=("entries",))
    for number, entry in enumerate(receipt["entries"], 1):
        where = f"entry {number}"
        _require(entry, where, text=("entry_id", "refund_id", "transaction_id"), whole=("version",))
        _require(entry, where, hashes=("entry_hash",))
        if entry.get("previous_hash") is not None:
            _require(entry, where, hashes=("previous_hash",))
    _require(receipt, "the receipt", lists=("proofs",))
    for number, proof in enumerate(receipt["proofs"], 1):
        where = f"proof {number}"
        _require(proof, where, text=("entry_id", "file"), whole=("leaf_index", "tree_size"))
        _require(proof, where, lists=("path",))
        if not all(isinstance(each, str) and _HASH.fullmatch(each) for each in proof["path"]):
            raise NotAReceiptError(f"{where}: path has something that is not a hash")
    if (digest := receipt.get("digest")) is not None:
        _require(digest, "the digest", text=("content", "signature"))
        if not _HEX.fullmatch(digest["signature"]):
            raise NotAReceiptError("the digest: signature is not hexadecimal")
        if digest.get("public_key") is not None:
            _require(digest, "the digest", text=("public_key",))


def _require(  # noqa: PLR0913 - what is compared, and the words for it
    value: Any,
    where: str,
    *,
    text: Sequence[str] = (),
    whole: Sequence[str] = (),
    lists: Sequence[str] = (),
    hashes: Sequence[str] = (),
) -> None:
    if not isinstance(value, dict):
        raise NotAReceiptError(f"{where} is not an object")
    for name in (*text, *hashes):
        if not isinstance(value.get(name), str):
            raise NotAReceiptError(f"{where}: {name} is missing or not text")
    for name in whole:
        if type(value.get(name)) is not int:
            raise NotAReceiptError(f"{where}: {name} is missing or not a whole number")
    for name in lists:
        if not isinstance(value.get(name), list):
            raise NotAReceiptError(f"{where}: {name} is missing or not a list")
    for name in hashes:
        if not _HASH.fullmatch(value[name]):
            raise NotAReceiptError(f"{where}: {name} is not a hash")


# --- Entries and chain ----------------------------------------------------------------------------


def receipt_problems(receipt: Item) -> list[str]:
    """Contradictions within the receipt's entries and between them."""
    return list(_chain_problems(receipt, receipt["entries"]))


def _chain_problems(receipt: Item, entries: Sequence[Item]) -> Iterator[str]:
    if not entries:
        yield "it has no entries"
    for number, entry in enumerate(entries, 1):
        yield from _entry_problems(receipt, entry, number)
    for before, after in pairwise(entries):
        if after.get("previous_hash") != before["entry_hash"]:
            yield f"entry {after['version']} does not follow the one before it"
    if entries and entries[0].get("previous_hash") is not None:
        yield "the first entry says that there is one before it"


def _entry_problems(receipt: Item, entry: Item, number: int) -> Iterator[str]:
    where = f"entry {number}"
    if entry["version"] != number:
        yield f"{where} is of version {entry['version']}: one is missing, or the order was changed"
    if entry["entry_id"] != entry_id(receipt["refund_id"], number):
        yield f"{where} has another refund's or version's key"
    if any(entry[name] != receipt[name] for name in ("refund_id", "transaction_id")):
        yield f"{where} is another refund's"
    try:
        if entry_hash(entry) != entry["entry_hash"]:
            yield f"{where} was changed: its hash is not that of its contents"
    except (ValueError, RecursionError):
        yield f"{where} can't be read: it is not plain JSON"


# --- Digest ---------------------------------------------------------------------------------------


def _check_digest(checked: Checked, receipt: Item, key: PublicKey | None) -> Checked:
    """Raises ``NotAReceiptError``."""
    entries: list[Item] = receipt["entries"]
    signed = receipt.get("digest")
    if signed is None:
        checked.notes.append("No signed digest covers it: anyone could have made this chain.")
        return replace(checked, unproven=[entry["version"] for entry in entries])
    if key is None:
        key = _own_key(signed)
        checked.notes.append(
            "Its own public key was taken. Compare the fingerprint with one that you know, "
            "or give the key with --public-key."
        )
    digest = _signed_digest(signed, key)
    files = {file.key: file for file in audit_files(digest)}
    proofs = {proof["entry_id"]: proof for proof in receipt["proofs"]}
    for entry in entries:
        version = entry["version"]
        if (proof := proofs.get(entry["entry_id"])) is None:
            checked.notes.append(f"Version {version} is in no signed digest of this receipt.")
            checked.unproven.append(version)
        elif not _is_in_digest(entry, proof, files):
            checked.problems.append(f"entry {version} is not among those of the signed digest")
    wrong = len(checked.problems) + len(checked.unproven)
    return replace(checked, covered=len(entries) - wrong, fingerprint=key.fingerprint)


def _own_key(signed: Item) -> PublicKey:
    if not signed.get("public_key"):
        raise NotAReceiptError("it has no public key of its own; give the one that you trust")
    try:
        return PublicKey(signed["public_key"].encode())
    except (NotAPublicKeyError, UnicodeEncodeError) as exc:
        raise NotAReceiptError("its own public key can't be read") from exc


def _signed_digest(signed: Item, key: PublicKey) -> Digest:
    try:
        content = signed["content"].encode()
        if not key.verifies(content, bytes.fromhex(signed["signature"])):
            raise NotAReceiptError("the digest's signature is not by this public key")
        return Digest.from_bytes(content)
    except DigestError as exc:
        raise NotAReceiptError(f"the digest can't be read: {exc}") from exc
    except UnicodeEncodeError as exc:
        raise NotAReceiptError("the digest can't be read: it is broken Unicode") from exc


def _is_in_digest(entry: Item, proof: Mapping[str, Any], files: Mapping[str, DataFile]) -> bool:
    file = files.get(proof["file"])
    if file is None or proof["tree_size"] != file.item_count:
        return False
    root = file.merkle_root or ""
    return _HASH.fullmatch(root) is not None and is_included(
        bytes.fromhex(entry["entry_hash"]),
        proof["leaf_index"],
        proof["tree_size"],
        [bytes.fromhex(each) for each in proof["path"]],
        bytes.fromhex(root),
    )
