"""What lies under a data file's key can be anything of any size: reading it ends early."""

from __future__ import annotations

import gzip
import hashlib
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import IO, Any

import pytest

from refunds.backup.digest import DataFile, DigestError, Export
from refunds_ops.backup.data_files import (
    DamagedError,
    check_files,
    checked_lines,
    plain_items,
    whole_lines,
)
from refunds_ops.backup.storage import BackupStorage
from refunds_ops.backup.verification import load

KEY = "refund-backups/2026/11/27/20261127T000000Z/audit/AWSDynamoDB/1/data/a.json.gz"
LINES = b'{"Item":{}}\n' * 3
PACKED = gzip.compress(LINES)
FILE = DataFile(KEY, hashlib.sha256(PACKED).hexdigest(), len(PACKED), 3)
MUCH = 8 * 1024 * 1024


class Endless(io.RawIOBase):
    """``start``, and then zeros for ever: gzip passes over zeros between its members."""

    def __init__(self, start: bytes) -> None:
        self._start = start
        self.given = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        assert self.given < MUCH, "reads on and on"
        part = self._start[self.given : self.given + len(buffer)] or bytes(len(buffer))
        buffer[: len(part)] = part
        self.given += len(part)
        return len(part)


class Storage:
    """One object, whatever the key."""

    bucket = None

    def __init__(self, body: Callable[[], IO[bytes]]) -> None:
        self._body = body

    def list(self, prefix: str = "") -> Iterator[Any]:
        return iter(())

    @contextmanager
    def open(self, key: str) -> Iterator[IO[bytes]]:
        yield self._body()


def storage_of(body: Callable[[], Any]) -> BackupStorage:
    return Storage(body)  # type: ignore[return-value]


READERS: dict[str, Callable[[BackupStorage], Any]] = {
    "checked_lines": lambda storage: list(checked_lines(storage, FILE)),
    "whole_lines": lambda storage: list(whole_lines(storage, FILE)),
    "check_files": lambda storage: check_files(
        storage, Export("audit", "arn", KEY.rpartition("/data/")[0], "", 3, (), (FILE,))
    ),
}


@pytest.mark.parametrize("reader", READERS)
def test_an_object_that_is_larger_than_its_digest_says_is_not_read_to_its_end(reader: str) -> None:
    with pytest.raises(DamagedError, match=f"larger than the {len(PACKED)} bytes of the digest"):
        READERS[reader](storage_of(lambda: Endless(PACKED)))


def test_a_small_object_that_unpacks_to_many_lines_is_not_read_to_its_end() -> None:
    bomb = gzip.compress(b"\n" * 100_000)
    file = DataFile(KEY, hashlib.sha256(bomb).hexdigest(), len(bomb), 3)
    lines = checked_lines(storage_of(lambda: io.BytesIO(bomb)), file)
    assert list(islice(lines, 3)) == [b""] * 3
    with pytest.raises(DamagedError, match="more items than the digest's 3"):
        next(lines)


def test_a_digest_that_is_too_large_is_not_read_to_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("refunds_ops.backup.storage.MAX_DIGEST_BYTES", 1024 * 1024)
    storage = storage_of(lambda: io.BufferedReader(Endless(b"{")))
    with pytest.raises(DigestError, match="larger than a digest of 1 MiB"):
        load(storage, 1)


def test_what_the_digest_says_is_read_whole() -> None:
    storage = storage_of(lambda: io.BytesIO(PACKED))
    assert len(list(checked_lines(storage, FILE))) == 3
    assert len(list(whole_lines(storage, FILE))) == 3


DIGITS = '{"N":"' + "9" * 5000 + '"}'
DEPTH = '{"M":{"a":' * 5000 + '{"S":""}' + "}}" * 5000
"""Where it ends depends on the version of Python: when it is parsed, or when it is made plain."""


@pytest.mark.parametrize(
    "value",
    [DIGITS, DEPTH, '{"N":"²"}', "[]"],
    ids=["digits", "depth", "superscript", "list"],
)
def test_an_item_that_costs_too_much_to_read_is_damage(value: str) -> None:
    packed = gzip.compress(f'{{"Item":{{"a":{value}}}}}\n'.encode())
    file = DataFile(KEY, hashlib.sha256(packed).hexdigest(), len(packed), 1)
    export = Export("audit", "arn", "root", "", 1, (), (file,))
    with pytest.raises(DamagedError, match=r"can't be read|is not an item"):
        list(plain_items(storage_of(lambda: io.BytesIO(packed)), export))
