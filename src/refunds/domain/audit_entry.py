"""The audit entry of one version of a refund: a pure function of that version's stored image.

An entry does not depend on order, replays or other items, so it can be recreated at any time.
docs/audit.md describes the format.
"""

from __future__ import annotations

import hashlib
from typing import Any

from refunds.domain.canonical_json import canonical_json
from refunds.domain.identifiers import RECORD_TYPE, REFUND_ID, TRANSACTION_ID, entry_id
from refunds.domain.refund import AUDITED, OUTCOMES, Item, Status

MAX_VERSION = 999_999
"""The sort key has six digits for the version. No refund gets close to that many."""

NOT_AN_IMAGE = (KeyError, ValueError, TypeError, AttributeError, OverflowError, RecursionError)
"""Exceptions that reading a record can raise when it contains no refund."""

DELETED_EVENT = "refund.deleted"
RESTORED_EVENT = "refund.restored"
"""The record was put back from a backup, or from the trail: no change of status or money."""
PROPOSED_EVENT = "refund.decision_proposed"
"""One person has decided a refund in review, and another must confirm it: still in review."""

SAME_STATUS_EVENTS = frozenset({DELETED_EVENT, RESTORED_EVENT, PROPOSED_EVENT})
"""Events of entries that keep the status. Consumers don't need them."""

_AT_TOP_LEVEL = frozenset(
    {
        "refund_id",
        "transaction_id",
        "user_id",
        "status",
        "requested_by",
        "processed_by",
        "updated_at",
        "version",
        "previous_status",
        "previous_hash",
    }
)
_IN_DETAILS = tuple(name for name in AUDITED if name not in _AT_TOP_LEVEL)
NOT_HASHED = frozenset({"entry_hash", "recorded_at", "rebuilt"})
"""Attributes that describe the entry itself, not the refund."""

_TEXTS = (
    "user_id",
    "currency",
    "reason",
    "requested_by",
    "processed_by",
    "gateway",
    "created_at",
    "updated_at",
)
_OPTIONAL_TEXTS = (
    "requested_at",
    "gateway_account",
    "gateway_reference",
    "gateway_trace",
    "sent_by",
    "reason_code",
    "note",
    "gateway_refund_id",
    "failure_code",
    "failure_message",
    "previous_hash",
)
_OPTIONAL_INTEGERS = ("amount_minor", "expected_refundable_minor", "order_format", "kept_minor")


def audit_entry(image: Item) -> Item:
    """The entry of a refund's stored image, without ``recorded_at``.

    Raises ``KeyError`` or ``ValueError`` for an image that is not a refund's.
    """
    _check(image)
    status = Status(image["status"])
    previous = image.get("previous_status")
    return _with_hash(
        image,
        event=_event(image, status),
        version=image["version"],
        previous_status=None if previous is None else Status(previous).value,
        status=status.value,
        outcome=OUTCOMES[status],
        processed_by=image["processed_by"],
        occurred_at=image["updated_at"],
        previous_hash=image.get("previous_hash"),
    )


def _event(image: Item, status: Status) -> str:
    changed = image.get("changed_fields") or ()
    if "restored" in changed:
        return RESTORED_EVENT
    if "proposal" in changed:
        return PROPOSED_EVENT
    return f"refund.{status.lower()}"


def image_of(entry: Item) -> Item:
    """The audited attributes of the version that an entry records: the reverse of ``audit_entry``.

    The entry of a removal has the attributes of the version that was removed, except version, time
    and hash, which are the removal's.
    """
    image = {name: entry.get(name) for name in _AT_TOP_LEVEL if name != "updated_at"}
    image |= {"updated_at": entry["occurred_at"]} | entry["details"]
    return {name: value for name, value in image.items() if value is not None}


def removal_entry(image: Item, *, removed_at: str, removed_by: str) -> Item:
    """The entry of a refund that was removed from its table. ``image`` is its last one.

    This system never removes a refund: a person or a TTL did.
    """
    _check(image)
    status = Status(image["status"])
    return _with_hash(
        image,
        event=DELETED_EVENT,
        version=image["version"] + 1,
        previous_status=status.value,
        status=status.value,
        outcome=OUTCOMES[status],
        processed_by=removed_by,
        occurred_at=removed_at,
        previous_hash=audit_entry(image)["entry_hash"],
    )


def entry_hash(entry: Item) -> str:
    """SHA-256, in hex, of the RFC 8785 JSON of ``hashed_fields``.

    Raises ``ValueError`` for what is not plain JSON: integers past 2^53, broken Unicode.
    """
    return hashlib.sha256(canonical_json(hashed_fields(entry))).hexdigest()


def hashed_fields(entry: Item) -> Item:
    """What the entry says about the refund."""
    return {name: value for name, value in entry.items() if name not in NOT_HASHED}


def _check(image: Item) -> None:
    """Refuse an image of another shape: its entry's key or event could not be trusted."""
    version = image["version"]
    if not (_is_int(version) and 1 <= version <= MAX_VERSION):
        raise ValueError(f"version must be an integer from 1 to {MAX_VERSION}")
    for pattern, name in ((REFUND_ID, "refund_id"), (TRANSACTION_ID, "transaction_id")):
        if not isinstance(image[name], str) or not pattern.fullmatch(image[name]):
            raise ValueError(f"{name} is not a valid id")
    for name in _TEXTS:
        if not isinstance(image[name], str):
            raise ValueError(f"{name} must be text")
    _check_optional(image)


def _check_optional(image: Item) -> None:
    for name in _OPTIONAL_TEXTS:
        if not isinstance(image.get(name), str | None):
            raise ValueError(f"{name} must be text or absent")
    for name in _OPTIONAL_INTEGERS:
        if image.get(name) is not None and not _is_int(image[name]):
            raise ValueError(f"{name} must be an integer")
    if not isinstance(image.get("line_items", []), list):
        raise ValueError("line_items must be a list")


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_implied(name: str, image: Item) -> bool:
    # The reference is nearly always the refund's id. Leaving it out keeps a usual entry within one
    # write unit.
    return name == "gateway_reference" and image[name] == image["refund_id"]


def _with_hash(image: Item, *, version: int, **change: str | None) -> Item:
    entry: Item = {
        "transaction_id": image["transaction_id"],
        "entry_id": entry_id(image["refund_id"], version),
        "record_type": RECORD_TYPE,
        "refund_id": image["refund_id"],
        "version": version,
        "user_id": image["user_id"],
        "requested_by": image["requested_by"],
        **change,
        "details": {
            name: image[name]
            for name in _IN_DETAILS
            if name in image and not _is_implied(name, image)
        },
    }
    entry["entry_hash"] = entry_hash(entry)
    return entry
