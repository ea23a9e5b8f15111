"""The tables of a backup: how a restore creates them, and how their rows are read and compared."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from refunds.backup.table_scan import PageReader, ReadLimit, Source
from refunds.domain.refund import AUDITED
from refunds.tables.refund_indexes import DAY_INDEX, USER_INDEX
from refunds.tables.refunds import OPEN_INDEX
from refunds_ops.backup.scratch_database import scratch_database

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

Wire = dict[str, Any]

KEYS: Mapping[str, tuple[str, ...]] = {
    "refunds": ("refund_id",),
    "ledger": ("transaction_id",),
    "audit": ("transaction_id", "entry_id"),
}
"""The tables that a backup has, and their keys, all strings. A test compares them with the
template."""


def creation_parameters(kind: str, name: str, key_arn: str | None = None) -> Wire:
    """The parameters of CreateTable and ImportTable for a new table of a kind."""
    attributes = list(KEYS[kind])
    parameters: Wire = {
        "TableName": name,
        "KeySchema": _schema(KEYS[kind]),
        "BillingMode": "PAY_PER_REQUEST",
    }
    if kind == "refunds":
        indexes = {
            OPEN_INDEX: ("open_shard", "check_at"),
            USER_INDEX: ("user_id", "created_at"),
            DAY_INDEX: ("day_shard", "created_at"),
        }
        attributes += ["open_shard", "check_at", "created_at", "user_id", "day_shard"]
        parameters["GlobalSecondaryIndexes"] = [
            {
                "IndexName": index,
                "KeySchema": _schema(key),
                "Projection": {"ProjectionType": "KEYS_ONLY"},
            }
            for index, key in indexes.items()
        ]
    if key_arn:
        parameters["SSESpecification"] = {
            "Enabled": True,
            "SSEType": "KMS",
            "KMSMasterKeyId": key_arn,
        }
    parameters["AttributeDefinitions"] = [
        {"AttributeName": attribute, "AttributeType": "S"} for attribute in attributes
    ]
    return parameters


def _schema(names: tuple[str, ...]) -> list[dict[str, str]]:
    return [
        {"AttributeName": name, "KeyType": kind}
        for name, kind in zip(names, ("HASH", "RANGE"), strict=False)
    ]


class TableReader:
    """Reads whole tables, with its own client (see ``PageReader``)."""

    def __init__(self, client: DynamoDBClient, limit: ReadLimit) -> None:
        self._reader = PageReader(client, limit)

    def items(self, source: Source) -> Iterator[Wire]:
        """A table's items in wire form, bytes in base64 as in a backup."""
        start = None
        while True:
            page = self._reader.read(source, 0, 1, start)
            for line in page.lines.splitlines():
                yield json.loads(line)["Item"]
            if (start := page.last_key) is None:
                return


# --- Comparing ------------------------------------------------------------------------------------

BUCKETS = 65_536
MAX_LISTED_KEYS = 1000

View = Callable[[Wire], Wire]


def everything(item: Wire) -> Wire:
    return item


def audited(item: Wire) -> Wire:
    """A refund without the attributes that the protocol changes without a new version."""
    return {name: item[name] for name in AUDITED if name in item}


@dataclass
class Differences:
    """Keys of rows that one side lacks or has with other contents; at most 1,000 of a kind are
    listed."""

    rows: int = 0
    """The number of rows of the expected side."""
    lacking: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    different: list[str] = field(default_factory=list)
    since: int = 0
    """Rows that differ because they were written after the cut-off."""

    @property
    def none(self) -> bool:
        return not (self.lacking or self.unexpected or self.different)


def compare(
    kind: str,
    expected: Callable[[], Iterator[Wire]],
    actual: Callable[[], Iterator[Wire]],
    *,
    view: View = everything,
    since: Callable[[Wire], bool] = lambda item: False,
) -> Differences:
    """How the ``actual`` rows differ from the ``expected`` ones, in any order.

    ``since`` tells whether an actual row was written after the cut-off, so that it may differ. Each
    side is hashed into 65,536 buckets. Only rows of buckets that differ are read again, and their
    hashes are kept on disk: memory stays flat however many rows differ.
    """
    found = Differences()
    unequal = _unequal_buckets(kind, expected(), actual(), view, found)
    if not unequal:
        return found

    def hashed(items: Iterator[Wire]) -> Iterator[tuple[Wire, str, bytes]]:
        for item in items:
            key = row_key(kind, item)
            if _bucket(key) in unequal:
                yield item, key, _digest(view(item))

    with scratch_database() as database:
        hashes = _HashesOnDisk(database, ((key, each) for _, key, each in hashed(expected())))
        for item, key, digest in hashed(actual()):
            expected_digest = hashes.pop(key)
            if expected_digest == digest:
                continue
            if since(item):
                found.since += 1
            else:
                _list(found.unexpected if expected_digest is None else found.different, key)
        for key in hashes.left(MAX_LISTED_KEYS):
            _list(found.lacking, key)
    return found


def _unequal_buckets(
    kind: str, expected: Iterator[Wire], actual: Iterator[Wire], view: View, found: Differences
) -> set[int]:
    sums = _Buckets(kind, view)
    for item in expected:
        found.rows += 1
        sums.add(item, 1)
    for item in actual:
        sums.add(item, -1)
    return sums.unequal()


class _HashesOnDisk:
    """The hash of each row by its key."""

    def __init__(self, database: sqlite3.Connection, hashes: Iterable[tuple[str, bytes]]) -> None:
        self._database = database
        database.execute("CREATE TABLE hashes (key TEXT PRIMARY KEY, digest BLOB) WITHOUT ROWID")
        database.executemany("INSERT OR REPLACE INTO hashes VALUES (?, ?)", hashes)

    def pop(self, key: str) -> bytes | None:
        """The row's hash, which is removed: a second row with the same key is then unexpected."""
        found = self._database.execute("SELECT digest FROM hashes WHERE key = ?", (key,)).fetchone()
        if found is None:
            return None
        self._database.execute("DELETE FROM hashes WHERE key = ?", (key,))
        return bytes(found[0])

    def left(self, limit: int) -> list[str]:
        rows = self._database.execute("SELECT key FROM hashes ORDER BY key LIMIT ?", (limit,))
        return [str(key) for (key,) in rows]


class _Buckets:
    """The sums of rows' hashes, by bucket: equal for equal rows in any order."""

    def __init__(self, kind: str, view: View) -> None:
        self._kind = kind
        self._view = view
        self._sums = [0] * BUCKETS

    def add(self, item: Wire, times: int) -> None:
        bucket = _bucket(row_key(self._kind, item))
        self._sums[bucket] += times * int.from_bytes(_digest(self._view(item)))

    def unequal(self) -> set[int]:
        return {bucket for bucket, total in enumerate(self._sums) if total}


def row_key(kind: str, item: Wire) -> str:
    return " ".join(item[name]["S"] for name in KEYS[kind])


def _bucket(key: str) -> int:
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=2).digest())


def _digest(item: Wire) -> bytes:
    text = json.dumps(item, sort_keys=True, separators=(",", ":"))
    if '"SS":[' in text or '"NS":[' in text or '"BS":[' in text:
        text = json.dumps(_in_order(item), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).digest()


def _in_order(value: Any) -> Any:
    """Sets have no order, and each engine returns them in a different one."""
    match value:
        case {"SS": list() as members} | {"NS": list() as members} | {"BS": list() as members}:
            return {next(iter(value)): sorted(members)}
        case dict():
            return {name: _in_order(each) for name, each in value.items()}
        case list():
            return [_in_order(each) for each in value]
    return value


def _list(keys: list[str], key: str) -> None:
    if len(keys) < MAX_LISTED_KEYS:
        keys.append(key)
