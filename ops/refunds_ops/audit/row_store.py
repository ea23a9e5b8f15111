"""Scanned rows in a temporary SQLite file, which joins any number of them in any order.

The file is deleted when the command ends. If the command is killed, the next one deletes it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from itertools import islice
from typing import Any

from refunds.gateways.contract import GatewayRefund, GatewayStatus
from refunds_ops.audit.page_rows import Columns, storable
from refunds_ops.audit.rows import EntryRow, LedgerRow, RefundRow, Stray
from refunds_ops.audit.scratch_folder import scratch_folder

_CACHE_KIB = 8 * 1024

_ENTRY = ", ".join(EntryRow._fields[:-1])  # A problem takes two columns.
_REFUND = ", ".join(RefundRow._fields[:-1])
_LEDGER = ", ".join(LedgerRow._fields[:-1])

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

    def __enter__(self) -> RowStore:
        with ExitStack() as opened:
            folder = opened.enter_context(scratch_folder("refunds-rows-"))
            self.path = folder / "rows.db"
            self._db = opened.enter_context(
                closing(sqlite3.connect(self.path, isolation_level=None))
            )
            # The file is temporary, so nothing needs to survive a crash.
            for pragma in (
                "journal_mode = OFF",
                "synchronous = OFF",
                "locking_mode = EXCLUSIVE",
                "temp_store = FILE",
                f"cache_size = -{_CACHE_KIB}",
                f"temp_store_directory = {_quoted(str(folder))}",
            ):
                self._db.execute(f"PRAGMA {pragma}")
            self._db.executescript(_SCHEMA)
            self._opened = opened.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def add(self, rows: Mapping[str, Sequence[Columns]]) -> None:
        """Store a page's rows, by the name of their table."""
        for table, columns in rows.items():
            self._insert(table, columns)

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
            "backup_refunds",
            [storable((row.refund_id, row.version, row.entry_hash)) for row in rows],
        )

    def add_backup_ledgers(self, rows: Iterable[tuple[LedgerRow, dict[str, int]]]) -> None:
        self._insert("backup_ledger", [(row.transaction_id, row.captured) for row, _ in rows])

    def add_gateway(self, refunds: Iterable[GatewayRefund]) -> None:
        """A list can show a refund twice when newer ones shift its pages. The later one counts."""
        self._insert(
            "gateway",
            [
                storable(
                    (
                        each.gateway_refund_id,
                        each.transaction_id,
                        each.refund_id,
                        each.amount_minor,
                        each.currency,
                        each.status.value,
                        each.other_payment_id,
                    )
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

    def refund_ranges(self, size: int) -> Iterator[tuple[str | None, str | None]]:
        """Ranges of about ``size`` refund ids, each after its first and up to its second, which
        together have every id. None: no bound."""
        larger = max("refunds", "entries", key=self.count)
        after = None
        for (refund_id,) in islice(
            self.ask(f"SELECT DISTINCT refund_id FROM {larger} ORDER BY refund_id"),  # noqa: S608
            size - 1,
            None,
            size,
        ):
            yield after, refund_id
            after = refund_id
        yield after, None

    def ledger_ranges(self, size: int) -> Iterator[tuple[int, int]]:
        """The numbers of the first and the last of every ``size`` rows of ledgers."""
        for first in range(1, self.count("ledger") + 1, size):
            yield first, first + size - 1

    def ask(self, question: str, *values: Any) -> Iterator[tuple[Any, ...]]:
        """The rows of an SQL query, read lazily."""
        with closing(self._db.cursor()) as cursor:
            yield from cursor.execute(question, values)

    def _insert(self, table: str, rows: Sequence[tuple[Any, ...]]) -> None:
        if not rows:
            return
        places = ", ".join("?" * len(rows[0]))
        self._db.execute("BEGIN")
        self._db.executemany(f"INSERT OR REPLACE INTO {table} VALUES ({places})", rows)  # noqa: S608
        self._db.execute("COMMIT")


def _quoted(text: str) -> str:
    """Text for a PRAGMA, which takes no parameters."""
    return "'" + text.replace("'", "''") + "'"
