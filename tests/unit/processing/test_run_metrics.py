"""Each metric of a run comes from the count that it is named after: alarms stand on them."""

from __future__ import annotations

from typing import Any
from unittest.mock import Mock

import pytest
from tests.support.builders import refund
from tests.support.reconciler_runs import RUN_SECONDS, opened
from tests.support.world import World

from refunds.breaker.queue_mapping import Switched
from refunds.domain.intake import Intake
from refunds.domain.refund import Status
from refunds.failures import PERMISSION_DENIED, Failure, FailureKind
from refunds.processing.dead_letters import ArchiveResult
from refunds.processing.open_refunds import OpenResult
from refunds.processing.reconcile_refunds import MAX_LOGGED_FAULTS, ReconcileRefunds
from refunds.processing.reconciler import RunResult
from refunds.processing.reversal_sweep import ReversalSweep, SweepResult


class Metrics:
    def __init__(self) -> None:
        self.added: dict[str, tuple[str, float]] = {}
        self.emitted: dict[str, tuple[str, float]] = {}

    def add_metric(self, name: str, unit: str, value: float) -> None:
        self.added[name] = (unit, value)

    def flush_metrics(self) -> None:
        self.emitted |= self.added
        self.added.clear()

    def all_of(self, unit: str) -> dict[str, float]:
        self.flush_metrics()
        return {name: value for name, (of, value) in self.emitted.items() if of == unit}


def reconcile(metrics: Metrics, reconciler: Any) -> ReconcileRefunds:
    other: Any = Mock()
    other.keep.return_value = Switched(Intake(), "Enabled", settled=True)
    other.trouble.return_value = None
    return ReconcileRefunds(
        reconciler=reconciler, keeper=other, stream=other, metrics=metrics, log=other
    )


def test_every_count_of_a_run_is_its_own_metric() -> None:
    metrics = Metrics()
    run = reconcile(metrics, None)
    result = RunResult(
        dead_letters=ArchiveResult(oldest_seconds=2, failed=3, unhandled=4, unhandled_records=5),
        open=OpenResult(
            in_review=6,
            awaiting_approval=7,
            failed=8,
            unreadable=9,
            oldest_open_seconds=10,
            oldest_review_seconds=11,
            oldest_approval_seconds=12,
            paid_though_ended=13,
            overdue_seconds=14,
            balance_short=15,
        ),
        sweep=SweepResult(
            reversed=16,
            paid_though_ended=17,
            failed=18,
            unreadable=19,
            behind_seconds=20,
            unseen_seconds={"young": 21},
        ),
    )
    assert result.failed == 3 + 8 + 18
    run._report_before_sweep(result)
    assert metrics.emitted["RefundsPaidThoughEnded"] == ("Count", 13)
    run._report_sweep(result.sweep)
    counts = metrics.all_of("Count")
    assert metrics.all_of("Seconds") == {
        "OldestDeadLetterAgeSeconds": 2,
        "OldestOpenRefundAgeSeconds": 10,
        "OldestReviewAgeSeconds": 11,
        "OldestApprovalAgeSeconds": 12,
        "OpenRefundsOverdueSeconds": 14,
        "SweepBehindSeconds": 20,
        "UnseenYoungRefundsSeconds": 21,
    }
    assert (
        counts
        | {
            "ReconcilerRuns": 1,
            "ArchiveErrors": 3,
            "ArchivedDeadLetters": 4,
            "KeptAuditRecords": 5,
            "RefundsInReview": 6,
            "RefundsAwaitingApproval": 7,
            "SettleErrors": 8,
            "UnreadableRefunds": 9,
            "RefundsPaidThoughEnded": 17,
            "InsufficientBalance": 15,
            "RefundsReversed": 16,
            "SweepErrors": 18,
            "UnreadableGatewayRefunds": 19,
        }
        == counts
    )


def test_a_run_watches_the_audit_trail_and_logs_what_a_person_must_see() -> None:
    """A queue's hiccup is no fault. Of thousands of faults, the first of each part are logged."""
    metrics, log, stream = Metrics(), Mock(), Mock()
    broken = Failure(FailureKind.UNEXPECTED, "KeyError", {"refund_id": "r1"})
    busy = Failure(FailureKind.UNAVAILABLE, "ThrottlingException", {"refund_id": "r2"})
    keeper: Any = Mock()
    keeper.keep.return_value = Switched(Intake(), "Enabled", settled=True)
    stream.trouble.return_value = "the table has no stream"
    reconciler: Any = Mock()
    denied = Failure(FailureKind.MISCONFIGURED, PERMISSION_DENIED, {"refund_id": "r1"})
    open_, sweep = OpenResult(failures=(denied, busy)), SweepResult(failures=(broken,) * 30)
    result = RunResult(ArchiveResult(), open_, sweep)

    def run(deadline: Any, down: Any, *, before_sweep: Any) -> RunResult:
        before_sweep(result)
        return result

    reconciler.run = run
    answer = ReconcileRefunds(
        reconciler=reconciler, keeper=keeper, stream=stream, metrics=metrics, log=log
    ).handle({}, None)  # type: ignore[arg-type]

    (done,) = [call for call in log.info.call_args_list if call.args == ("reconciled",)]
    assert answer == done.kwargs
    assert (answer["settled"], answer["failed"], "failures" in answer) == (0, 0, False)
    assert answer["errors"] == ["KeyError", "ThrottlingException", PERMISSION_DENIED]
    faults = [call for call in log.error.call_args_list if call.args == ("step of the run failed",)]
    assert len(faults) == 1 + MAX_LOGGED_FAULTS
    assert {call.kwargs["extra"]["refund_id"] for call in faults} == {"r1"}
    log.warning.assert_called_once_with("refunds not swept", refund_ids=["r1"])
    counts = metrics.all_of("Count")
    assert (counts["AuditStopped"], counts["MisconfiguredPermissionDenied"]) == (1, 1)


class KilledError(BaseException):
    """The function's time or memory is over."""


def test_a_sweep_that_is_killed_takes_no_other_metric_with_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is killed has no ``finally`` that runs."""

    def killed(self: ReversalSweep, deadline: Any) -> SweepResult:
        raise KilledError

    monkeypatch.setattr(ReversalSweep, "sweep", killed)
    opened(world, status=Status.IN_REVIEW)
    metrics = Metrics()
    with pytest.raises(KilledError):
        reconcile(metrics, world.reconciler).handle({}, world.deadline(RUN_SECONDS))

    assert metrics.emitted["RefundsInReview"] == ("Count", 1)
    assert metrics.emitted["OldestReviewAgeSeconds"] == ("Seconds", 0)
    assert metrics.emitted["OldestOpenRefundAgeSeconds"] == ("Seconds", 3600)
    assert metrics.emitted["QueuePaused"] == ("Count", 0)
    # It was no whole run: ReconcilerSilent comes on if that goes on.
    assert "ReconcilerRuns" not in {**metrics.emitted, **metrics.added}


def test_a_refund_that_a_webhook_names_is_counted_and_logged() -> None:
    metrics, log, reconciler = Metrics(), Mock(), Mock()
    reconciler.look_at.return_value = refund(status=Status.SUCCEEDED)
    other: Any = Mock()
    answer = ReconcileRefunds(
        reconciler=reconciler, keeper=other, stream=other, metrics=metrics, log=log
    ).handle({"look_at": "refund-1"}, other)

    assert answer == {"refund_id": "refund-1", "status": "SUCCEEDED"}
    assert metrics.all_of("Count") == {"RefundsLookedAt": 1}
    log.info.assert_called_once_with("refund looked at", **answer)
