"""What `refunds verify` can find, and what to do about each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

TO_DO: Mapping[str, str] = {
    # The trail itself
    "changed": "Somebody changed a stored entry. Compare it with a backup or a receipt. "
    "CloudTrail shows who wrote to the table.",
    "unreadable": "The entry lacks required attributes. Treat it as changed.",
    "misplaced": "The entry has a key that isn't its own: somebody copied or forged it.",
    "double": "One version has two entries: keep the one that its successor's previous_hash names.",
    "gap": "refunds audit rebuild REFUND_ID. What can't be rebuilt stays a gap.",
    "chain": "The entry before was replaced, or this one was: compare both with a backup.",
    "transition": "This system never makes this change. Find out who made it.",
    # The trail against the refunds
    "no_entries": "Is WriteAudit running? To recreate the latest entry: "
    "refunds audit rebuild REFUND_ID",
    "orphan": "The refund's record is gone, and no removal was audited: "
    "refunds backup restore --refund REFUND_ID.",
    "removed": "A person or a TTL removed the refund: refunds backup restore --refund REFUND_ID.",
    "refund_changed": "Somebody changed the refund without a new version, or the entry. If the "
    "trail is sound: refunds backup restore --refund REFUND_ID.",
    "refund_behind": "The refund's record is older than its trail, so its next change can't be "
    "audited: refunds backup restore --refund REFUND_ID.",
    "refund_unreadable": "The item in Refunds is no refund of this system. Find out who wrote it.",
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
    "ledger_unreadable": "The item in the ledger is not of this system. Find out who wrote it.",
    # The latest backup
    "backup_entry_differs": "The trail was rewritten after the backup (or the backup was): "
    "refunds backup verify shows which.",
    "backup_entry_gone": "An entry of the backup is no longer in the trail: "
    "refunds audit rebuild REFUND_ID.",
    "backup_entry_new": "The entry says that it was recorded before the backup, which does not "
    "have it. It was made later and backdated.",
    "backup_refund_differs": "The refund's record is not what it was in the backup, at the same "
    "version.",
    "backup_refund_gone": "A refund of the backup is no longer in Refunds: restore it.",
    "backup_damaged": "Details: refunds backup verify. Then make a new backup: refunds backup run",
    # The gateway
    "gateway_missing": "Our records say that the money moved, and the gateway shows no such "
    "refund: ask the gateway.",
    "gateway_paid": "The gateway moved money, and our records say it did not: ask the gateway, "
    "then "
    "correct the ledger.",
    "gateway_failed": "The money came back; the reconciler records it as REVERSED: is it running?",
    "gateway_differs": "The gateway's refund has other terms than ours: ask the gateway.",
    "gateway_double": "The gateway shows more than one refund for this id: it may be paid twice.",
    "gateway_overpaid": "The gateway refunded more of the payment than was captured.",
    # What the stream could not deliver
    "stream_failure": "refunds audit replay writes it. If that fails, look into it, then: "
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
