"""The audit entry of one version of a refund: a pure function of that version's stored image.

So an entry never depends on order, replays or what else is stored, and can be made again.
The format is written down in docs/audit.md.
"""

from __future__ import annotations

import hashlib
from typing import Any

import rfc8785

from refunds.domain.identifiers import RECORD_TYPE, REFUND_ID, TRANSACTION_ID, entry_id
from refunds.domain.refund import AUDITED, OUTCOMES, Item, Status

MAX_VERSION = 999_999
"""What six digits of a sort key can hold; no refund comes near."""

DELETED_EVENT = "refund.deleted"
RESTORED_EVENT = "refund.restored"
"""The record was put back from a backup, or from the trail: no change of status or money."""

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
"""What an entry says of itself, not of the refund."""

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
_TEXTS_IF_ANY = (
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


def audit_entry(image: Item) -> Item:
    """The entry for a refund's stored image, but for ``recorded_at``.

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
    if "restored" in (image.get("changed_fields") or ()):
        return RESTORED_EVENT
    return f"refund.{status.lower()}"


def image_of(entry: Item) -> Item:
    """The audited attributes of the version that an entry records: ``audit_entry`` reversed.

    The entry of a removal has those of the version that was removed, but for its version, time
    and hash, which are the removal's.
    """
    image = {name: entry.get(name) for name in _AT_TOP_LEVEL if name != "updated_at"}
    image |= {"updated_at": entry["occurred_at"]} | entry["details"]
    return {name: value for name, value in image.items() if value is not None}


def removal_entry(image: Item, *, removed_at: str, removed_by: str) -> Item:
    """The entry for a refund that was removed from its table; ``image`` is the last one.

    Nothing of ours removes refunds: such an entry means a hand or a TTL did.
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
    """SHA-256, in hex, over the RFC 8785 JSON of all that the entry says of the refund.

    Raises ``ValueError`` for what is not plain JSON: integers past 2^53, broken Unicode.
    """
    return hashlib.sha256(rfc8785.dumps(told(entry))).hexdigest()


def told(entry: Item) -> Item:
    """What an entry says of the refund: all that its hash covers."""
    return {name: value for name, value in entry.items() if name not in NOT_HASHED}


def _check(image: Item) -> None:
    """An image of another shape must not become an entry: its key or event could not be trusted."""
    version = image["version"]
    if not (_is_int(version) and 1 <= version <= MAX_VERSION):
        raise ValueError("version is no number of a version")
    for name in ("amount_minor", "expected_refundable_minor"):
        if image.get(name) is not None and not _is_int(image[name]):
            raise ValueError(f"{name} must be an integer")
    if not isinstance(image.get("line_items", []), list):
        raise ValueError("line_items must be a list")
    if not all(isinstance(image[name], str) for name in _TEXTS):
        raise ValueError("an attribute is no text")
    if not all(isinstance(image.get(name), str | None) for name in _TEXTS_IF_ANY):
        raise ValueError("an attribute is neither text nor absent")
    for pattern, name in ((REFUND_ID, "refund_id"), (TRANSACTION_ID, "transaction_id")):
        if not isinstance(image[name], str) or not pattern.fullmatch(image[name]):
            raise ValueError(f"{name} is no such id")


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_implied(name: str, image: Item) -> bool:
    # Nearly always the refund's id. Left out, a usual entry stays within a write unit.
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
