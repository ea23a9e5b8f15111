"""Which refunds and payments of the scanned rows look wrong, and must be read again.

Each function opens the file of the rows itself, so that any process can call it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from refunds_ops.audit.checks import Story, check_ledger, check_story
from refunds_ops.audit.page_rows import Columns, entry_of, ledger_of, refund_of
from refunds_ops.audit.rows import RefundRow

_CACHE_KIB = 1024
_REFUND_COLUMNS = len(RefundRow._fields) + 1  # A problem takes two columns.


@dataclass(frozen=True)
class Suspect:
    """A refund, and the payments below which something of it was seen."""

    refund_id: str
    payments: frozenset[str]


@dataclass(frozen=True)
class Checked:
    """How many stories were checked, and the suspects among them."""

    count: int
    suspects: list[Suspect]

    def __len__(self) -> int:
        return self.count


def suspect_refunds(path: Path, after: str | None, until: str | None) -> Checked:
    """Check the refunds whose ids are in this range."""
    count, suspects = 0, []
    with _opened(path) as db:
        for story in _stories(db, after, until):
            count += 1
            if check_story(story):
                payments = {entry.transaction_id for entry in story.entries} | set(story.held)
                suspects.append(Suspect(story.refund_id, frozenset(payments)))
    return Checked(count, suspects)


def suspect_ledgers(path: Path, first: int, last: int) -> list[str]:
    """The payments whose balances look wrong among these rows."""
    question = (
        "SELECT ledger.*, coalesce((SELECT sum(amount) FROM reservations"
        " WHERE reservations.transaction_id = ledger.transaction_id), 0) FROM ledger"
        " WHERE rowid BETWEEN ? AND ? ORDER BY rowid"
    )
    with _opened(path) as db:
        return [
            ledger.transaction_id
            for *columns, reserved in _ask(db, question, first, last)
            if check_ledger(ledger := ledger_of(tuple(columns)), reserved)
        ]


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    # Nobody writes any more, so no lock is needed; and the writer's would not let anyone in.
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)) as db:
        db.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        yield db


def _stories(db: sqlite3.Connection, after: str | None, until: str | None) -> Iterator[Story]:
    """Every refund that has a record or an entry, with all its scanned rows."""
    within, bounds = "1", list[str]()
    if after is not None:
        within, bounds = f"{within} AND refund_id > ?", [*bounds, after]
    if until is not None:
        within, bounds = f"{within} AND refund_id <= ?", [*bounds, until]
    refunds = _Peekable(
        _ask(
            db,
            "SELECT * FROM refunds LEFT JOIN ledger"  # noqa: S608 - no value is part of it
            " ON ledger.transaction_id = refunds.transaction_id"
            f" WHERE {within} ORDER BY refund_id",
            *bounds,
        )
    )
    entries, reservations = (
        _Peekable(_ask(db, f"SELECT * FROM {table} WHERE {within} ORDER BY {order}", *bounds))  # noqa: S608 - the same
        for table, order in (("entries", "refund_id, version"), ("reservations", "refund_id"))
    )
    while (refund_id := _least(refunds.key(), entries.key())) is not None:
        stored = refunds.until(refund_id)
        refund, ledger = None, None
        if stored:
            refund = refund_of(stored[0][:_REFUND_COLUMNS])
            home = stored[0][_REFUND_COLUMNS:]
            ledger = ledger_of(home) if home[0] is not None else None
        yield Story(
            refund_id,
            refund,
            [entry_of(row) for row in entries.until(refund_id)],
            {row[1]: row[2] for row in reservations.until(refund_id) if row[0] == refund_id},
            ledger,
        )


def _ask(db: sqlite3.Connection, question: str, *values: Any) -> Iterator[Columns]:
    with closing(db.cursor()) as cursor:
        yield from cursor.execute(question, values)


class _Peekable:
    """Rows sorted by their first column, read one key at a time."""

    def __init__(self, rows: Iterator[Columns]) -> None:
        self._groups = groupby(rows, key=lambda row: row[0])
        self._next = next(self._groups, None)

    def key(self) -> str | None:
        return self._next[0] if self._next else None

    def until(self, key: str) -> list[Columns]:
        """The rows of all keys up to and with ``key``."""
        found: list[Columns] = []
        while self._next is not None and self._next[0] <= key:
            found += self._next[1]
            self._next = next(self._groups, None)
        return found


def _least(*keys: str | None) -> str | None:
    return min((key for key in keys if key is not None), default=None)
