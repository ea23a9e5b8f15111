"""Refunds that the gateway shows as paid: one that the bank sends back is reversed, and one that
ended here without money stays in sight."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from refunds.domain.clock import Clock, Deadline, from_rfc3339, rfc3339
from refunds.domain.refund import Refund, Status
from refunds.gateways.contract import GatewayRefund
from refunds.processing.evidence import Evidence, is_live, safe_text
from refunds.processing.recorder import RELEASE_UNDER_WAY_AT_MOST, Later, Recorded, Recorder
from refunds.tables.refunds import RefundsTable

PAID_UNSEEN = timedelta(hours=12)
"""How long the gateway is asked about a paid refund that it does not show, before nothing is left
to wait for."""


class PaidRefunds:
    def __init__(
        self, *, refunds: RefundsTable, recorder: Recorder, evidence: Evidence, clock: Clock
    ) -> None:
        self._refunds = refunds
        self._recorder = recorder
        self._evidence = evidence
        self._clock = clock

    def reverse(self, refund: Refund, shown: GatewayRefund) -> Recorded | Later:
        """The bank has sent a paid refund back: ``shown`` is the gateway's evidence."""
        return self._recorder.finish(
            refund,
            Status.REVERSED,
            failure_code=safe_text(shown.failure_code) or "reversed",
            failure_message=safe_text(shown.failure_message),
        )

    def close(self, refund: Refund, deadline: Deadline) -> Recorded | Later:
        """Reverse a paid refund in the open index if the bank has sent it back, else close it.

        A person corrected it, or its record was rebuilt when it was already older than the sweep
        reads. Raises ``GatewayUnavailableError``.
        """
        now = self._clock.now()
        self._recorder.hold_again(refund)
        if now - from_rfc3339(refund.updated_at) >= RELEASE_UNDER_WAY_AT_MOST:
            found = self._evidence.search(refund, deadline)
            if found and not is_live(found):
                return self.reverse(refund, found[-1])
            if not found and now - from_rfc3339(refund.open_since or rfc3339(now)) < PAID_UNSEEN:
                self._recorder.recheck(refund)
                return Recorded(refund)
        return Recorded(self._recorder.hold_corrected(refund))

    def mark(self, refund: Refund) -> bool:
        """Put a refund into the open index, for a person, because it ended here without money but
        the gateway shows it as paid or pending. False when the refund was changed meanwhile."""
        now = rfc3339(self._clock.now())
        return self._refunds.save(
            refund, replace(self._recorder.opened(refund, again=True), seen_paid_at=now)
        )

    def look_at_marked(self, refund: Refund, deadline: Deadline) -> Refund:
        """Ask again about a refund that ``mark`` has marked, and close it once the gateway no
        longer shows it as paid. Raises ``GatewayUnavailableError``."""
        if self._evidence.is_at_gateway(refund, deadline):
            self._recorder.recheck(refund)
            return refund
        return self._recorder.give_back(replace(refund, seen_paid_at=None), stored=refund).refund
