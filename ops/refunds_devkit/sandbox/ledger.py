"""The gateway's ledger in one SQLite file: payments, refunds and movements of money.

One thread uses one connection. A read whose result decides a write shares one `transaction()`
(BEGIN IMMEDIATE) with it, so a second process on the same file cannot write in between.
Times are microseconds since 1970 on the sandbox's clock, which tests can advance.
"""

from __future__ import annotations

import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from refunds_devkit.sandbox.call_log import CallLog, filtered
from refunds_devkit.sandbox.contract import (
    MAX_AMOUNT,
    Page,
    RefundCreate,
    RefusedError,
    cursor_text,
    time_text,
)
from refunds_devkit.sandbox.fault_store import FaultStore
from refunds_devkit.sandbox.key_store import KeyStore
from refunds_devkit.sandbox.outcomes import Outcome
from refunds_devkit.sandbox.schema import APPLICATION_ID, RESET, SCHEMA, SCHEMA_VERSION
from refunds_devkit.sandbox.settlements import Settlements

BUSY_SECONDS = 10.0
MAX_ADVANCE_MICROS = 20 * 365 * 24 * 3600 * 1_000_000


class NotOurDatabaseError(Exception):
    """The file is not a sandbox ledger, or is one of another version."""


class Ledger:
    """Opens `path`, or creates it. ":memory:" keeps nothing.

    `real_micros` is the clock without the offset. Raises NotOurDatabaseError, sqlite3.Error.
    """

    def __init__(
        self, path: str | Path = ":memory:", real_micros: Callable[[], int] | None = None
    ) -> None:
        self._real_micros = real_micros or (lambda: time.time_ns() // 1000)
        if str(path) != ":memory:":
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        # One thread opens it and starts the server; another runs the server.
        self._db = sqlite3.connect(
            str(path), timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        self._db.row_factory = sqlite3.Row
        try:
            self._open(path)
        except BaseException:
            self._db.close()
            raise
        self.settlements = Settlements(self._db, self.now)
        self.keys = KeyStore(self._db, self.now)
        self.faults = FaultStore(self._db)
        self.calls = CallLog(self._db, self.now)

    def _open(self, path: str | Path) -> None:
        try:
            application_id = self._pragma("application_id")
            tables = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        except sqlite3.DatabaseError as exc:
            raise NotOurDatabaseError(f"{path} is not an SQLite database, or not readable") from exc
        if tables and application_id != APPLICATION_ID:
            raise NotOurDatabaseError(f"{path} is an SQLite database of something else")
        self._db.execute("PRAGMA journal_mode = WAL")
        # A crash of the process loses nothing. A crash of the machine can.
        self._db.execute("PRAGMA synchronous = NORMAL")
        with self.transaction():
            if not self._pragma("user_version"):
                for statement in SCHEMA.split(";"):
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            # A call that was running when the last server ended did nothing, so its key is free.
            self._db.execute("DELETE FROM idempotency_keys WHERE status IS NULL")
        if self._pragma("user_version") != SCHEMA_VERSION:
            raise NotOurDatabaseError(f"{path} was made by another version of the sandbox gateway")
        self._offset = self._read_offset()

    def _pragma(self, name: str) -> int:
        value: int = self._db.execute(f"PRAGMA {name}").fetchone()[0]
        return value

    def close(self) -> None:
        self._db.close()

    def reset(self) -> None:
        """Removes everything, the clock's offset included."""
        with self.transaction():
            for statement in RESET.split(";"):
                self._db.execute(statement)
        self._offset = 0

    @contextmanager
    def transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    # The clock

    def now(self) -> int:
        return self._real_micros() + self._offset

    @property
    def offset_micros(self) -> int:
        return self._offset

    def _read_offset(self) -> int:
        row = self._db.execute("SELECT value FROM settings WHERE name = 'clock_offset'").fetchone()
        return row["value"] if row else 0

    def advance(self, micros: int) -> None:
        """Moves the clock forward. Moved back, existing refunds would lie in the future."""
        if micros < 0 or self._offset + micros > MAX_ADVANCE_MICROS:
            raise RefusedError.invalid("advance_seconds: from 0, twenty years in all")
        self._offset += micros
        self._db.execute(
            "INSERT OR REPLACE INTO settings VALUES ('clock_offset', ?)", (self._offset,)
        )

    # Payments

    def put_payment(
        self,
        id: str,
        *,
        amount_captured: int,
        currency: str,
        status: str = "captured",
        created_at: int | None = None,
    ) -> None:
        """Creates the payment, or updates an existing one except for its refunds and age."""
        made = self.now() if created_at is None else created_at
        self._db.execute(
            """INSERT INTO payments (id, status, currency, amount_captured, created_at)
               VALUES (?, ?, ?, ?, ?)
               ON CONFLICT (id) DO UPDATE SET status = excluded.status,
               currency = excluded.currency, amount_captured = excluded.amount_captured""",
            (id, status, currency, amount_captured, made),
        )

    def has_payment(self, transaction_id: str) -> bool:
        return self._payment_row(transaction_id) is not None

    def payment(self, transaction_id: str) -> dict[str, Any] | None:
        row = self._payment_row(transaction_id)
        return None if row is None else self._payment_json(row)

    def payments(self, transaction_id: str | None = None) -> list[dict[str, Any]]:
        rows = self._db.execute(
            "SELECT * FROM payments WHERE :id IS NULL OR id = :id ORDER BY rowid",
            {"id": transaction_id},
        )
        return [self._payment_json(row) for row in rows]

    def _payment_row(self, transaction_id: str) -> sqlite3.Row | None:
        row: sqlite3.Row | None = self._db.execute(
            "SELECT * FROM payments WHERE id = ?", (transaction_id,)
        ).fetchone()
        return row

    def _payment_json(self, row: sqlite3.Row) -> dict[str, Any]:
        return {
            "id": row["id"],
            "status": row["status"],
            "currency": row["currency"],
            "amount_captured": row["amount_captured"],
            "amount_refunded": self._amount_refunded(row["id"]),
            "created_at": time_text(row["created_at"]),
        }

    def _amount_refunded(self, transaction_id: str) -> int:
        total: int = self._db.execute(
            """SELECT coalesce(sum(amount), 0) FROM refunds
               WHERE transaction_id = ? AND status IN ('pending', 'succeeded')""",
            (transaction_id,),
        ).fetchone()[0]
        return total

    # Refunds

    def refundable(self, requested: RefundCreate) -> None:
        """Raises RefusedError with the contract's code if the refund is not possible."""
        payment = self._payment_row(requested.transaction_id)
        if payment is None:
            raise RefusedError(404, "payment_not_found", "No such payment.")
        if payment["status"] == "disputed":
            raise RefusedError(422, "payment_disputed", "The payment is disputed.")
        if payment["status"] != "captured":
            raise RefusedError(422, "payment_not_captured", f"The payment is {payment['status']}.")
        if payment["currency"] != requested.currency:
            raise RefusedError(
                422, "currency_mismatch", f"The payment is in {payment['currency']}."
            )
        balance = payment["amount_captured"] - self._amount_refunded(requested.transaction_id)
        if requested.amount > balance:
            raise RefusedError(
                422, "amount_exceeds_balance", f"Only {balance} can still be refunded."
            )

    def add_refund(
        self,
        requested: RefundCreate,
        outcome: Outcome,
        *,
        idempotency_key: str | None = None,
        origin: str = "api",
        created_at: int | None = None,
    ) -> dict[str, Any]:
        """Creates the refund and moves its money. Call `refundable` in the same transaction."""
        assert 1 <= requested.amount <= MAX_AMOUNT
        made = self.now() if created_at is None else created_at
        refund_id = f"re_{secrets.token_hex(12)}"
        self._db.execute(
            """INSERT INTO refunds (id, transaction_id, reference, amount, currency, reason,
                   status, failure_code, failure_message, created_at, updated_at,
                   idempotency_key, origin)
               VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)""",
            (
                refund_id,
                requested.transaction_id,
                requested.reference,
                requested.amount,
                requested.currency,
                requested.reason,
                outcome.status,
                outcome.failure_code,
                outcome.failure_message,
                made,
                made,
                idempotency_key,
                origin,
            ),
        )
        row = self._refund_row(refund_id)
        assert row is not None
        self.settlements.begin(row, outcome)
        return refund_json(row)

    def refund(self, refund_id: str) -> dict[str, Any] | None:
        row = self._refund_row(refund_id)
        return None if row is None else refund_json(row)

    def place(self, refund_id: str) -> tuple[int, int] | None:
        """The refund's place in a `page`. Refunds after it have smaller places."""
        row = self._refund_row(refund_id)
        return None if row is None else (row["created_at"], row["seq"])

    def _refund_row(self, refund_id: str) -> sqlite3.Row | None:
        row: sqlite3.Row | None = self._db.execute(
            "SELECT * FROM refunds WHERE id = ?", (refund_id,)
        ).fetchone()
        return row

    def page(self, page: Page) -> dict[str, Any]:
        """Refunds, newest first. The cursor is a place in that order, so refunds that are created
        meanwhile neither shift nor repeat the next page."""
        where, values = ["1 = 1"], list[Any]()
        for column in ("reference", "transaction_id"):
            if (value := getattr(page, column)) is not None:
                where.append(f"{column} = ?")
                values.append(value)
        if page.created_from is not None:
            where.append("created_at >= ?")
            values.append(page.created_from)
        if page.created_before is not None:
            where.append("created_at < ?")
            values.append(page.created_before)
        if page.after is not None:
            where.append("(created_at, seq) < (?, ?)")
            values.extend(page.after)
        rows = self._db.execute(
            f"""SELECT * FROM refunds WHERE {" AND ".join(where)}
                ORDER BY created_at DESC, seq DESC LIMIT ?""",  # noqa: S608 - fixed column names
            (*values, page.limit + 1),
        ).fetchall()
        shown = rows[: page.limit]
        more = len(rows) > page.limit
        return {
            "data": [refund_json(row) for row in shown],
            "next_cursor": cursor_text(shown[-1]["created_at"], shown[-1]["seq"]) if more else None,
        }

    def subject_of_reference(self, reference: str) -> str | None:
        """The payment of the newest refund with that reference, whose faults then apply."""
        row = self._db.execute(
            "SELECT transaction_id FROM refunds WHERE reference = ? ORDER BY seq DESC", (reference,)
        ).fetchone()
        return None if row is None else row["transaction_id"]

    def settle_now(self, refund_id: str, status: str, code: str, message: str) -> dict[str, Any]:
        """Settles a refund by hand. Raises RefusedError: 404, or 409 for an impossible change."""
        row = self._refund_row(refund_id)
        if row is None:
            raise RefusedError(404, "refund_not_found", "No such refund.")
        if (row["status"], status) not in (
            ("pending", "succeeded"),
            ("pending", "failed"),
            ("succeeded", "failed"),
        ):
            raise RefusedError(409, "illegal_transition", f"It is {row['status']}.")
        if status == "failed":
            self.settlements.settle(row, status, code, message, self.now())
        else:
            self.settlements.settle(row, status, None, None, self.now())
        changed = self._refund_row(refund_id)
        assert changed is not None
        return refund_json(changed)

    # What tests read

    def books(self, filters: Mapping[str, str | None]) -> dict[str, Any]:
        """Payments, refunds and movements, oldest first, by transaction, reference or both."""
        refunds = [
            {
                **refund_json(row),
                "reason": row["reason"],
                "origin": row["origin"],
                "idempotency_key": row["idempotency_key"],
            }
            for row in filtered(self._db, "refunds", filters)
        ]
        movements = [
            {**dict(row), "created_at": time_text(row["created_at"])}
            for row in filtered(self._db, "movements", filters)
        ]
        payments = self.payments(filters.get("transaction_id"))
        if filters.get("reference") is not None:
            touched = {refund["transaction_id"] for refund in refunds}
            payments = [payment for payment in payments if payment["id"] in touched]
        return {"payments": payments, "refunds": refunds, "movements": movements}

    def counts(self) -> dict[str, int]:
        row = self._db.execute(
            """SELECT (SELECT count(*) FROM payments) AS payments,
                      (SELECT count(*) FROM refunds) AS refunds,
                      (SELECT count(*) FROM movements) AS movements,
                      (SELECT count(*) FROM calls) AS calls"""
        ).fetchone()
        return dict(row)


def refund_json(row: sqlite3.Row) -> dict[str, Any]:
    return {
        "id": row["id"],
        "transaction_id": row["transaction_id"],
        "reference": row["reference"],
        "amount": row["amount"],
        "currency": row["currency"],
        "status": row["status"],
        "failure_code": row["failure_code"],
        "failure_message": row["failure_message"],
        "created_at": time_text(row["created_at"]),
        "updated_at": time_text(row["updated_at"]),
    }
