"""The tables of the sandbox's SQLite file."""

from __future__ import annotations

# Written into the file's header: --reset must never empty somebody else's database.
APPLICATION_ID = 0x464C5231
SCHEMA_VERSION = 1

SCHEMA = """
CREATE TABLE payments (
    id TEXT PRIMARY KEY,
    status TEXT NOT NULL CHECK (status IN ('authorized', 'captured', 'voided', 'disputed')),
    currency TEXT NOT NULL,
    amount_captured INTEGER NOT NULL CHECK (typeof(amount_captured) = 'integer'),
    created_at INTEGER NOT NULL
);
CREATE TABLE refunds (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    transaction_id TEXT NOT NULL REFERENCES payments (id),
    reference TEXT NOT NULL,
    amount INTEGER NOT NULL CHECK (typeof(amount) = 'integer' AND amount >= 1),
    currency TEXT NOT NULL,
    reason TEXT,
    status TEXT NOT NULL CHECK (status IN ('pending', 'succeeded', 'failed')),
    failure_code TEXT,
    failure_message TEXT,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    idempotency_key TEXT,
    origin TEXT NOT NULL CHECK (origin IN ('api', 'foreign'))
);
CREATE INDEX refunds_by_payment ON refunds (transaction_id, status, amount);
CREATE INDEX refunds_by_reference ON refunds (reference);
CREATE INDEX refunds_by_age ON refunds (created_at, seq);
CREATE TABLE settlements (
    refund_seq INTEGER PRIMARY KEY REFERENCES refunds (seq),
    at INTEGER NOT NULL,
    status TEXT NOT NULL,
    failure_code TEXT,
    failure_message TEXT
);
CREATE INDEX settlements_by_time ON settlements (at);
CREATE TABLE movements (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    refund_id TEXT NOT NULL,
    transaction_id TEXT NOT NULL,
    reference TEXT NOT NULL,
    direction TEXT NOT NULL CHECK (direction IN ('out', 'back')),
    amount INTEGER NOT NULL,
    currency TEXT NOT NULL,
    created_at INTEGER NOT NULL
);
CREATE INDEX movements_by_payment ON movements (transaction_id);
CREATE INDEX movements_by_reference ON movements (reference);
CREATE TABLE idempotency_keys (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL UNIQUE,
    fingerprint BLOB NOT NULL,
    first_used_at INTEGER NOT NULL,
    status INTEGER,
    body TEXT
);
CREATE TABLE faults (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    operation TEXT NOT NULL,
    transaction_id TEXT,
    reference TEXT,
    remaining INTEGER,
    probability REAL NOT NULL,
    seed INTEGER NOT NULL,
    parameters TEXT NOT NULL,
    seeded INTEGER NOT NULL
);
CREATE INDEX faults_by_target ON faults (transaction_id, reference);
CREATE TABLE fault_draws (
    fault_id INTEGER NOT NULL,
    subject TEXT NOT NULL,
    seen INTEGER NOT NULL,
    PRIMARY KEY (fault_id, subject)
) WITHOUT ROWID;
CREATE TABLE calls (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    operation TEXT NOT NULL,
    transaction_id TEXT,
    reference TEXT,
    idempotency_key TEXT,
    status INTEGER,
    replayed INTEGER NOT NULL,
    faults TEXT NOT NULL
);
CREATE INDEX calls_by_payment ON calls (transaction_id);
CREATE INDEX calls_by_reference ON calls (reference);
CREATE TABLE settings (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
"""

# Children before parents.
RESET = """
DELETE FROM settlements;
DELETE FROM movements;
DELETE FROM refunds;
DELETE FROM payments;
DELETE FROM idempotency_keys;
DELETE FROM fault_draws;
DELETE FROM faults;
DELETE FROM calls;
DELETE FROM settings
"""
