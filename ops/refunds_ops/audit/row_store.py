"""Scanned rows in a temporary SQLite file, which joins any number of them in any order.

The file is deleted when the command ends.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import astuple, fields
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import Any

from refunds.gateways.contract import GatewayRefund, GatewayStatus
from refunds_ops.audit.checks import Story
from refunds_ops.audit.rows import EntryRow, LedgerRow, RefundRow, Stray

_CACHE_KIB = 16 * 1024

_ENTRY = ", ".join(field.name for field in fields(EntryRow)[:-1])
_REFUND = ", ".join(field.name for field in fields(RefundRow)[:-1])
_LEDGER = ", ".join(field.name for field in fields(LedgerRow)[:-1])
_REFUND_COLUMNS = len(fields(RefundRow)) + 1  # A problem takes two columns.

_SCHEMA = f"""
CREATE TABLE entries ({_ENTRY}, kind, what);
CREATE TABLE refunds ({_REFUND}, kind, what);
CREATE TABLE ledger ({_LEDGER}, kind, what);
CREATE TABLE strays (transaction_id, entry_id);
CREATE TABLE reservations (refund_id, transaction_id, amount);
CREATE TABLE backup_entries
  (refund_id, version, transaction_id, entry_hash, recorded_at, rebuilt);
CREATE TABLE backup_refunds (refund_id, version, entry_hash);
CREATE TABLE backup_ledger (transaction_id, captured);
CREATE TABLE gateway
  (gateway_refund_id, transaction_id, reference, amount, currency, status, other_payment_id,
   UNIQUE (gateway_refund_id, transaction_id, reference));
"""

_INDEXES = """
CREATE INDEX entries_by_refund ON entries (refund_id, version);
CREATE INDEX refunds_by_id ON refunds (refund_id);
CREATE INDEX ledger_by_id ON ledger (transaction_id);
CREATE INDEX reservations_by_refund ON reservations (refund_id);
CREATE INDEX reservations_by_payment ON reservations (transaction_id);
CREATE INDEX backup_entries_by_refund ON backup_entries (refund_id, version);
CREATE INDEX gateway_by_reference ON gateway (reference);
CREATE INDEX gateway_by_payment ON gateway (transaction_id);
"""


class RowStore:
    """A context manager: the file exists within it."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="refunds-verify-")
        self._db = sqlite3.connect(Path(self._folder.name) / "rows.db", isolation_level=None)
        # The file is temporary, so nothing needs to survive a crash.
        for pragma in (
            "journal_mode = OFF",
            "synchronous = OFF",
            "locking_mode = EXCLUSIVE",
            "temp_store = FILE",
            f"cache_size = -{_CACHE_KIB}",
        ):
            self._db.execute(f"PRAGMA {pragma}")
        self._db.execute(f"PRAGMA temp_store_directory = '{self._folder.name}'")
        self._db.executescript(_SCHEMA)

    def __enter__(self) -> RowStore:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._db.close()
        self._folder.cleanup()

    def add_entries(self, rows: Iterable[EntryRow | Stray]) -> None:
        entries: list[tuple[Any, ...]] = []
        strays: list[tuple[Any, ...]] = []
        for row in rows:
            (strays if isinstance(row, Stray) else entries).append(_flat(row))
        self._insert("entries", entries)
        self._insert("strays", strays)

    def add_refunds(self, rows: Iterable[RefundRow]) -> None:
        self._insert("refunds", [_flat(row) for row in rows])

    def add_ledgers(self, rows: Iterable[tuple[LedgerRow, dict[str, int]]]) -> None:
        ledgers, reservations = [], []
        for row, held in rows:
            ledgers.append(_flat(row))
            reservations += [(each, row.transaction_id, amount) for each, amount in held.items()]
        self._insert("ledger", ledgers)
        self._insert("reservations", reservations)

    def add_backup_entries(self, rows: Iterable[EntryRow | Stray]) -> None:
        self._insert(
            "backup_entries",
            [
                (
                    row.refund_id,
                    row.version,
                    row.transaction_id,
                    row.entry_hash,
                    row.recorded_at,
                    row.rebuilt,
                )
                for row in rows
                if isinstance(row, EntryRow)
            ],
        )

    def add_backup_refunds(self, rows: Iterable[RefundRow]) -> None:
        self._insert(
            "backup_refunds", [(row.refund_id, row.version, row.entry_hash) for row in rows]
        )

    def add_backup_ledgers(self, rows: Iterable[tuple[LedgerRow, dict[str, int]]]) -> None:
        self._insert("backup_ledger", [(row.transaction_id, row.captured) for row, _ in rows])

    def add_gateway(self, refunds: Iterable[GatewayRefund]) -> None:
        """A list can show a refund twice when newer ones shift its pages. The later one counts."""
        self._insert(
            "gateway",
            [
                (
                    each.gateway_refund_id,
                    each.transaction_id,
                    each.refund_id,
                    each.amount_minor,
                    each.currency,
                    each.status.value,
                    each.other_payment_id,
                )
                for each in refunds
            ],
        )

    def listed(self, column: str, value: str) -> list[GatewayRefund]:
        """The refunds in the gateway's list with this ``reference`` or ``transaction_id``."""
        question = f"SELECT * FROM gateway WHERE {column} = ? ORDER BY rowid"  # noqa: S608
        return [
            GatewayRefund(
                gateway_id,
                payment,
                reference,
                amount,
                currency,
                GatewayStatus(status),
                other_payment_id=other,
            )
            for gateway_id, payment, reference, amount, currency, status, other in self.ask(
                question, value
            )
        ]

    def index(self) -> None:
        """Call this after the last row and before the first query."""
        self._db.executescript(_INDEXES)

    def count(self, table: str) -> int:
        number: int = self._db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608
        return number

    def strays(self) -> Iterator[Stray]:
        for row in self.ask("SELECT transaction_id, entry_id FROM strays"):
            yield Stray(*row)

    def stories(self) -> Iterator[Story]:
        """Every refund that has a record or an entry, with all its scanned rows."""
        refunds = _Peekable(
            self.ask(
                "SELECT * FROM refunds LEFT JOIN ledger"
                " ON ledger.transaction_id = refunds.transaction_id ORDER BY refund_id"
            )
        )
        entries = _Peekable(self.ask("SELECT * FROM entries ORDER BY refund_id, version"))
        reservations = _Peekable(self.ask("SELECT * FROM reservations ORDER BY refund_id"))
        while (refund_id := _least(refunds.key(), entries.key())) is not None:
            stored = [
                (RefundRow(*_nested(row[:_REFUND_COLUMNS])), row[_REFUND_COLUMNS:])
                for row in refunds.until(refund_id)
            ]
            refund, ledger = stored[0] if stored else (None, (None,))
            yield Story(
                refund_id,
                refund,
                [EntryRow(*_nested(row)) for row in entries.until(refund_id)],
                {row[1]: row[2] for row in reservations.until(refund_id) if row[0] == refund_id},
                LedgerRow(*_nested(ledger)) if ledger[0] is not None else None,
            )

    def ledgers(self) -> Iterator[tuple[LedgerRow, int]]:
        """Every payment's balance with the sum of its reservations."""
        for *row, reserved in self.ask(
            "SELECT ledger.*, coalesce((SELECT sum(amount) FROM reservations"
            " WHERE reservations.transaction_id = ledger.transaction_id), 0) FROM ledger"
        ):
            yield LedgerRow(*_nested(row)), reserved

    def ask(self, question: str, *values: Any) -> Iterator[tuple[Any, ...]]:
        """The rows of an SQL query, read lazily."""
        with closing(self._db.cursor()) as cursor:
            yield from cursor.execute(question, values)

    def _insert(self, table: str, rows: Sequence[tuple[Any, ...]]) -> None:
        if not rows:
            return
        places = ", ".join("?" * len(rows[0]))
        stored = (tuple(map(_storable, row)) for row in rows)
        self._db.execute("BEGIN")
        self._db.executemany(f"INSERT OR REPLACE INTO {table} VALUES ({places})", stored)  # noqa: S608
        self._db.execute("COMMIT")


class _Peekable:
    """Rows sorted by their first column, read one key at a time."""

    def __init__(self, rows: Iterator[tuple[Any, ...]]) -> None:
        self._groups = groupby(rows, key=lambda row: row[0])
        self._next = next(self._groups, None)

    def key(self) -> str | None:
        return self._next[0] if self._next else None

    def until(self, key: str) -> Iterator[tuple[Any, ...]]:
        """The rows of all keys up to and with ``key``."""
        while self._next is not None and self._next[0] <= key:
            yield from self._next[1]
            self._next = next(self._groups, None)


def _least(*keys: str | None) -> str | None:
    return min((key for key in keys if key is not None), default=None)


def _flat(row: Any) -> tuple[Any, ...]:
    """A row as columns. Its problem fills the last two."""
    if isinstance(row, Stray):
        return astuple(row)
    *columns, problem = (getattr(row, field.name) for field in fields(row))
    return (*columns, *(problem or (None, None)))


def _storable(value: Any) -> Any:
    # SQLite's integers end at 2^63. No amount of ours is larger.
    return str(value) if isinstance(value, int) and abs(value) >= 2**63 else value


def _nested(columns: Sequence[Any]) -> list[Any]:
    *values, kind, what = columns
    return [*values, (kind, what) if kind else None]
