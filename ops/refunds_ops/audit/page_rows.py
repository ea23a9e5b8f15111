"""From a page of a table's items to the rows that are stored of it: most of the work of `verify`.

A pure function of the page, which any process can call.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from refunds_ops.audit.rows import (
    EntryRow,
    LedgerRow,
    RefundRow,
    Stray,
    entry_row,
    ledger_row,
    refund_row,
)

Wire = Mapping[str, Any]
Columns = tuple[Any, ...]

_LARGEST = 2**63


@dataclass(frozen=True)
class PageRows:
    """``rows`` by the name of their table in the row store. The page had ``count`` items."""

    count: int
    rows: Mapping[str, Sequence[Columns]]

    def __len__(self) -> int:
        return self.count


def page_rows(table: str, lines: bytes) -> PageRows:
    """Read data lines of ``refunds``, ``ledger`` or ``audit``."""
    items = page_items(lines)
    return PageRows(len(items), _ROWS[table](items))


def page_items(lines: bytes) -> list[Wire]:
    """The items of data lines. One call of the parser shares the attributes' names."""
    parsed = json.loads(b"[%b]" % b",".join(lines.splitlines()))
    return [line["Item"] for line in parsed]


def _refunds(items: Iterable[Wire]) -> dict[str, list[Columns]]:
    return {"refunds": [_with_problem(refund_row(item)) for item in items]}


def _ledgers(items: Iterable[Wire]) -> dict[str, list[Columns]]:
    ledgers, reservations = [], []
    for row, held in map(ledger_row, items):
        ledgers.append(_with_problem(row))
        reservations += [(each, row.transaction_id, amount) for each, amount in held.items()]
    return {"ledger": ledgers, "reservations": reservations}


def _entries(items: Iterable[Wire]) -> dict[str, list[Columns]]:
    rows: dict[str, list[Columns]] = {"entries": [], "strays": []}
    for row in map(entry_row, items):
        if isinstance(row, Stray):
            rows["strays"].append(row)
        else:
            rows["entries"].append(_with_problem(row))
    return rows


_ROWS: Mapping[str, Callable[[Iterable[Wire]], dict[str, list[Columns]]]] = {
    "refunds": _refunds,
    "ledger": _ledgers,
    "audit": _entries,
}


def _with_problem(row: Columns) -> Columns:
    """A row as columns. Its problem fills the last two."""
    *columns, problem = row
    return storable((*columns, *(problem or (None, None))))


def storable(columns: Columns) -> Columns:
    """Columns that SQLite takes: its integers end at 2^63. No amount of ours is larger."""
    return tuple(
        [
            str(value) if type(value) is int and not -_LARGEST < value < _LARGEST else value
            for value in columns
        ]
    )


def entry_of(columns: Columns) -> EntryRow:
    return EntryRow(*_nested(columns))


def refund_of(columns: Columns) -> RefundRow:
    return RefundRow(*_nested(columns))


def ledger_of(columns: Columns) -> LedgerRow:
    return LedgerRow(*_nested(columns))


def _nested(columns: Columns) -> list[Any]:
    *values, kind, what = columns
    return [*values, (kind, what) if kind else None]
