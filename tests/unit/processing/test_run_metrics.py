"""Each metric of a run comes from the count that it is named after: alarms stand on them."""

from __future__ import annotations

from typing import Any

from refunds.processing.dead_letters import ArchiveResult
from refunds.processing.open_refunds import OpenResult
from refunds.processing.reconcile_refunds import ReconcileRefunds
from refunds.processing.reconciler import RunResult
from refunds.processing.reversal_sweep import SweepResult


class Metrics:
    def __init__(self) -> None:
        self.added: dict[str, tuple[str, float]] = {}

    def add_metric(self, name: str, unit: str, value: float) -> None:
        self.added[name] = (unit, value)


def test_every_count_of_a_run_is_its_own_metric() -> None:
    metrics = Metrics()
    nobody: Any = None
    run = ReconcileRefunds(
        reconciler=nobody, keeper=nobody, stream=nobody, metrics=metrics, log=nobody
    )
    run._report(
        RunResult(
            dead_letters=ArchiveResult(
                oldest_seconds=2, failed=3, unhandled=4, unhandled_records=5
            ),
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
    )
    seconds = {name: value for name, (unit, value) in metrics.added.items() if unit == "Seconds"}
    counts = {name: value for name, (unit, value) in metrics.added.items() if unit == "Count"}
    assert seconds == {
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
            "RefundsPaidThoughEnded": 30,
            "InsufficientBalance": 15,
            "RefundsReversed": 16,
            "SweepErrors": 18,
            "UnreadableGatewayRefunds": 19,
        }
        == counts
    )
