"""The checker's own copy of the rules about statuses and attributes."""

from __future__ import annotations

MAY_FOLLOW = {
    None: {"REJECTED", "PROCESSING", "AWAITING_APPROVAL"},
    "AWAITING_APPROVAL": {"PROCESSING", "REJECTED"},
    "PROCESSING": {"SUCCEEDED", "FAILED", "PENDING", "IN_REVIEW"},
    "PENDING": {"SUCCEEDED", "FAILED", "IN_REVIEW"},
    "IN_REVIEW": {"SUCCEEDED", "FAILED"},
    "SUCCEEDED": {"REVERSED"},
    "FAILED": {"SUCCEEDED"},  # by a person only: domain/refund.py sees to it
    "REJECTED": {"SUCCEEDED"},
    "REVERSED": set(),
}
UNFINISHED = {"AWAITING_APPROVAL", "PROCESSING", "PENDING", "IN_REVIEW"}
HOLDS_MONEY = {"AWAITING_APPROVAL", "PROCESSING", "PENDING", "IN_REVIEW", "SUCCEEDED"}
NEVER_CHANGES = (
    "transaction_id",
    "user_id",
    "amount_minor",
    "currency",
    "reason",
    "requested_by",
    "created_at",
    "fingerprint",
    "key_used_at",
    "order_format",
    "gateway_account",
    "gateway_reference",
    "awaiting",
    "counted",
)
INTERNAL = {
    "fingerprint",
    "attempt_token",
    "lease_until",
    "key_used_at",
    "called_at",
    "counted",
    "uncounted",
    "shown_at",
    "asked_at",
    "balance_short_at",
    "seen_paid_at",
    "open_since",
    "open_shard",
    "check_at",
}
