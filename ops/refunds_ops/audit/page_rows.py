"""From a page of a table's items to the rows that are stored of it: most of the work of `verify`.

A pure function of the page, which any process can call.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
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

PARSED_AT_ONCE = 100
"""Items: parsed, a whole page would take ten times its size in each worker."""

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
    count = 0
    rows: dict[str, list[Columns]] = {}
    with _without_garbage_collection():
        for items in _items(lines):
            count += len(items)
            for name, columns in _ROWS[table](items).items():
                rows.setdefault(name, []).extend(columns)
    return PageRows(count, rows)


def _items(lines: bytes) -> Iterator[list[Wire]]:
    """Some items at a time. One call of the parser for many shares their attributes' names."""
    all_lines = lines.splitlines()
    for start in range(0, len(all_lines), PARSED_AT_ONCE):
        several = b",".join(all_lines[start : start + PARSED_AT_ONCE])
        yield [line["Item"] for line in json.loads(b"[%b]" % several)]


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    # A page is a tree of many small objects. Reference counts free them, and the collector would
    # only search them for cycles, again and again.
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _refunds(items: Iterable[Wire]) -> dict[str, list[Columns]]:
    return {
        "refunds": [
            _with_problem(row, row.version, row.amount_minor) for row in map(refund_row, items)
        ]
    }


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
            rows["entries"].append(_with_problem(row, row.amount_minor))
    return rows


_ROWS: Mapping[str, Callable[[Iterable[Wire]], dict[str, list[Columns]]]] = {
    "refunds": _refunds,
    "ledger": _ledgers,
    "audit": _entries,
}


def _with_problem(row: Columns, *integers: int | None) -> Columns:
    """A row as columns. Its problem fills the last two. ``integers``: those that may be large."""
    columns = (*row[:-1], *(row[-1] or _NO_PROBLEM))
    return storable(columns) if any(map(_is_large, integers)) else columns


_NO_PROBLEM = (None, None)


def storable(columns: Columns) -> Columns:
    """Columns that SQLite takes: its integers end at 2^63. No amount of ours is larger."""
    return tuple(str(value) if _is_large(value) else value for value in columns)


def _is_large(value: Any) -> bool:
    return type(value) is int and not -_LARGEST < value < _LARGEST


def entry_of(columns: Columns) -> EntryRow:
    return EntryRow(*_nested(columns))


def refund_of(columns: Columns) -> RefundRow:
    return RefundRow(*_nested(columns))


def ledger_of(columns: Columns) -> LedgerRow:
    return LedgerRow(*_nested(columns))


def _nested(columns: Columns) -> list[Any]:
    *values, kind, what = columns
    return [*values, (kind, what) if kind else None]
