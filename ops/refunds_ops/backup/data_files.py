"""Reads a backup: its data lines, hashed on the way, and its items as plain JSON."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import shutil
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from typing import IO, Any

from refunds.backup.digest import DataFile, Export, audit_leaf
from refunds.backup.export_format import zstd
from refunds.backup.merkle import MerkleTree
from refunds_ops.backup.storage import BackupStorage

CHUNK_BYTES = 1024 * 1024
MAX_LINE_BYTES = 4 * 1024 * 1024
"""The longest line. An item has at most 400 KB, and its escaped JSON several times as much."""

Wire = dict[str, Any]


class DamagedError(Exception):
    """A file's contents are not what its digest says."""


def lines(body: IO[bytes], key: str) -> Iterator[bytes]:
    """A data file's lines, without their ends. Raises ``DamagedError``."""
    try:
        with _unpacked(body, key) as plain:
            while line := plain.readline(MAX_LINE_BYTES):
                if not line.endswith(b"\n"):
                    raise DamagedError(f"{key} ends within a line, or has one that is too long")
                yield line[:-1]
    except (OSError, EOFError, zlib.error) as exc:
        raise DamagedError(f"{key} can't be unpacked: {exc}") from exc


def _unpacked(body: IO[bytes], key: str) -> IO[bytes]:
    if key.endswith(".zst"):
        opened: IO[bytes] = zstd().ZstdFile(body)
        return opened
    return io.BufferedReader(gzip.GzipFile(fileobj=body))


class Hashing(io.RawIOBase):
    """A stream that hashes what is read through it.

    ``file`` is the digest's entry that it must match. Raises ``DamagedError`` as soon as it is
    larger, because the object under a file's key may have any size.
    """

    def __init__(self, source: IO[bytes], file: DataFile | None = None) -> None:
        self._source = source
        self._file = file
        self._hash = hashlib.sha256()
        self.size = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        chunk = self._source.read(len(buffer))
        self._hash.update(chunk)
        self.size += len(chunk)
        if self._file is not None and self.size > self._file.size:
            raise DamagedError(
                f"{self._file.key} is larger than the {self._file.size} bytes of the digest"
            )
        buffer[: len(chunk)] = chunk
        return len(chunk)

    def hexdigest(self) -> str:
        """The hash of the whole source. Reads the rest first."""
        while self.read(CHUNK_BYTES):
            pass
        return self._hash.hexdigest()


def checked_lines(storage: BackupStorage, file: DataFile) -> Iterator[bytes]:
    """A data file's lines; raises ``DamagedError`` after the last when it is not the digest's.

    So the caller learns of damage only at the end. Raises ``AbsentError``.
    """
    with storage.open(file.key) as body:
        hashing = Hashing(body, file)
        tree = MerkleTree() if file.merkle_root else None
        count = 0
        buffered = io.BufferedReader(hashing, CHUNK_BYTES)
        for line in lines(buffered, file.key):
            count += 1
            if count > file.item_count:
                # Checked for each line: a few kilobytes may unpack to millions of lines.
                raise DamagedError(f"{file.key} has more items than the digest's {file.item_count}")
            if tree:
                tree.add(audit_leaf(line))
            yield line
        if hashing.hexdigest() != file.sha256:
            raise DamagedError(f"{file.key}: its hash is not the digest's")
        if count != file.item_count:
            raise DamagedError(f"{file.key} has {count} items; the digest says {file.item_count}")
        if tree and tree.root().hex() != file.merkle_root:
            raise DamagedError(f"{file.key}: its Merkle root is not the digest's")


def whole_lines(storage: BackupStorage, file: DataFile) -> Iterator[bytes]:
    """A data file's lines, once the complete file is known to have the digest's hash.

    This is for callers that can't undo what they do with a line. Raises ``DamagedError`` and
    ``AbsentError``.
    """
    with tempfile.TemporaryFile() as spool:
        with storage.open(file.key) as body:
            hashing = Hashing(body, file)
            shutil.copyfileobj(hashing, spool, CHUNK_BYTES)
            if hashing.hexdigest() != file.sha256:
                raise DamagedError(f"{file.key}: its hash is not the digest's")
        spool.seek(0)
        yield from lines(spool, file.key)


def check_files(storage: BackupStorage, export: Export) -> None:
    """Check that ``data/``, which ImportTable reads completely, contains exactly what the digest
    names.

    Raises ``DamagedError`` and ``AbsentError``.
    """
    named = {file.key for file in export.files}
    for stored in storage.list(export.data_prefix):
        if stored.key not in named:
            raise DamagedError(f"{stored.key} is among the data, but the digest doesn't name it")
    for file in export.files:
        with storage.open(file.key) as body:
            if Hashing(body, file).hexdigest() != file.sha256:
                raise DamagedError(f"{file.key}: its hash is not the digest's")


def items(storage: BackupStorage, export: Export) -> Iterator[Wire]:
    """An export's items in wire form, file by file. Raises ``DamagedError``, ``AbsentError``."""
    for file in export.files:
        for line in checked_lines(storage, file):
            yield item_of(line, file.key)


def plain_items(storage: BackupStorage, export: Export) -> Iterator[Wire]:
    """The same as plain JSON: see ``plain``."""
    for item in items(storage, export):
        try:
            row = plain_item(item)
        except (ValueError, TypeError, AttributeError, RecursionError) as exc:
            raise DamagedError(f"{export.root} has an item that can't be read") from exc
        yield row


def item_of(line: bytes, key: str) -> Wire:
    try:
        item = json.loads(line)["Item"]
    except (ValueError, KeyError, TypeError, RecursionError) as exc:
        raise DamagedError(f"{key} has a line that is not an item") from exc
    if not isinstance(item, dict):
        raise DamagedError(f"{key} has a line that is not an item")
    return item


def plain(wire: Mapping[str, Any]) -> Any:  # noqa: PLR0911 - one case a type of DynamoDB
    """An attribute's value for people: numbers unchanged, bytes in base64, sets as sorted lists.

    Unlike ``refunds.tables.wire`` it takes every type that DynamoDB has. Raises ``ValueError``.
    """
    ((kind, value),) = wire.items()
    match kind:
        case "S" | "BOOL" | "B":
            return value
        case "N":
            return _number(value)
        case "NULL":
            return None
        case "M":
            return plain_item(value)
        case "L":
            return [plain(each) for each in value]
        case "SS" | "BS":
            return sorted(value)
        case "NS":
            return [_number(each) for each in sorted(value, key=float)]
    raise ValueError(f"unknown attribute type {kind}")


def plain_item(item: Mapping[str, Any]) -> dict[str, Any]:
    return {name: plain(value) for name, value in item.items()}


def _number(text: str) -> int | str:
    # A fraction stays text, because a float would round its up to 38 digits.
    return int(text) if text.removeprefix("-").isdigit() else text


def bytes_for_boto(wire: Mapping[str, Any]) -> Any:
    """The same value with base64 text turned into bytes, as boto3's client takes it."""
    ((kind, value),) = wire.items()
    match kind:
        case "B":
            return {"B": base64.b64decode(value)}
        case "BS":
            return {"BS": [base64.b64decode(each) for each in value]}
        case "M":
            return {"M": item_for_boto(value)}
        case "L":
            return {"L": [bytes_for_boto(each) for each in value]}
    return dict(wire)


def item_for_boto(item: Mapping[str, Any]) -> dict[str, Any]:
    return {name: bytes_for_boto(value) for name, value in item.items()}
