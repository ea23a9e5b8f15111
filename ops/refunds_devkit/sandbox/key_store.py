"""The sandbox's idempotency keys."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass

from refunds_devkit.sandbox.contract import KEY_LIFETIME_MICROS


@dataclass(frozen=True)
class StoredKey:
    """A stored idempotency key. `status` is None while its first call still runs."""

    seq: int
    fingerprint: bytes
    status: int | None
    body: str | None


class KeyStore:
    def __init__(self, db: sqlite3.Connection, now: Callable[[], int]) -> None:
        self._db = db
        self._now = now

    def find(self, key: str) -> StoredKey | None:
        """The stored key, or None if it was never used, or first used 24 hours ago or earlier."""
        row = self._db.execute("SELECT * FROM idempotency_keys WHERE key = ?", (key,)).fetchone()
        if row is None:
            return None
        if row["first_used_at"] + KEY_LIFETIME_MICROS <= self._now():
            self._db.execute("DELETE FROM idempotency_keys WHERE seq = ?", (row["seq"],))
            return None
        return StoredKey(row["seq"], row["fingerprint"], row["status"], row["body"])

    def start(self, key: str, fingerprint: bytes) -> int:
        """Marks the key as in use. Returns its number for `finish`."""
        seq = self._db.execute(
            "INSERT INTO idempotency_keys (key, fingerprint, first_used_at) VALUES (?, ?, ?)",
            (key, fingerprint, self._now()),
        ).lastrowid
        assert seq is not None
        return seq

    def finish(self, seq: int, status: int, body: str) -> None:
        """Stores the response. By number, because an expired key may belong to another call now."""
        self._db.execute(
            "UPDATE idempotency_keys SET status = ?, body = ? WHERE seq = ?", (status, body, seq)
        )

    def forget(self, seq: int) -> None:
        self._db.execute("DELETE FROM idempotency_keys WHERE seq = ?", (seq,))
