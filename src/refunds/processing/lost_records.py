"""What the audit trail still knows of a refund whose record was lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

from refunds.domain.audit_entry import audit_entry, image_of
from refunds.domain.clock import Clock, from_rfc3339
from refunds.domain.refund import SWEEP_BACK, UNFINISHED, Item, Refund, Status
from refunds.domain.request import RefundRequest, idempotency_conflict
from refunds.processing.recorder import Recorder
from refunds.tables.audit_trail import AuditTable

SWEEP_MARGIN = timedelta(days=1)
"""The sweep may not read a refund again that is this close to the end of its reach."""


class LostRecords:
    """Rebuilds refunds from their trails. ``new_token`` gives text that never repeats."""

    def __init__(
        self,
        *,
        audit: AuditTable,
        recorder: Recorder,
        clock: Clock,
        new_token: Callable[[], str],
    ) -> None:
        self._audit = audit
        self._recorder = recorder
        self._clock = clock
        self._new_token = new_token

    def last_entry(self, request: RefundRequest) -> Item | None:
        """The last entry of the requested refund's trail, or None."""
        return self._audit.latest(request.transaction_id, request.refund_id)

    def last_known(self, request: RefundRequest) -> Refund | None:
        """The refund as its audit trail last saw it, or None."""
        last = self.last_entry(request)
        return self.rebuilt(request, last) if last else None

    def amount_minor(self, request: RefundRequest) -> int | None:
        """The amount of a refund that the gateway has but the tables don't: the trail's amount, or
        else the request's own; None if neither names one."""
        last = self.last_entry(request)
        recorded = last.get("details", {}).get("amount_minor") if last else None
        return recorded if isinstance(recorded, int) else request.amount_minor

    def rebuilt(self, request: RefundRequest, last: Item) -> Refund | None:
        """The refund of a trail's last entry; None if the entry contains no refund's image.

        Raises ``RefusedError`` when it is another request's.
        """
        try:
            image = image_of(last)
            if audit_entry(image)["entry_hash"] != last["entry_hash"]:
                return None  # removed by hand, or tampered with
            recorded = Refund.from_item(image | {"fingerprint": request.fingerprint()})
        except (KeyError, ValueError, TypeError, AttributeError):
            return None  # no refund's image
        if not _asks_for(request, recorded):
            raise idempotency_conflict()
        recorded = replace(
            recorded,
            attempt_token=self._new_token(),
            key_used_at=recorded.created_at,
        )
        unfinished = recorded.status in UNFINISHED or self._sweep_has_passed(recorded)
        return self._recorder.opened(recorded) if unfinished else recorded

    def _sweep_has_passed(self, refund: Refund) -> bool:
        """Whether only a look-up would still show that the bank has sent the refund back."""
        age = self._clock.now() - from_rfc3339(refund.created_at)
        return refund.status is Status.SUCCEEDED and age > SWEEP_BACK - SWEEP_MARGIN


def continue_chain(refund: Refund, last: Item) -> Refund:
    """The refund as the next version of a chain whose record was removed by hand. Whatever was sent
    to the gateway for it was sent with that chain's account, key and age. What "all that is left"
    came to is in that chain, too."""
    details = last["details"]
    began_at = min(str(details.get("created_at", refund.created_at)), refund.created_at)
    return replace(
        refund,
        amount_minor=refund.amount_minor or details.get("amount_minor"),
        version=last["version"] + 1,
        previous_hash=last["entry_hash"],
        gateway=details["gateway"],
        gateway_account=details.get("gateway_account"),
        gateway_reference=details.get("gateway_reference"),
        order_format=details.get("order_format"),
        key_used_at=began_at,
    )


def _asks_for(request: RefundRequest, refund: Refund) -> bool:
    """Whether the refund's record is what ``request`` asks for, except who sent it and when."""
    if request.amount_minor not in (None, refund.amount_minor):
        return False
    fields = request.recorded_fields()
    return all(
        getattr(refund, name) == value
        for name, value in fields.items()
        if name not in ("requested_at", "sent_by")
    )
