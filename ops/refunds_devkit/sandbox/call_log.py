"""The sandbox's log of calls, which tests read."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from refunds_devkit.sandbox.contract import time_text

MAX_CALLS_KEPT = 200_000


@dataclass(frozen=True)
class Call:
    """A line of the call log: the request, and the response's status (None: no response)."""

    operation: str
    status: int | None
    transaction_id: str | None = None
    reference: str | None = None
    idempotency_key: str | None = None
    replayed: bool = False
    faults: Sequence[str] = ()


class CallLog:
    """Keeps the last 200,000 calls."""

    def __init__(self, db: sqlite3.Connection, now: Callable[[], int]) -> None:
        self._db = db
        self._now = now

    def add(self, call: Call) -> None:
        seq = self._db.execute(
            """INSERT INTO calls (at, operation, transaction_id, reference, idempotency_key,
                   status, replayed, faults) VALUES (?, ?, ?, ?, ?, ?, ?, ?)""",
            (
                self._now(),
                call.operation,
                call.transaction_id,
                call.reference,
                call.idempotency_key,
                call.status,
                call.replayed,
                json.dumps(list(call.faults)),
            ),
        ).lastrowid
        assert seq is not None
        if seq % 1000 == 0:
            self._db.execute("DELETE FROM calls WHERE seq <= ?", (seq - MAX_CALLS_KEPT,))

    def read(self, filters: Mapping[str, str | None]) -> list[dict[str, Any]]:
        return [
            {
                **dict(row),
                "at": time_text(row["at"]),
                "replayed": bool(row["replayed"]),
                "faults": json.loads(row["faults"]),
            }
            for row in filtered(self._db, "calls", filters)
        ]


def filtered(
    db: sqlite3.Connection, table: str, filters: Mapping[str, str | None]
) -> list[sqlite3.Row]:
    given = {name: value for name, value in filters.items() if value is not None}
    where = " AND ".join(["1 = 1", *(f"{name} = ?" for name in given)])
    return db.execute(
        f"SELECT * FROM {table} WHERE {where} ORDER BY seq",  # noqa: S608 - fixed names
        list(given.values()),
    ).fetchall()
