"""Restored refunds continue their audit chains.

A backup's row may be older than the refund's trail, because the refund changed after the backup or
its record was removed (which makes an entry, too). If the row were restored unchanged, its next
version would need a key that the trail has already, and that entry would be lost. So such a row is
restored as the version after the trail's latest, with the status and amounts that the trail has.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from refunds.domain.audit_entry import NOT_AN_IMAGE, audit_entry, entry_hash, image_of
from refunds.domain.clock import Clock, rfc3339
from refunds.domain.refund import (
    AUDITED,
    ENDED_WITHOUT_MONEY,
    REFUND_ATTRIBUTES,
    UNFINISHED,
    Item,
    Refund,
    Status,
    restored_version,
)
from refunds.domain.request import RefundRequest
from refunds.tables.audit_trail import AuditTable
from refunds.tables.refunds import day_shard_of, shard_of
from refunds.tables.wire import item_from_wire, item_to_wire, to_wire
from refunds_ops.backup.tables import Wire


class TrailError(Exception):
    """The refund's trail can't be continued: its latest entry is damaged or contradicts the row."""


@dataclass(frozen=True)
class Restorer:
    """Who restores, why, and from what. The audit trail keeps this."""

    by: str
    why: str
    source: str
    """Such as ``backup 12``."""
    on_behalf_of: str | None = None


class AuditChains:
    def __init__(self, audit: AuditTable, clock: Clock, restorer: Restorer) -> None:
        self._audit = audit
        self._clock = clock
        self._restorer = restorer

    def latest(self, row: Wire) -> Item | None:
        """The entry of the refund's highest version. Raises ``TrailError`` if it is damaged."""
        refund_id, transaction_id = (row[name]["S"] for name in ("refund_id", "transaction_id"))
        entry = self._audit.latest(transaction_id, refund_id)
        if entry is None:
            return None
        try:
            if entry_hash(entry) == entry["entry_hash"]:
                return entry
        except NOT_AN_IMAGE:
            pass
        raise TrailError(f"the latest audit entry of {refund_id} is damaged")

    def continued(self, row: Wire) -> Wire | None:
        """The row's next version if its trail is ahead of it; None if the row is restored
        unchanged.

        Raises ``TrailError``, or one of ``NOT_AN_IMAGE`` for a row that is not a refund.
        """
        latest = self.latest(row)
        if latest is None or latest["version"] <= int(row["version"]["N"]):
            return None
        return self.next_version(row, latest)

    def next_version(self, row: Wire, latest: Item | None) -> Wire:
        """The version after both the row and the trail's latest entry.

        Raises ``TrailError`` when they contradict each other.
        """
        item = item_from_wire(row)
        refund = Refund.from_item(item)
        follows, previous_hash = refund.version, audit_entry(item)["entry_hash"]
        if latest is not None and latest["version"] >= refund.version:
            if latest["version"] == refund.version and latest["entry_hash"] != previous_hash:
                raise TrailError(
                    f"the backup and the audit trail have different versions {refund.version} "
                    f"of {refund.refund_id}"
                )
            refund = _as_audited(refund, latest)
            follows, previous_hash = latest["version"], latest["entry_hash"]
        restored = self._restored(refund, follows, previous_hash, self._restorer.source)
        return {name: row[name] for name in row if name not in REFUND_ATTRIBUTES} | restored

    def from_trail(self, latest: Item) -> Wire:
        """A refund that no backup has, as of its latest audit entry.

        Raises one of ``NOT_AN_IMAGE`` for an entry that holds no valid request.
        """
        image = image_of(latest)
        request = {name: image[name] for name in RefundRequest.model_fields if name in image}
        unaudited = {"fingerprint": RefundRequest.model_validate(request).fingerprint()}
        if latest["status"] != Status.REJECTED:
            unaudited["key_used_at"] = _key_used_since(image)
        refund = Refund.from_item(unaudited | image)
        row = self._restored(refund, latest["version"], latest["entry_hash"], "the audit trail")
        return row | {"day_shard": to_wire(day_shard_of(refund.refund_id, refund.created_at))}

    def _restored(self, refund: Refund, follows: int, previous_hash: str, source: str) -> Wire:
        now = rfc3339(self._clock.now())
        restored = restored_version(
            refund,
            follows=follows,
            previous_hash=previous_hash,
            at=now,
            by=self._restorer.by,
            why=self._restorer.why,
            source=source,
            on_behalf_of=self._restorer.on_behalf_of,
        )
        if restored.counted and restored.status in ENDED_WITHOUT_MONEY:
            # It may have given its share back since, and must not do so twice.
            restored = replace(restored, uncounted=dict.fromkeys(restored.counted, "restored"))
        return item_to_wire(_indexed(restored, now).item())


def _as_audited(refund: Refund, entry: Item) -> Refund:
    """The refund as of an audit entry. Attributes that the trail doesn't have stay as in the
    backup."""
    unaudited = {name: value for name, value in refund.item().items() if name not in AUDITED}
    image = image_of(entry)
    if entry["status"] not in (Status.AWAITING_APPROVAL, Status.REJECTED):
        # It may have been approved, and called, after the backup.
        unaudited.setdefault("key_used_at", _key_used_since(image))
    return Refund.from_item(unaudited | image)


def _key_used_since(image: Item) -> str:
    """A refund's key was first used no earlier than this."""
    return str(image["created_at"])


def _indexed(refund: Refund, now: str) -> Refund:
    """An unfinished refund is due for the reconciler now. A finished one is in no index."""
    if refund.status not in UNFINISHED:
        return replace(refund, open_since=None, open_shard=None, check_at=None)
    return replace(
        refund,
        open_since=refund.open_since or now,
        open_shard=shard_of(refund.refund_id),
        check_at=now,
    )
