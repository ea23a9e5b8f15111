"""What each alarm's metric reads when all is well and when it is not, by the minute.

The histories of the simulator show that the functions report these metrics when they should. These
made series show the rest of an alarm: that it is silent just inside what is allowed, on just
outside, on while only some of the reports are bad, and what it does when nobody reports any more.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cache

from tests.simulator.alarm_expectations import Expectations, Expected
from tests.simulator.alarms import Datapoints, Series, series
from tests.simulator.kernel import START_SECONDS
from tests.simulator.watch import DAY, HOUR, MINUTE
from tests.support.expanded_template import STACK_NAME

RUN_SECONDS = 300.0
"""Between two runs of the reconciler."""


@dataclass(frozen=True)
class Reading:
    """``good`` is the highest value that is allowed, or None where a metric has datapoints only
    when something is wrong; ``low`` is what other reports read beside a bad one."""

    where: Series
    good: float | None
    bad: float
    low: float | None = 0.0
    every: float = RUN_SECONDS
    one_in: int = 2
    """Of so many reports one is bad, while it is wrong."""
    holds: bool = False
    """Without reports nobody knows that it is right again: the alarm stays as it was."""
    within: float = HOUR
    lasts: float = 2 * HOUR
    """How long after the last bad report the alarm may still be on."""


def _of_stack(metric: str) -> Series:
    return series("Refunds", metric, service=STACK_NAME)


def _of_function(metric: str, function: str) -> Series:
    return series("AWS/Lambda", metric, FunctionName=function)


def _state(metric: str, good: float, bad: float, *, lasts: float = 2 * HOUR) -> Reading:
    """Measured by each run of the reconciler."""
    low = 0.0 if good == 0 else good / 10
    return Reading(_of_stack(metric), good, bad, low, holds=True, within=2 * HOUR + 5, lasts=lasts)


def _wrong(metric: str, *, every: float = 600.0) -> Reading:
    """Reported only when something is wrong."""
    return Reading(_of_stack(metric), None, 1, None, every=every, one_in=1)


def _function(metric: str, function: str, *, good: float = 0, bad: float = 1) -> Reading:
    """Lambda reports it for each invocation, 0 for those without a fault."""
    return Reading(
        _of_function(metric, function), good, bad, every=60.0, one_in=15, lasts=10 * MINUTE
    )


_QUEUE = series("AWS/SQS", "ApproximateAgeOfOldestMessage", QueueName="RefundQueue.QueueName")
_DEAD = series(
    "AWS/SQS",
    "ApproximateNumberOfMessagesVisible",
    QueueName="RefundDeadLetterQueue.QueueName",
)
_LEFT = series(
    "AWS/Lambda",
    "OnFailureDestinationDeliveredEventCount",
    EventSourceMappingUUID="WriteAuditRefundChanges",
)

READINGS = {
    "Misconfigured": _wrong("Misconfigured"),
    "ProcessRefundUnexpectedErrors": _wrong("ProcessRefundUnexpectedErrors"),
    "WriteAuditUnexpectedErrors": _wrong("WriteAuditUnexpectedErrors"),
    "ReconcileRefundsUnexpectedErrors": _wrong("ReconcileRefundsUnexpectedErrors"),
    "AwsErrors": _wrong("AwsErrors", every=240.0),
    "RequestsWait": Reading(_QUEUE, DAY - HOUR, DAY + HOUR, 30.0, every=60.0, lasts=10 * MINUTE),
    "RequestsKeepFailing": Reading(
        _of_stack("OldestPutBackAgeSeconds"), DAY - HOUR, DAY + HOUR, every=60.0, lasts=3 * HOUR
    ),
    "DeadLetters": Reading(_DEAD, 0, 1, every=60.0, lasts=10 * MINUTE),
    "DeadLettersWait": _state("OldestDeadLetterAgeSeconds", 3 * DAY - HOUR, 3 * DAY + HOUR),
    "DeadLettersArchived": _state("ArchivedDeadLetters", 0, 1),
    "ProcessRefundErrors": _function("Errors", "ProcessRefund"),
    "WriteAuditErrors": _function("Errors", "WriteAudit"),
    "ReconcileRefundsErrors": _function("Errors", "ReconcileRefunds"),
    "BackupRefundsErrors": _function("Errors", "BackupRefunds"),
    "ReceiveWebhookErrors": _function("Errors", "ReceiveWebhook"),
    "ProcessRefundThrottles": _function("Throttles", "ProcessRefund"),
    "WriteAuditThrottles": _function("Throttles", "WriteAudit"),
    "QueuePaused": _state("QueuePaused", 0, 1),
    "SettleErrors": _state("SettleErrors", 0, 1),
    "SweepErrors": _state("SweepErrors", 0, 1, lasts=3 * HOUR),
    "SweepBehind": _state("SweepBehindSeconds", 0, 1),
    "ArchiveErrors": _state("ArchiveErrors", 0, 1),
    "QueueSwitchErrors": _state("QueueSwitchErrors", 0, 1),
    "OpenRefundsWait": _state("OldestOpenRefundAgeSeconds", DAY - HOUR, DAY + HOUR, lasts=3 * HOUR),
    "OpenRefundsOverdue": _state("OpenRefundsOverdueSeconds", 7000, 7400),
    "InsufficientBalance": replace(_state("InsufficientBalance", 0, 1, lasts=3 * HOUR), one_in=13),
    "RefundsToReview": _state("RefundsInReview", 0, 1, lasts=3 * HOUR),
    "ReviewsWait": _state("OldestReviewAgeSeconds", 3 * DAY - HOUR, 3 * DAY + HOUR, lasts=3 * HOUR),
    "ApprovalsWait": _state(
        "OldestApprovalAgeSeconds", 4 * HOUR - 600, 4 * HOUR + 600, lasts=3 * HOUR
    ),
    "UnreadableRefunds": replace(_state("UnreadableRefunds", 0, 1, lasts=3 * HOUR), one_in=13),
    "UnreadableGatewayRefunds": Reading(
        _of_stack("UnreadableGatewayRefunds"), 0, 1, one_in=13, lasts=25 * HOUR
    ),
    "RefundsPaidThoughEnded": _state("RefundsPaidThoughEnded", 0, 1, lasts=3 * HOUR),
    "AuditLags": _function("IteratorAge", "WriteAudit", good=3_500_000, bad=3_700_000),
    "AuditStopped": _state("AuditStopped", 0, 1),
    "AuditRejects": Reading(_of_stack("AuditEntriesRejected"), 0, 1, every=60.0, one_in=15),
    "RecordsLeftTheStream": Reading(_LEFT, 0, 1, every=60.0, one_in=15),
    "AuditRecordsKept": _state("KeptAuditRecords", 0, 1),
    "RecordsLost": Reading(
        _of_function("DestinationDeliveryFailures", "WriteAudit"),
        0,
        1,
        every=120.0,
        one_in=10,
        lasts=25 * HOUR,
    ),
    "BackupDrillFailed": Reading(
        _of_stack("BackupDrillFailed"), 0, 1, every=600.0, one_in=1, holds=True, lasts=600.0
    ),
    "BackupDrillMissing": Reading(
        _of_stack("DaysSinceBackupDrill"), 31, 32, every=600.0, one_in=1, holds=True, lasts=600.0
    ),
}
"""Of each alarm that is on above a threshold. Silence is its own fault in the others, which
``alarm_histories`` plays."""

GOOD_SECONDS = 3 * HOUR
BAD_SECONDS = 4 * HOUR
SILENT_SECONDS = 3 * HOUR


@dataclass
class Readings(Expectations):
    metrics: dict[Series, Datapoints] = field(default_factory=dict)

    @property
    def data(self) -> dict[Series, Datapoints]:
        return self.metrics


@cache
def read(alarm: str) -> Readings:
    """Good for hours, bad for hours, silent for hours, and good again."""
    reading, history = READINGS[alarm], Readings()
    points = history.metrics.setdefault(reading.where, Datapoints())

    def report(value: float | None, since: float, until: float, beside: float | None) -> None:
        at, number = since + 20, 0
        while at < until:
            value_now = value if number % reading.one_in == 0 else beside
            if value_now is not None:
                points.add(at, value_now)
            at, number = at + reading.every, number + 1

    bad = START_SECONDS + GOOD_SECONDS
    silent = bad + BAD_SECONDS
    good = silent + SILENT_SECONDS + reading.lasts
    history.quiet_from = good + (reading.lasts if reading.holds else 0) + reading.every
    history.ends = history.quiet_from + HOUR
    report(reading.good, START_SECONDS, bad, reading.good)
    report(reading.bad, bad, silent - MINUTE, reading.low)
    points.add(silent - MINUTE, reading.bad)
    report(reading.good, good, history.ends, reading.good)
    history.silent.append(Expected(alarm, START_SECONDS, bad))
    history.expected += [
        Expected(alarm, bad, bad + reading.within),
        Expected(alarm, silent, silent),
    ]
    if reading.holds:
        history.expected.append(Expected(alarm, good - 60, good - 60))
    else:
        history.silent.append(Expected(alarm, silent + reading.lasts, good))
    return history
