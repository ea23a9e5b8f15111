"""The formats of the ids in messages, keys and audit entries."""

from __future__ import annotations

import re

REFUND_ID_PATTERN = "[A-Za-z0-9_-]{1,64}"
TRANSACTION_ID_PATTERN = "[A-Za-z0-9_-]{1,128}"

REFUND_ID = re.compile(REFUND_ID_PATTERN, re.ASCII)
TRANSACTION_ID = re.compile(TRANSACTION_ID_PATTERN, re.ASCII)

RECORD_TYPE = "REFUND"
"""Marks our items in the table that is shared with the payment side."""


def entry_id(refund_id: str, version: int) -> str:
    """An audit entry's sort key under its transaction."""
    return f"{RECORD_TYPE}#{refund_id}#{version:06d}"
