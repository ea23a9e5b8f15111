"""The faults that the sandbox has been told to show."""

from __future__ import annotations

import json
import sqlite3

from refunds_devkit.sandbox.faults import ANY_OPERATION, Fault


class FaultStore:
    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def add(self, fault: Fault) -> Fault:
        fault_id = self._db.execute(
            """INSERT INTO faults (kind, operation, transaction_id, reference, remaining,
                   probability, seed, parameters, seeded)
               VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)""",
            (
                fault.kind,
                fault.operation,
                fault.transaction_id,
                fault.reference,
                fault.remaining,
                fault.probability,
                fault.seed,
                json.dumps(dict(fault.parameters)),
                fault.seeded,
            ),
        ).lastrowid
        row = self._db.execute("SELECT * FROM faults WHERE id = ?", (fault_id,)).fetchone()
        return _fault(row)

    def all(self) -> list[Fault]:
        return [_fault(row) for row in self._db.execute("SELECT * FROM faults ORDER BY id")]

    def remove(self, *, fault_id: int | None = None, seeded: bool = False) -> int:
        """Removes one fault, all scripted ones, or all seeded ones. Returns the number removed."""
        chosen = {"id": fault_id, "seeded": seeded}
        self._db.execute(
            """DELETE FROM fault_draws WHERE fault_id IN (
                   SELECT id FROM faults WHERE id = :id OR (:id IS NULL AND seeded = :seeded))""",
            chosen,
        )
        return self._db.execute(
            "DELETE FROM faults WHERE id = :id OR (:id IS NULL AND seeded = :seeded)", chosen
        ).rowcount

    def matching(
        self, operation: str, transaction_id: str | None, reference: str | None
    ) -> list[Fault]:
        """The faults that match the call: scripted before seeded, in order of scripting."""
        rows = self._db.execute(
            # Three terms, so that the index finds each: tests script thousands of faults.
            """SELECT * FROM faults
               WHERE (transaction_id = :payment AND (reference IS NULL OR reference = :reference)
                   OR transaction_id IS NULL AND reference IS NULL
                   OR transaction_id IS NULL AND reference = :reference)
                 AND operation IN (:operation, :any) AND (remaining IS NULL OR remaining > 0)
               ORDER BY seeded, id""",
            {
                "payment": transaction_id,
                "reference": reference,
                "operation": operation,
                "any": ANY_OPERATION,
            },
        )
        return [_fault(row) for row in rows]

    def draw(self, fault: Fault, subject: str) -> bool:
        """Whether the fault applies to this call. If so, uses it up by one call."""
        seen = 0
        if fault.probability < 1:
            seen = self._db.execute(
                """INSERT INTO fault_draws VALUES (?, ?, 1) ON CONFLICT (fault_id, subject)
                   DO UPDATE SET seen = seen + 1 RETURNING seen - 1""",
                (fault.id, subject),
            ).fetchone()[0]
        if not fault.strikes(subject, seen):
            return False
        if fault.remaining is not None:
            self._db.execute(
                "UPDATE faults SET remaining = remaining - 1 WHERE id = ?", (fault.id,)
            )
        return True


def _fault(row: sqlite3.Row) -> Fault:
    return Fault(
        kind=row["kind"],
        operation=row["operation"],
        transaction_id=row["transaction_id"],
        reference=row["reference"],
        remaining=row["remaining"],
        probability=row["probability"],
        seed=row["seed"],
        parameters=json.loads(row["parameters"]),
        seeded=bool(row["seeded"]),
        id=row["id"],
    )
