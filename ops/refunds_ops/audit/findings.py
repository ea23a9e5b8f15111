"""What `refunds verify` can find, and what to do about each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

TO_DO: Mapping[str, str] = {
    # The trail itself
    "changed": "Somebody changed a stored entry. Compare it with a backup or receipt; who could "
    "write to the table is in CloudTrail.",
    "unreadable": "The entry lacks what every entry has: treat it as changed.",
    "misplaced": "The entry stands under a key that isn't its own: somebody copied or forged it.",
    "double": "One version has two entries: keep the one that its successor's previous_hash names.",
    "gap": "refunds audit rebuild REFUND_ID. What can't be rebuilt stays a gap.",
    "chain": "The entry before was replaced, or this one was: compare both with a backup.",
    "transition": "No code of ours makes this change: look at who processed it.",
    # The trail against the refunds
    "no_entries": "refunds audit rebuild REFUND_ID makes the latest; is WriteAudit running?",
    "orphan": "The refund's record is gone, and no removal was audited: "
    "refunds backup restore --refund REFUND_ID.",
    "removed": "A hand or a TTL removed the refund: refunds backup restore --refund REFUND_ID.",
    "refund_changed": "Somebody changed the refund without a new version, or the entry. If the "
    "trail is sound: refunds backup restore --refund REFUND_ID.",
    "refund_behind": "The refund's record is older than its trail, so its next change can't be "
    "audited: refunds backup restore --refund REFUND_ID.",
    "refund_unreadable": "The item in Refunds is no refund of ours: who wrote it?",
    # The ledger
    "reservation_missing": "This money could be refunded again: add r#<refund id> by hand and take "
    "it off remaining.",
    "reservation_differs": "The ledger holds another amount than the refund's: correct it by hand.",
    "reservation_left": "The refund ended without money but still holds some: is the reconciler "
    "running? It releases what is open.",
    "reservation_stray": "A crash leaves that until its message comes back, within the hour. Is "
    "it in the dead-letter queue? If the refund was deleted, restore it.",
    "balance": "remaining is more than captured less reservations: too much could be refunded.",
    "captured_raised": "More could be refunded than was paid: correct captured and remaining by "
    "hand.",
    "overdrawn": "More is reserved than was captured, or remaining is below zero.",
    "ledger_unreadable": "The item in the ledger is none of ours: who wrote it?",
    # The latest backup
    "backup_entry_differs": "The trail was rewritten after the backup (or the backup was): "
    "refunds backup verify tells which.",
    "backup_entry_gone": "An entry of the backup is no longer in the trail: "
    "refunds audit rebuild REFUND_ID.",
    "backup_entry_new": "The entry says that it was recorded before the backup, which hasn't got "
    "it: it was made later and backdated.",
    "backup_refund_differs": "The refund's record is not what it was in the backup, at the same "
    "version.",
    "backup_refund_gone": "A refund of the backup is no longer in Refunds: restore it.",
    "backup_damaged": "refunds backup verify says more; take a new backup.",
    # The gateway
    "gateway_missing": "We say the money moved, the gateway shows no such refund: ask the gateway.",
    "gateway_paid": "The gateway moved money that we say did not move: ask the gateway, then "
    "correct the ledger.",
    "gateway_failed": "The money came back; the reconciler records it as REVERSED: is it running?",
    "gateway_differs": "The gateway's refund has other terms than ours: ask the gateway.",
    "gateway_double": "The gateway shows more than one refund for this id: it may be paid twice.",
    "gateway_overpaid": "The gateway refunded more of the payment than was captured.",
    # What the stream could not deliver
    "stream_failure": "refunds audit replay puts it back; what it can't is for a person, then "
    "refunds audit close KEY --why TEXT.",
}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is not as it must be; ``what`` says how, ``kind`` is a key of ``TO_DO``."""

    kind: str
    what: str
    refund_id: str | None = None
    transaction_id: str | None = None
    version: int | None = None
    where: str | None = None
    """An object's key, for what has no refund."""

    @property
    def to_do(self) -> str:
        return TO_DO[self.kind]

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"to_do": self.to_do}
