"""What a check needs of each stored item: a few columns, and whether the item is sound."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from refunds.audit import RECORD_TYPE, audit_entry, entry_hash
from refunds.audit_writer import NOT_AN_IMAGE
from refunds.dynamo import from_wire, item_from_wire
from refunds.ledger_table import Ledger
from refunds.refund import AUDITED, Item, Status

_ENTRY_ID = re.compile(rf"{RECORD_TYPE}#([A-Za-z0-9_-]{{1,64}})#([0-9]{{6}})", re.ASCII)


@dataclass(frozen=True, slots=True)
class EntryRow:
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
    recorded_at: str | None
    problem: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class RefundRow:
    """A refund; ``entry_hash`` is what the entry of its version must have."""

    refund_id: str
    transaction_id: str | None
    version: int
    status: str
    amount_minor: int | None
    currency: str | None
    entry_hash: str | None
    previous_hash: str | None
    gateway_refund_id: str | None
    updated_at: str | None
    open_since: str | None
    problem: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class LedgerRow:
    transaction_id: str
    captured: int | None
    remaining: int | None
    currency: str | None
    problem: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Stray:
    """An item with ``record_type`` REFUND whose key is no entry's."""

    transaction_id: str
    entry_id: str


def entry_row(wire: Mapping[str, Any]) -> EntryRow | Stray:
    """Read an item of the audit table that says it is a refund's."""
    transaction_id, entry_id = wire["transaction_id"]["S"], wire["entry_id"]["S"]
    if not (match := _ENTRY_ID.fullmatch(entry_id)):
        return Stray(transaction_id, entry_id)
    refund_id, version = match[1], int(match[2])
    try:
        entry = item_from_wire(wire)
        problem = _problem(entry, refund_id, version)
    except NOT_AN_IMAGE as exc:
        entry, problem = _readable(wire), ("unreadable", f"can't be read: {_told(exc)}")
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
        recorded_at=_text(entry.get("recorded_at")),
        problem=problem,
    )


def _problem(entry: Item, refund_id: str, version: int) -> tuple[str, str] | None:
    if (entry.get("refund_id"), entry.get("version")) != (refund_id, version):
        return "misplaced", f"it speaks of {entry.get('refund_id')} version {entry.get('version')}"
    if entry_hash(entry) != entry["entry_hash"]:
        return "changed", "its hash is not that of its contents"
    Status(entry["status"])
    if empty := [name for name in ("event", "details") if not entry[name]]:
        return "unreadable", f"{', '.join(empty)}: empty"
    return None


def refund_row(wire: Mapping[str, Any]) -> RefundRow:
    """Read an item of Refunds."""
    try:
        image = {name: from_wire(wire[name]) for name in AUDITED if name in wire}
        expected: str | None = audit_entry(image)["entry_hash"]
        problem = None
    except NOT_AN_IMAGE as exc:
        image, expected = _readable(wire), None
        problem = ("refund_unreadable", f"can't be read: {_told(exc)}")
    other = _readable(wire)
    return RefundRow(
        refund_id=wire["refund_id"]["S"],
        transaction_id=_text(image.get("transaction_id")),
        version=_number(image.get("version")) or 0,
        status=_text(image.get("status")) or "",
        amount_minor=_number(image.get("amount_minor")),
        currency=_text(image.get("currency")),
        entry_hash=expected,
        previous_hash=_text(image.get("previous_hash")),
        gateway_refund_id=_text(image.get("gateway_refund_id")),
        updated_at=_text(image.get("updated_at")),
        open_since=_text(other.get("open_since")),
        problem=problem,
    )


def ledger_row(wire: Mapping[str, Any]) -> tuple[LedgerRow, dict[str, int]]:
    """Read an item of the ledger: the balance, and what is held for which refund (0: released)."""
    transaction_id = wire["transaction_id"]["S"]
    try:
        ledger = Ledger.from_item(item_from_wire(wire))
        numbers = [*ledger.reservations.values(), ledger.captured or 0, ledger.remaining or 0]
        if not all(type(number) is int for number in numbers):
            raise ValueError("a number is none")
        if (ledger.captured is None) != (ledger.remaining is None):
            raise ValueError("captured or remaining alone")
    except NOT_AN_IMAGE as exc:
        problem = ("ledger_unreadable", f"can't be read: {_told(exc)}")
        return LedgerRow(transaction_id, None, None, None, problem), {}
    row = LedgerRow(transaction_id, ledger.captured, ledger.remaining, ledger.currency)
    return row, dict(ledger.reservations)


def _readable(wire: Mapping[str, Any]) -> Item:
    """What can be read of an item that as a whole can't."""
    item = {}
    for name, value in wire.items():
        try:
            item[name] = from_wire(value)
        except NOT_AN_IMAGE:
            continue
    return item


def _told(error: BaseException) -> str:
    """An error's words are ours for what we check ourselves; a ``KeyError`` names what lacks."""
    return f"no {error}" if isinstance(error, KeyError) else type(error).__name__


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
