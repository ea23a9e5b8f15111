"""How a refund of the sandbox comes to its end, and the movements of money that this makes."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from refunds_devkit.sandbox.outcomes import Outcome


class Settlements:
    def __init__(self, db: sqlite3.Connection, now: Callable[[], int]) -> None:
        self._db = db
        self._now = now

    def begin(self, row: sqlite3.Row, outcome: Outcome) -> None:
        """Moves the money of a new refund, if it succeeded at once, and notes its later status."""
        if outcome.status == "succeeded":
            self._move(row, "out", row["created_at"])
        if outcome.later is not None:
            later = outcome.later
            self._db.execute(
                "INSERT INTO settlements VALUES (?, ?, ?, ?, ?)",
                (
                    row["seq"],
                    row["created_at"] + later.after_micros,
                    later.status,
                    later.failure_code,
                    later.failure_message,
                ),
            )

    def apply_due(self) -> None:
        """Applies all changes of status that are due. Called before every read, so that a read
        depends on the clock alone."""
        rows = self._db.execute(
            """SELECT s.at, s.status AS becomes, s.failure_code AS code,
                   s.failure_message AS message, r.*
               FROM settlements s JOIN refunds r ON r.seq = s.refund_seq
               WHERE s.at <= ? ORDER BY s.at, r.seq""",
            (self._now(),),
        ).fetchall()
        for row in rows:
            self.settle(row, row["becomes"], row["code"], row["message"], row["at"])

    def settle(
        self, row: sqlite3.Row, status: str, code: str | None, message: str | None, at: int
    ) -> None:
        self._db.execute("DELETE FROM settlements WHERE refund_seq = ?", (row["seq"],))
        self._db.execute(
            """UPDATE refunds SET status = ?, failure_code = ?, failure_message = ?,
               updated_at = ? WHERE seq = ?""",
            (status, code, message, at, row["seq"]),
        )
        if status == "succeeded":
            self._move(row, "out", at)
        elif row["status"] == "succeeded":
            self._move(row, "back", at)

    def _move(self, row: sqlite3.Row, direction: str, at: int) -> None:
        self._db.execute(
            """INSERT INTO movements (refund_id, transaction_id, reference, direction, amount,
               currency, created_at) VALUES (?, ?, ?, ?, ?, ?, ?)""",
            (
                row["id"],
                row["transaction_id"],
                row["reference"],
                direction,
                row["amount"],
                row["currency"],
                at,
            ),
        )
