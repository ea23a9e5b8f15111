"""The signed chain of digests: what each backup holds, and which one came before.

The shape is that of CloudTrail's digest files. A digest is signed as it is stored, byte for byte,
so that openssl alone can check it; docs/backup.md shows how. Nothing here needs AWS: who signs
and where digests are kept is in digest_chain.py, who checks a signature in the operator's tools.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

PREFIX = "refund-backups"
DIGESTS_PREFIX = f"{PREFIX}/digests/"
SIGNATURE_ALGORITHM = "SHA256withRSA"
HASH_ALGORITHM = "SHA-256"
FIRST_SEQUENCE = 1
VERSION = 1

_DIGEST_KEY = re.compile(re.escape(DIGESTS_PREFIX) + r"(\d{12})\.(json|sig)", re.ASCII)
_NO_HASH = bytes(32)


class DigestError(ValueError):
    """The content is not a digest."""


@dataclass(frozen=True)
class StoredFile:
    """An object's key, and the hex SHA-256 of its bytes as stored (compressed, for data)."""

    key: str
    sha256: str


@dataclass(frozen=True)
class DataFile(StoredFile):
    """``size`` in bytes as stored. ``merkle_root`` (hex) only for the audit trail's files."""

    size: int
    item_count: int
    merkle_root: str | None = None


@dataclass(frozen=True)
class Export:
    """One table's part of a backup. ``table`` is ``refunds``, ``ledger`` or ``audit``.

    ``root`` is ``…/AWSDynamoDB/<ExportId>``, without a slash at its end. ``export_time``: the part
    contains every row that did not change after this instant, as it was then.
    """

    table: str
    table_arn: str
    root: str
    export_time: str
    item_count: int
    manifests: tuple[StoredFile, ...]
    files: tuple[DataFile, ...]

    @property
    def data_prefix(self) -> str:
        """What ImportTable takes as ``S3KeyPrefix``."""
        return f"{self.root}/data/"


@dataclass(frozen=True)
class Previous:
    """The previous digest: its place, the hex SHA-256 of its bytes, and its signature in hex."""

    bucket: str
    key: str
    sha256: str
    signature: str


@dataclass(frozen=True)
class Digest:
    """What was published, between which instants (RFC 3339, UTC), and where."""

    sequence: int
    bucket: str
    start_time: str
    end_time: str
    backup_prefix: str
    """``refund-backups/<YYYY>/<MM>/<DD>/<YYYYMMDDTHHMMSSZ>``: everything of the run is below it."""
    exports: tuple[Export, ...]
    fingerprint: str
    """Hex SHA-256 of the public key in DER form (SubjectPublicKeyInfo)."""
    previous: Previous | None

    @property
    def key(self) -> str:
        return digest_key(self.sequence)

    def files(self) -> tuple[StoredFile, ...]:
        """Every object of the backup, except the digest and its signature."""
        return tuple(file for export in self.exports for file in (*export.manifests, *export.files))

    def to_bytes(self) -> bytes:
        """The digest file: what is stored, hashed and signed."""
        before = self.previous
        return json.dumps(
            {
                "digestVersion": VERSION,
                "digestSequence": self.sequence,
                "digestS3Bucket": self.bucket,
                "digestS3Object": self.key,
                "digestStartTime": self.start_time,
                "digestEndTime": self.end_time,
                "digestPublicKeyFingerprint": self.fingerprint,
                "digestSignatureAlgorithm": SIGNATURE_ALGORITHM,
                "previousDigestS3Bucket": before and before.bucket,
                "previousDigestS3Object": before and before.key,
                "previousDigestHashValue": before and before.sha256,
                "previousDigestHashAlgorithm": before and HASH_ALGORITHM,
                "previousDigestSignature": before and before.signature,
                "backupS3Prefix": self.backup_prefix,
                "exports": [_export_json(export) for export in self.exports],
            },
            indent=1,
        ).encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> Digest:
        """Read a digest file. Raises ``DigestError``; checks no signature."""
        try:
            payload = json.loads(content)
            if payload["digestVersion"] != VERSION:
                raise DigestError(
                    f"digest version {payload['digestVersion']} is unknown to this release"
                )
            previous = None
            if payload["previousDigestS3Object"] is not None:
                previous = Previous(
                    bucket=_text(payload, "previousDigestS3Bucket"),
                    key=_text(payload, "previousDigestS3Object"),
                    sha256=_text(payload, "previousDigestHashValue"),
                    signature=_text(payload, "previousDigestSignature"),
                )
            return cls(
                sequence=_count(payload, "digestSequence"),
                bucket=_text(payload, "digestS3Bucket"),
                start_time=_text(payload, "digestStartTime"),
                end_time=_text(payload, "digestEndTime"),
                backup_prefix=_text(payload, "backupS3Prefix"),
                exports=tuple(_export(each) for each in payload["exports"]),
                fingerprint=_text(payload, "digestPublicKeyFingerprint"),
                previous=previous,
            )
        except DigestError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
            raise DigestError(f"not a digest: {type(exc).__name__}") from exc


def digest_key(sequence: int) -> str:
    return f"{DIGESTS_PREFIX}{sequence:012d}.json"


def signature_key(sequence: int) -> str:
    return f"{DIGESTS_PREFIX}{sequence:012d}.sig"


def sequence_of(key: str) -> int | None:
    """The sequence number in a digest's or a signature's key; None for any other key."""
    match = _DIGEST_KEY.fullmatch(key)
    return int(match[1]) if match else None


def sha256_hex(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# --- The leaves of an audit file's Merkle tree ----------------------------------------------------

_HASH_BEGINS, _MAP_BEGINS, _LINE_ENDS = b'"entry_hash":{"S":"', b'"M":{', b"}}}\n"
_HASH = re.compile(rb'([0-9a-f]{64})"\}')
_HASH_DIGITS, _HASH_ENDS = 64, b'"}'
_DIGITS_ONLY = bytes(byte if byte in b"0123456789abcdef" else ord(" ") for byte in range(256))
"""Translates all but the digits of a hash into spaces, which ``bytes.fromhex`` skips."""


def audit_leaves(lines: bytes, count: int) -> list[bytes]:
    """The leaf data of ``count`` whole lines. Searches all of them at once if each has one hash.

    Each line has at most one hash at its top level. So if all hashes are at a top level, and there
    are as many as lines, each line has one.
    """
    before, *parts = lines.split(_HASH_BEGINS)
    if len(parts) == count and (_lines_end_soon(parts) or _lines_begin_flat(before, parts)):
        hashes = _hashes(parts)
        if hashes is not None:
            return hashes
    return [audit_leaf(line) for line in lines.splitlines()]


def audit_leaf(line: bytes) -> bytes:
    """A line's leaf data: the 32 bytes of its entry's ``entry_hash``.

    So an auditor can compute the leaf from an entry's plain JSON with docs/audit.md alone. A line
    without a hash, which this system never writes, counts as 32 zero bytes.
    """
    before, _, after = line.partition(_HASH_BEGINS)
    if (found := _HASH.match(after)) and _HASH_BEGINS not in after:
        end = after[after.find(b"}}") :].rstrip(b"\n")
        if end == b"}}}" or _MAP_BEGINS not in before:  # as for a page, below
            return bytes.fromhex(found[1].decode())
    # A key of the requester's metadata may have the same name: only the top level counts.
    try:
        text = json.loads(line)["Item"]["entry_hash"]["S"]
        return bytes.fromhex(text) if re.fullmatch("[0-9a-f]{64}", text) else _NO_HASH
    except (ValueError, KeyError, TypeError, RecursionError):
        return _NO_HASH


def _lines_end_soon(parts: list[bytes]) -> bool:
    """Whether no map ends between each hash and the end of its line. Then it is in no map but the
    item.

    A map ends with ``}}``: its last value's brace, then its own. At the top level these are the
    item's, and only the line's own brace and a line break follow. No string contains a line break.
    """
    for part in parts:
        end = part.find(b"}}", _HASH_DIGITS)
        if part[end : end + len(_LINE_ENDS)] != _LINE_ENDS:
            return False
    return True


def _lines_begin_flat(before: bytes, parts: list[bytes]) -> bool:
    """Whether no map begins between the beginning of each line and its hash."""
    begins = (before, *(part.rpartition(b"\n")[2] for part in parts))
    return not any(_MAP_BEGINS in begin for begin in begins)


def _hashes(parts: list[bytes]) -> list[bytes] | None:
    """The hashes that the parts begin with; None unless each is 64 digits, and nothing more."""
    length, size = len(parts), _HASH_DIGITS + len(_HASH_ENDS)
    begins = b"".join([part[:size] for part in parts])
    ends = begins[_HASH_DIGITS::size], begins[_HASH_DIGITS + 1 :: size]
    if ends != (b'"' * length, b"}" * length):
        return None
    try:
        hashes = bytes.fromhex(begins.translate(_DIGITS_ONLY).decode())
        return list(struct.unpack("32s" * length, hashes))
    except (ValueError, struct.error):  # a hash with other characters, so there are fewer bytes
        return None


# --- JSON and back --------------------------------------------------------------------------------


def _export_json(export: Export) -> dict[str, Any]:
    return {
        "table": export.table,
        "tableArn": export.table_arn,
        "exportS3Prefix": export.root,
        "exportTime": export.export_time,
        "itemCount": export.item_count,
        "manifests": [_stored_json(file) for file in export.manifests],
        "dataFiles": [
            _stored_json(file)
            | {"size": file.size, "itemCount": file.item_count}
            | ({"merkleRoot": file.merkle_root} if file.merkle_root else {})
            for file in export.files
        ],
    }


def _stored_json(file: StoredFile) -> dict[str, Any]:
    return {"s3Object": file.key, "hashValue": file.sha256, "hashAlgorithm": HASH_ALGORITHM}


def _export(payload: Mapping[str, Any]) -> Export:
    return Export(
        table=_text(payload, "table"),
        table_arn=_text(payload, "tableArn"),
        root=_text(payload, "exportS3Prefix"),
        export_time=_text(payload, "exportTime"),
        item_count=_count(payload, "itemCount"),
        manifests=tuple(
            StoredFile(_text(each, "s3Object"), _text(each, "hashValue"))
            for each in payload["manifests"]
        ),
        files=tuple(
            DataFile(
                key=_text(each, "s3Object"),
                sha256=_text(each, "hashValue"),
                size=_count(each, "size"),
                item_count=_count(each, "itemCount"),
                merkle_root=_text(each, "merkleRoot") if "merkleRoot" in each else None,
            )
            for each in payload["dataFiles"]
        ),
    )


def _text(payload: Mapping[str, Any], name: str) -> str:
    value = payload[name]
    if not isinstance(value, str):
        raise DigestError(f"{name} is not text")
    return value


def _count(payload: Mapping[str, Any], name: str) -> int:
    value = payload[name]
    if type(value) is not int or value < 0:
        raise DigestError(f"{name} is not a count")
    return value
