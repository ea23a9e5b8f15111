"""ReconcileRefunds: one run of the reconciler, and what is reported of it.

Takes any event, ``{}`` too. Two events ask for a part of a run: a gateway that is down, and a
refund that a webhook has named.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from refunds.audit.outcome_events import GATEWAY_DOWN
from refunds.breaker.queue_mapping import RUNNING, IntakeKeeper
from refunds.domain.clock import Deadline
from refunds.domain.redaction import describe
from refunds.processing.reconciler import Reconciler
from refunds.telemetry import Log, Metrics


class ReconcileRefunds:
    def __init__(
        self, *, reconciler: Reconciler, keeper: IntakeKeeper, metrics: Metrics, log: Log
    ) -> None:
        self._reconciler = reconciler
        self._keeper = keeper
        self._metrics = metrics
        self._log = log

    def handle(self, event: dict[str, Any], deadline: Deadline) -> dict[str, Any]:
        """Returns what the run did, in counts."""
        if refund_id := event.get("look_at"):
            return self._look_at(refund_id, deadline)
        intake = self._keep_intake(deadline)
        if event.get("detail-type") == GATEWAY_DOWN:
            return intake
        done = self._reconciler.run(deadline)
        metrics = self._metrics
        metrics.add_metric("OldestOpenRefundAgeSeconds", "Seconds", done.oldest_open_seconds)
        metrics.add_metric("OldestDeadLetterAgeSeconds", "Seconds", done.oldest_dead_letter_seconds)
        metrics.add_metric("RefundsInReview", "Count", done.in_review)
        metrics.add_metric("RefundsReversed", "Count", done.reversed)
        metrics.add_metric("ReconcileErrors", "Count", done.failed)
        counts = asdict(done) | intake
        self._log.info("reconciled", **counts)
        return counts

    def _keep_intake(self, deadline: Deadline) -> dict[str, Any]:
        """Start or stop the queue as its state asks; says how it is."""
        try:
            switched = self._keeper.keep(deadline)
        except Exception as exc:
            # Open refunds are settled all the same. The next run tries again.
            self._log.error("queue not switched", extra=describe(exc))
            self._metrics.add_metric("QueueSwitchErrors", "Count", 1)
            return {"requests": "not switched"}
        intake = switched.intake
        stands = not intake.flows or switched.mapping_state not in RUNNING
        self._metrics.add_metric("QueuePaused", "Count", int(stands))
        state: dict[str, Any] = {"breaker": intake.breaker.value, "paused": intake.paused}
        self._log.info("queue looked after", mapping_state=switched.mapping_state, **state)
        return {"requests": switched.mapping_state, **state}

    def _look_at(self, refund_id: str, deadline: Deadline) -> dict[str, Any]:
        refund = self._reconciler.look_at(refund_id, deadline)
        status = refund.status.value if refund else None
        self._metrics.add_metric("RefundsLookedAt", "Count", 1)
        self._log.info("refund looked at", refund_id=refund_id, status=status)
        return {"refund_id": refund_id, "status": status}
