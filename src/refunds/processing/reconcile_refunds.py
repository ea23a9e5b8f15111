"""ReconcileRefunds: one run of the reconciler, and its metrics.

Takes any event, ``{}`` too. Two events ask for a part of a run: a gateway that is down, and a
refund that a webhook has named.

What can't be read is reported as bad: leaving a metric out would end its alarm while the cause is
still there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from refunds.audit.outcome_events import INTAKE_EVENTS
from refunds.audit.stream_watch import StreamWatch
from refunds.breaker.queue_mapping import RUNNING, IntakeKeeper
from refunds.domain.clock import Deadline
from refunds.domain.redaction import describe
from refunds.failures import Failure, classify, count_failures
from refunds.processing.reconciler import Reconciler, RunResult
from refunds.processing.reversal_sweep import SweepResult
from refunds.telemetry import Log, Metrics

FUNCTION = "ReconcileRefunds"

MAX_LOGGED_FAULTS = 20
"""Lines of each part of a run. A fault of every refund would write thousands."""


class ReconcileRefunds:
    def __init__(
        self,
        *,
        reconciler: Reconciler,
        keeper: IntakeKeeper,
        stream: StreamWatch,
        metrics: Metrics,
        log: Log,
    ) -> None:
        self._reconciler = reconciler
        self._keeper = keeper
        self._stream = stream
        self._metrics = metrics
        self._log = log

    def handle(self, event: dict[str, Any], deadline: Deadline) -> dict[str, Any]:
        """Returns what the run did, in counts."""
        if refund_id := event.get("look_at"):
            return self._look_at(refund_id, deadline)
        intake = self._keep_intake(deadline)
        if event.get("detail-type") in INTAKE_EVENTS:
            return intake
        self._watch_stream()
        result = self._reconciler.run(
            deadline, intake.get("gateways_down", ()), before_sweep=self._report_before_sweep
        )
        self._report_sweep(result.sweep)
        counts = _counts(result) | intake
        self._log.info("reconciled", **counts)
        return counts

    def _report_before_sweep(self, result: RunResult) -> None:
        """Report the parts of a run before the sweep. A sweep that crashes or times out must not
        take these metrics with it."""
        open_, dead_letters = result.open, result.dead_letters
        self._seconds("OldestOpenRefundAgeSeconds", open_.oldest_open_seconds)
        self._seconds("OldestReviewAgeSeconds", open_.oldest_review_seconds)
        self._seconds("OldestApprovalAgeSeconds", open_.oldest_approval_seconds)
        self._seconds("OpenRefundsOverdueSeconds", open_.overdue_seconds)
        self._seconds("OldestDeadLetterAgeSeconds", dead_letters.oldest_seconds)
        self._count("RefundsInReview", open_.in_review)
        self._count("RefundsAwaitingApproval", open_.awaiting_approval)
        self._count("RefundsPaidThoughEnded", open_.paid_though_ended)
        self._count("InsufficientBalance", open_.balance_short)
        self._count("ArchivedDeadLetters", dead_letters.unhandled)
        self._count("KeptAuditRecords", dead_letters.unhandled_records)
        self._count("UnreadableRefunds", open_.unreadable)
        self._count("SettleErrors", open_.failed)
        self._count("ArchiveErrors", dead_letters.failed)
        self._report_failures((*dead_letters.failures, *open_.failures))
        self._metrics.flush_metrics()

    def _report_sweep(self, sweep: SweepResult) -> None:
        self._count("ReconcilerRuns", 1)  # Only of whole runs: a sweep that never ends is alarmed.
        if sweep.behind_seconds is not None:
            self._seconds("SweepBehindSeconds", sweep.behind_seconds)
        for tier, seconds in sweep.unseen_seconds.items():
            self._seconds(f"Unseen{tier.title()}RefundsSeconds", seconds)
        self._count("RefundsReversed", sweep.reversed)
        # Another value of this metric. Its alarm reads the maximum.
        self._count("RefundsPaidThoughEnded", sweep.paid_though_ended)
        self._count("UnreadableGatewayRefunds", sweep.unreadable)
        self._count("SweepErrors", sweep.failed)
        self._report_failures(sweep.failures)
        ids = {each.detail["refund_id"] for each in sweep.failures if "refund_id" in each.detail}
        if ids:
            self._log.warning("refunds not swept", refund_ids=sorted(ids)[:MAX_LOGGED_FAULTS])

    def _report_failures(self, failures: Sequence[Failure]) -> None:
        count_failures(self._metrics, FUNCTION, failures)
        faults = [each for each in failures if each.needs_a_person]
        for failure in faults[:MAX_LOGGED_FAULTS]:
            self._log.error("step of the run failed", extra=dict(failure.detail))

    def _keep_intake(self, deadline: Deadline) -> dict[str, Any]:
        """Start or stop the queue as its state asks. Returns how it is."""
        try:
            switched = self._keeper.keep(deadline)
        except Exception as exc:
            # Open refunds are settled all the same. The next run tries again.
            self._failed("queue not switched", exc)
            self._count("QueueSwitchErrors", 1)
            self._count("QueuePaused", 1)  # as far as anybody knows
            return {"requests": "not switched"}
        intake = switched.intake
        stands = not intake.flows or switched.mapping_state not in RUNNING
        stands = stands or bool(switched.held_gateways)
        self._count("QueuePaused", int(stands))
        self._count("QueueSwitchErrors", 0)
        state: dict[str, Any] = {"breaker": intake.breaker.value, "paused": intake.paused}
        if switched.held_gateways:
            state["held_gateways"] = list(switched.held_gateways)
        if switched.gateways_down:
            state["gateways_down"] = list(switched.gateways_down)
        self._log.info("queue looked after", mapping_state=switched.mapping_state, **state)
        return {"requests": switched.mapping_state, **state}

    def _watch_stream(self) -> None:
        try:
            trouble = self._stream.trouble()
        except Exception as exc:
            self._failed("audit stream not looked at", exc)
            trouble = "unknown"
        if trouble:
            self._log.error("audit trail stands still", reason=trouble)
        self._count("AuditStopped", int(trouble is not None))

    def _look_at(self, refund_id: str, deadline: Deadline) -> dict[str, Any]:
        refund = self._reconciler.look_at(refund_id, deadline)
        status = refund.status.value if refund else None
        self._count("RefundsLookedAt", 1)
        self._log.info("refund looked at", refund_id=refund_id, status=status)
        return {"refund_id": refund_id, "status": status}

    def _failed(self, message: str, error: Exception) -> None:
        self._log.error(message, extra=describe(error))
        count_failures(self._metrics, FUNCTION, [classify(error)])

    def _count(self, name: str, value: int) -> None:
        self._metrics.add_metric(name, "Count", value)

    def _seconds(self, name: str, value: int) -> None:
        self._metrics.add_metric(name, "Seconds", value)


def _counts(result: RunResult) -> dict[str, Any]:
    open_, sweep, dead_letters = result.open, result.sweep, result.dead_letters
    counts = {name: count for name, count in open_._asdict().items() if name != "failures"}
    return counts | {
        "failed": result.failed,
        "reversed": sweep.reversed,
        "swept_pages": sweep.pages,
        "sweep_complete": sweep.complete,
        "unseen_seconds": dict(sweep.unseen_seconds),
        "archived": dead_letters.archived,
        "dead_letters_to_handle": dead_letters.unhandled,
        "audit_records_to_handle": dead_letters.unhandled_records,
        "oldest_dead_letter_seconds": dead_letters.oldest_seconds,
        "errors": sorted({each.name for each in result.failures}),
    }
