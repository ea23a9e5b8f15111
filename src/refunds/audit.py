"""The audit entry of one version of a refund: a pure function of that version's stored image.

So an entry never depends on order, replays or what else is stored, and can be made again.
The format is written down in docs/audit.md.
"""

from __future__ import annotations

import hashlib

import rfc8785

from refunds.refund import AUDITED, OUTCOMES, Item, Status

RECORD_TYPE = "REFUND"

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
_NOT_HASHED = frozenset({"entry_hash", "recorded_at", "rebuilt"})


def entry_id(refund_id: str, version: int) -> str:
    """The entry's sort key below its transaction."""
    return f"{RECORD_TYPE}#{refund_id}#{version:06d}"


def audit_entry(image: Item) -> Item:
    """The entry for a refund's stored image, but for ``recorded_at``.

    Raises ``KeyError`` or ``ValueError`` for an image that is not a refund's.
    """
    status = Status(image["status"])
    previous = image.get("previous_status")
    return _with_hash(
        image,
        event=f"refund.{status.lower()}",
        version=image["version"],
        previous_status=None if previous is None else Status(previous).value,
        status=status.value,
        outcome=OUTCOMES[status],
        processed_by=image["processed_by"],
        occurred_at=image["updated_at"],
        previous_hash=image.get("previous_hash"),
    )


def removal_entry(image: Item, *, removed_at: str, removed_by: str) -> Item:
    """The entry for a refund that was removed from its table; ``image`` is the last one.

    Nothing of ours removes refunds: such an entry means a hand or a TTL did.
    """
    status = Status(image["status"])
    return _with_hash(
        image,
        event="refund.deleted",
        version=image["version"] + 1,
        previous_status=status.value,
        status=status.value,
        outcome=OUTCOMES[status],
        processed_by=removed_by,
        occurred_at=removed_at,
        previous_hash=audit_entry(image)["entry_hash"],
    )


def entry_hash(entry: Item) -> str:
    """SHA-256, in hex, over the RFC 8785 JSON of all that the entry says of the refund."""
    told = {name: value for name, value in entry.items() if name not in _NOT_HASHED}
    return hashlib.sha256(rfc8785.dumps(told)).hexdigest()


def _with_hash(image: Item, *, version: int, **told: str | None) -> Item:
    entry: Item = {
        "transaction_id": image["transaction_id"],
        "entry_id": entry_id(image["refund_id"], version),
        "record_type": RECORD_TYPE,
        "refund_id": image["refund_id"],
        "version": version,
        "user_id": image["user_id"],
        "requested_by": image["requested_by"],
        **told,
        "details": {name: image[name] for name in _IN_DETAILS if name in image},
    }
    entry["entry_hash"] = entry_hash(entry)
    return entry
