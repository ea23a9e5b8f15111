"""Writes a backup as plain JSON, CSV or Parquet."""

from __future__ import annotations

import csv
import importlib
import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any

from refunds.backup.digest import Export
from refunds.tables.ledger import RESERVATION
from refunds_ops.backup.data_files import plain_items
from refunds_ops.backup.storage import BackupStorage
from refunds_ops.errors import NotReadyError

TABLES = ("refunds", "ledger", "audit")
FORMATS = ("csv", "jsonl", "parquet")
ROWS_AT_ONCE = 10_000

Row = dict[str, Any]


def write(storage: BackupStorage, export: Export, format_: str, file: Path | None) -> int:
    """Write an export's rows to ``file``, or to stdout without one. Returns how many there were.

    Raises ``DamagedError`` at the end if the backup does not match its digest, and
    ``NotReadyError`` if Parquet's library is missing.
    """

    def rows() -> Iterator[Row]:
        plain = plain_items(storage, export)
        in_columns = export.table == "ledger" and format_ != "jsonl"
        return map(_with_reservations, plain) if in_columns else plain

    if format_ == "parquet":
        assert file is not None
        return _parquet(rows, file)
    with ExitStack() as opened:
        out = opened.enter_context(file.open("w", newline="")) if file else sys.stdout
        if format_ == "csv":
            return _csv(rows, out)
        count = 0
        for row in rows():
            # ASCII: control characters of a row must not reach a terminal.
            out.write(json.dumps(row) + "\n")
            count += 1
        return count


def _with_reservations(row: Row) -> Row:
    """A ledger's row with one column for its reservations. A column for each refund would make a
    table of refunds times payments."""
    held = {
        name.removeprefix(RESERVATION): value
        for name, value in row.items()
        if name.startswith(RESERVATION)
    }
    others = {name: value for name, value in row.items() if not name.startswith(RESERVATION)}
    return others | {"reservations": held}


def _csv(rows: Any, out: Any) -> int:
    # Items can have different attributes, so the first pass collects the columns.
    columns: dict[str, None] = {}
    for row in rows():
        columns |= dict.fromkeys(row)
    writer = csv.writer(out)
    writer.writerow(columns)
    count = 0
    for row in rows():
        writer.writerow([_cell(row.get(name)) for name in columns])
        count += 1
    return count


def _cell(value: Any) -> Any:
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    # A spreadsheet would execute text that begins like a formula.
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return f"'{value}"
    return value


def _parquet(rows: Any, file: Path) -> int:
    try:
        pa = importlib.import_module("pyarrow")
        parquet = importlib.import_module("pyarrow.parquet")
    except ImportError as exc:
        raise NotReadyError(
            "Parquet needs the package pyarrow, which is not installed.",
            ".venv/bin/pip install pyarrow, or --format csv",
        ) from exc
    # A column of whole numbers that all fit keeps them as numbers. Any other column becomes JSON
    # text.
    is_whole: dict[str, bool] = {}
    for row in rows():
        for name, value in row.items():
            is_whole[name] = is_whole.get(name, True) and _is_int64(value)
    schema = pa.schema(
        [(name, pa.int64() if whole else pa.string()) for name, whole in is_whole.items()]
    )
    count, left = 0, rows()
    with parquet.ParquetWriter(file, schema) as writer:
        while chunk := list(islice(left, ROWS_AT_ONCE)):
            columns = {
                name: [row.get(name) if whole else _text(row.get(name)) for row in chunk]
                for name, whole in is_whole.items()
            }
            writer.write_table(pa.table(columns, schema=schema))
            count += len(chunk)
    return count


def _is_int64(value: Any) -> bool:
    return value is None or (type(value) is int and -(2**63) <= value < 2**63)


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)
