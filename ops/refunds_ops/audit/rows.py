"""The few columns of each stored item that the checks need, and whether the item is sound."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from refunds.domain.audit_entry import NOT_AN_IMAGE, audit_entry, entry_hash
from refunds.domain.canonical_json import MAX_INTEGER
from refunds.domain.clock import from_rfc3339, rfc3339
from refunds.domain.identifiers import (
    RECORD_TYPE,
    REFUND_ID,
    REFUND_ID_PATTERN,
    TRANSACTION_ID,
)
from refunds.domain.refund import AUDITED, Item, Status
from refunds.tables.ledger import Ledger
from refunds.tables.wire import from_wire, item_from_wire

_ENTRY_ID = re.compile(rf"{RECORD_TYPE}#({REFUND_ID_PATTERN})#((?!000000)[0-9]{{6}})", re.ASCII)

MAX_MINOR = MAX_INTEGER
"""As in the entries."""

FIXED = (
    "user_id",
    "requested_by",
    "reason",
    "requested_at",
    "sent_by",
    "created_at",
    "metadata",
    "reason_code",
    "note",
    "line_items",
    "expected_refundable_minor",
    "gateway",
)
"""Attributes that no version of a refund changes, besides its amount."""


class EntryRow(NamedTuple):
    """An audit entry. ``refund_id`` and ``version`` are its key's; ``problem`` is a finding's kind
    and what it says, when the entry alone shows that something is wrong."""

    refund_id: str
    version: int
    transaction_id: str
    event: str | None
    status: str | None
    previous_status: str | None
    entry_hash: str | None
    previous_hash: str | None
    amount_minor: int | None
    currency: str | None
    occurred_at: str | None
    recorded_at: str | None
    fixed: str | None
    """A hash of the attributes that never change (``FIXED``)."""
    rebuilt: str | None
    """What the entry was rebuilt from; None if it never was."""
    problem: tuple[str, str] | None = None


class RefundRow(NamedTuple):
    """A refund; ``entry_hash`` is what the entry of its version must have."""

    refund_id: str
    transaction_id: str | None
    version: int
    status: str
    amount_minor: int | None
    currency: str | None
    entry_hash: str | None
    previous_hash: str | None
    gateway: str | None
    gateway_refund_id: str | None
    gateway_reference: str | None
    gateway_account: str | None
    created_at: str | None
    updated_at: str | None
    open_since: str | None
    problem: tuple[str, str] | None = None


class LedgerRow(NamedTuple):
    transaction_id: str
    captured: int | None
    remaining: int | None
    currency: str | None
    problem: tuple[str, str] | None = None


class Stray(NamedTuple):
    """An item with ``record_type`` REFUND whose key is no entry's."""

    transaction_id: str
    entry_id: str


def entry_row(wire: Mapping[str, Any]) -> EntryRow | Stray:
    """Read an item of the audit table that says it is a refund's."""
    transaction_id, entry_id = _key(wire, "transaction_id"), _key(wire, "entry_id")
    if not (match := _ENTRY_ID.fullmatch(entry_id)):
        return Stray(transaction_id, entry_id)
    refund_id, version = match[1], int(match[2])
    try:
        entry = item_from_wire(wire)
        problem = _problem(entry, refund_id, version)
    except NOT_AN_IMAGE as exc:
        entry, problem = _readable(wire), ("unreadable", f"can't be read: {_error_text(exc)}")
    details = entry.get("details")
    if not isinstance(details, dict):
        details = {}
    return EntryRow(
        refund_id=refund_id,
        version=version,
        transaction_id=transaction_id,
        event=_text(entry.get("event")),
        status=_text(entry.get("status")),
        previous_status=_text(entry.get("previous_status")),
        entry_hash=_text(entry.get("entry_hash")),
        previous_hash=_text(entry.get("previous_hash")),
        amount_minor=_number(details.get("amount_minor")),
        currency=_text(details.get("currency")),
        occurred_at=_text(entry.get("occurred_at")),
        recorded_at=_text(entry.get("recorded_at")),
        fixed=_fixed(entry | details),
        rebuilt=None if problem or "rebuilt" not in entry else _text(entry["rebuilt"]["from"]),
        problem=problem,
    )


def _problem(  # noqa: PLR0911 - one line a problem; each reads what those before have checked
    entry: Item, refund_id: str, version: int
) -> tuple[str, str] | None:
    if type(entry.get("version")) is not int:
        return "unreadable", "its version must be a number"
    if (entry.get("refund_id"), entry.get("version")) != (refund_id, version):
        return "misplaced", f"it speaks of {entry.get('refund_id')} version {entry.get('version')}"
    if entry_hash(entry) != entry["entry_hash"]:
        return "changed", "its hash is not that of its contents"
    Status(entry["status"])
    if empty := [name for name in ("event", "details") if not entry[name]]:
        return "unreadable", f"{', '.join(empty)}: empty"
    # No hash covers these attributes, so at least their format is checked.
    if not _is_our_instant(entry["recorded_at"]):
        return "unreadable", "its recorded_at is not in the format that we write"
    rebuilt = entry.get("rebuilt", {"by": "", "from": ""})
    if not all(isinstance(rebuilt[name], str) for name in ("by", "from")):
        return "unreadable", "it must say by whom and from what it was rebuilt"
    return None


_OUR_INSTANT = re.compile(
    r"[1-9][0-9]{3}-[0-9]{2}-[0-9]{2}T(?:[01][0-9]|2[0-3]):[0-9]{2}:[0-9]{2}\.[0-9]{6}Z", re.ASCII
)


def _is_our_instant(value: Any) -> bool:
    """Whether it is an instant in the form that ``rfc3339`` writes."""
    if isinstance(value, str) and _OUR_INSTANT.fullmatch(value):
        try:
            datetime.fromisoformat(value)
            return True
        except ValueError:
            pass  # a leap second, or no instant
    return bool(rfc3339(from_rfc3339(value)) == value)


_SORTED_KEYS = json.JSONEncoder(sort_keys=True)


def _fixed(fields: Item) -> str:
    values = _SORTED_KEYS.encode([fields.get(name) for name in FIXED])
    return hashlib.sha256(values.encode()).hexdigest()[:24]


_NOT_AUDITED = ("gateway_reference", "open_since")


def refund_row(wire: Mapping[str, Any]) -> RefundRow:
    """Read an item of Refunds."""
    try:
        image = {name: from_wire(wire[name]) for name in AUDITED if name in wire}
        expected: str | None = audit_entry(image)["entry_hash"]
        problem = None
    except NOT_AN_IMAGE as exc:
        image, expected = _readable(wire), None
        problem = ("refund_unreadable", f"can't be read: {_error_text(exc)}")
    other = _readable({name: wire[name] for name in _NOT_AUDITED if name in wire})
    home = _text(image.get("transaction_id"))
    return RefundRow(
        refund_id=_key(wire, "refund_id"),
        # What is no id can't be looked up either.
        transaction_id=home if home and TRANSACTION_ID.fullmatch(home) else None,
        version=_number(image.get("version")) or 0,
        status=_text(image.get("status")) or "",
        amount_minor=_number(image.get("amount_minor")),
        currency=_text(image.get("currency")),
        entry_hash=expected,
        previous_hash=_text(image.get("previous_hash")),
        gateway=_text(image.get("gateway")),
        gateway_refund_id=_text(image.get("gateway_refund_id")),
        gateway_reference=_text(other.get("gateway_reference")),
        gateway_account=_text(image.get("gateway_account")),
        created_at=_text(image.get("created_at")),
        updated_at=_text(image.get("updated_at")),
        open_since=_text(other.get("open_since")),
        problem=problem,
    )


def ledger_row(wire: Mapping[str, Any]) -> tuple[LedgerRow, dict[str, int]]:
    """Read an item of the ledger: the balance, and what is held for which refund (0: released)."""
    transaction_id = _key(wire, "transaction_id")
    try:
        ledger = Ledger.from_item(item_from_wire(wire))
        wrong = _wrong_in(ledger)
    except NOT_AN_IMAGE as exc:
        wrong = f"can't be read: {_error_text(exc)}"
    if wrong:
        problem = ("ledger_unreadable", wrong)
        return LedgerRow(transaction_id, None, None, None, problem), {}
    row = LedgerRow(transaction_id, ledger.captured, ledger.remaining, ledger.currency)
    return row, dict(ledger.reservations)


def _wrong_in(ledger: Ledger) -> str | None:
    if wrong := _wrong_reservation(ledger.reservations):
        return wrong
    if (ledger.captured, ledger.remaining, ledger.currency) == (None, None, None):
        return None
    if not _is_amount(ledger.captured):
        return "captured is no amount"
    # Below zero when others refunded too much at the gateway.
    if not _is_amount(ledger.remaining, at_least=-MAX_MINOR):
        return "remaining is no amount"
    return None if isinstance(ledger.currency, str) else "it has no currency"


def _wrong_reservation(reservations: Mapping[str, Any]) -> str | None:
    """A negative reservation could hide another one, and other values could break the sums."""
    for refund_id, amount in reservations.items():
        if not REFUND_ID.fullmatch(refund_id):
            return "a reservation is of no refund's id"
        if not _is_amount(amount):
            return f"r#{refund_id} is no amount"
    if sum(reservations.values()) > MAX_MINOR:
        return "its reservations add up to more than an amount can be"
    return None


def _is_amount(value: Any, *, at_least: int = 0) -> bool:
    return type(value) is int and at_least <= value <= MAX_MINOR


def _key(wire: Mapping[str, Any], name: str) -> str:
    """A table's own items always have their keys. A backup's line may have anything: then it
    raises one of ``NOT_AN_IMAGE``."""
    value: str = wire[name]["S"]
    if not value.isascii():
        value.encode()
    return value


def _readable(wire: Mapping[str, Any]) -> Item:
    """The attributes of an item that can be read."""
    item = {}
    for name, value in wire.items():
        try:
            item[name] = from_wire(value)
        except NOT_AN_IMAGE:
            continue
    return item


def _error_text(error: BaseException) -> str:
    """An error's text may hold data. A ``KeyError`` names the missing attribute."""
    return f"no {error}" if isinstance(error, KeyError) else type(error).__name__


def _text(value: Any) -> str | None:
    # Half a surrogate pair, which a backup's JSON can hold, no database takes.
    if not isinstance(value, str):
        return None
    return value if value.isascii() else value.encode(errors="replace").decode()


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
