"""I9: whatever needs a person, or stays wrong, is alarmed within a bound, until it is right.

``BOUNDS`` says what, which alarm and how soon. The table in docs/runbook.md is made from it. Every
history is checked: at each look, whatever has been wrong for longer than its bound must have its
alarm on; at the end, when all is well, every alarm must be off.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.simulator.alarms import AlarmBoard, Series, series
from tests.simulator.kernel import START_SECONDS, Violation
from tests.simulator.sqs import Queue
from tests.simulator.telemetry import Metric
from tests.support.expanded_template import STACK_NAME

from refunds.domain.clock import from_rfc3339

if TYPE_CHECKING:
    from tests.simulator.world import World

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0

LAMBDA_NAMES = {"process": "ProcessRefund", "audit": "WriteAudit", "reconcile": "ReconcileRefunds"}
QUEUE_NAMES = {"queue": "RefundQueue.QueueName", "dlq": "RefundDeadLetterQueue.QueueName"}
SAMPLE_SECONDS = 300.0

LONGEST_ON_SECONDS = 25 * HOUR
"""By then every alarm is off after its cause has gone."""
SETTLES_SECONDS = 4 * HOUR
"""By then all but those that stay on for a day on purpose."""
ON_FOR_A_DAY = frozenset({"RecordsLost", "UnreadableGatewayRefunds"})


@dataclass(frozen=True)
class Bound:
    """If ``what`` is so, ``alarm`` is on within ``seconds``, counted from when it went wrong.

    The bounds hold with the default schedule of the reconciler, a run every five minutes.
    """

    what: str
    alarm: str
    seconds: float


BOUNDS = (
    Bound("a release fails on every request", "ProcessRefundUnexpectedErrors", 3 * MINUTE),
    Bound("a release fails on every audit record", "WriteAuditUnexpectedErrors", 7 * MINUTE),
    Bound("the reconciler fails on a refund", "ReconcileRefundsUnexpectedErrors", 12 * MINUTE),
    Bound("the gateway refuses our API key", "Misconfigured", 7 * MINUTE),
    Bound("a permission is denied, a key disabled, a table gone", "Misconfigured", 12 * MINUTE),
    Bound("AWS does not answer", "AwsErrors", 45 * MINUTE),
    Bound("the gateway is down", "QueuePaused", 20 * MINUTE),
    Bound("a day's total is above StopAboveMinor", "QueuePaused", 7 * MINUTE),
    Bound("the queue's mapping can't be read", "QueuePaused", 7 * MINUTE),
    Bound("the queue's mapping can't be read", "QueueSwitchErrors", 35 * MINUTE),
    Bound("a request has waited, never tried", "RequestsWait", DAY + 10 * MINUTE),
    Bound("a request fails again and again", "RequestsKeepFailing", DAY + 65 * MINUTE),
    Bound("a message is in the dead-letter queue", "DeadLetters", 7 * MINUTE),
    Bound("a dead letter gets old", "DeadLettersWait", 3 * DAY + 10 * MINUTE),
    Bound("a dead letter was archived unseen", "DeadLettersArchived", 7 * MINUTE),
    Bound("dead letters can't be read or counted", "ArchiveErrors", 35 * MINUTE),
    Bound("the index of open refunds can't be read", "SettleErrors", 35 * MINUTE),
    Bound("the index of open refunds can't be read", "OpenRefundsWait", 7 * MINUTE),
    Bound("a refund stays open", "OpenRefundsWait", DAY + 65 * MINUTE),
    Bound("more open refunds than can be settled", "OpenRefundsOverdue", 3 * HOUR),
    Bound("our balance at the gateway is too low", "InsufficientBalance", 7 * MINUTE),
    Bound("a refund needs a decision", "RefundsToReview", 65 * MINUTE),
    Bound("a decision is not made", "ReviewsWait", 3 * DAY + 65 * MINUTE),
    Bound("a refund waits for approval", "ApprovalsWait", 6 * HOUR),
    Bound("a refund is paid there and ended here", "RefundsPaidThoughEnded", 65 * MINUTE),
    Bound("a row of the table can't be read", "UnreadableRefunds", 12 * MINUTE),
    Bound("the gateway lists something unreadable", "UnreadableGatewayRefunds", 12 * MINUTE),
    Bound("the gateway's list can't be read", "SweepErrors", 2 * HOUR + 10 * MINUTE),
    Bound("paid refunds are not looked at in time", "SweepBehind", DAY + 65 * MINUTE),
    Bound("the reconciler does not run", "ReconcilerSilent", 65 * MINUTE),
    Bound("the audit mapping is disabled, or the stream gone", "AuditStopped", 7 * MINUTE),
    Bound("a record makes no audit entry", "AuditRejects", 7 * MINUTE),
    Bound("a record makes no audit entry", "AuditRecordsKept", 12 * MINUTE),
    Bound("audit entries are late", "AuditLags", HOUR + 7 * MINUTE),
    Bound("Lambda gives a stream record up", "RecordsLeftTheStream", 7 * MINUTE),
    Bound("Lambda loses a stream record", "RecordsLost", 7 * MINUTE),
    Bound("ProcessRefund fails as a whole", "ProcessRefundErrors", 7 * MINUTE),
    Bound("WriteAudit fails as a whole", "WriteAuditErrors", 7 * MINUTE),
    Bound("ReconcileRefunds fails as a whole", "ReconcileRefundsErrors", 12 * MINUTE),
    Bound("BackupRefunds fails as a whole", "BackupRefundsErrors", 7 * MINUTE),
    Bound("ReceiveWebhook fails as a whole", "ReceiveWebhookErrors", 7 * MINUTE),
    Bound("ProcessRefund is throttled", "ProcessRefundThrottles", 7 * MINUTE),
    Bound("WriteAudit is throttled", "WriteAuditThrottles", 7 * MINUTE),
    Bound("no backup is published", "BackupMissing", 27 * HOUR),
    Bound("a restore drill fails", "BackupDrillFailed", 2 * MINUTE),
    Bound("nobody drills for a month (prod)", "BackupDrillMissing", 33 * DAY),
    Bound("more than a fifth of an hour's refunds fail", "FailureRatio", HOUR),
    Bound("more than 2 % of a day's refunds come back", "ReversalRatio", HOUR),
    Bound("far more requests than at this hour of other days", "RefundCountUnusual", HOUR),
    Bound("far more money than at this hour of other days", "RefundAmountUnusual", HOUR),
    Bound("the daily budget is exceeded", "DailyBudgetExceeded", HOUR),
)


def bounds_table() -> str:
    """The table of docs/runbook.md."""
    rows = [
        f"| {bound.what} | [`{bound.alarm}`](#{bound.alarm.lower()}) | {_in_words(bound.seconds)} |"
        for bound in BOUNDS
    ]
    return "\n".join(["| what is wrong | alarm | on within |", "| --- | --- | --- |", *rows])


def _in_words(seconds: float) -> str:
    parts = []
    for unit, size in (("d", DAY), ("h", HOUR), ("min", MINUTE)):
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count:.0f} {unit}")
    return " ".join(parts)


def bound_of(alarm: str, what: str | None = None) -> Bound:
    return next(
        each for each in BOUNDS if each.alarm == alarm and (what is None or what in each.what)
    )


class Watch:
    """The alarms of one world, fed with its metrics."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.board = AlarmBoard()
        self.later_seconds = 0.0
        """How much later than stated an alarm may be, or be on for the last time: where the
        reconciler reports less often than it is deployed to."""
        self._last_on: dict[str, float] = {}
        self._taken = [0, 0]
        self._queues: dict[str, tuple[float, int, float | None]] = {}
        self._backed_up = START_SECONDS
        self._dead_since: dict[str, float] = {}
        world.sqs.on_change.append(self._queue_changed)

    def advance(self) -> AlarmBoard:
        """Take the metrics up to now, and evaluate."""
        services, now = self._world.services, self._world.kernel.now
        for metric in services.metrics[self._taken[0] :]:
            self.add(metric)
        for metric in services.aws_metrics[self._taken[1] :]:
            name = LAMBDA_NAMES.get(metric.function)
            if name is not None:
                self.board.add(_of_function(name, metric.name), metric.at, metric.value)
        self._taken = [len(services.metrics), len(services.aws_metrics)]
        for name in self._queues:
            self._sample(name, now)
        self._back_up(now)
        self.board.advance(now)
        return self.board

    def add(self, metric: Metric) -> None:
        self.board.add(_of_stack(metric.name), metric.at, metric.value)

    def check(self) -> None:
        """Whatever has been wrong for too long has its alarm on. Raises ``Violation``."""
        board, now = self.advance(), self._world.kernel.now
        self._last_on |= dict.fromkeys(board.all_on(), now)
        for since, what, alarms in self._wrong():
            unseen = board.on("ReconcilerSilent")  # whoever would measure it does not run
            told = (self._last_on.get(alarm, -math.inf) for alarm in alarms)
            if not unseen and now - max(told) > self.later_seconds:
                hours = (now - since) / HOUR
                raise Violation("I9", f"{what} for {hours:.1f} h, and none of {alarms} is on")

    def check_quiet(self) -> None:
        """With all settled, every alarm goes off by itself. Raises ``Violation``.

        Nothing changes any more, so each further run would report what the last one did.
        """
        world, kernel = self._world, self._world.kernel
        before = len(world.services.metrics)
        kernel.script.clear()  # from here on nothing goes wrong
        world.reconcile()
        world.run_for(600)
        last = [
            each
            for each in world.services.metrics[before:]
            if each.function == "reconcile" and each.at > kernel.now - 600
        ]
        self.advance()
        start = kernel.now
        for number in range(1, int(SETTLES_SECONDS / 900) + 1):
            for each in last:
                self.board.add(_of_stack(each.name), start + number * 900, each.value)
        self._back_up(start + LONGEST_ON_SECONDS)
        self.board.advance(start + SETTLES_SECONDS)
        in_sight = any("seen_paid_at" in item for item in world.refunds.items.values())
        # What is paid there and ended here waits for a person, however long.
        rightly_on = {"RefundsPaidThoughEnded"} if in_sight else set()
        if left := self.board.all_on() - ON_FOR_A_DAY - rightly_on:
            raise Violation("I9", f"all is well, and still on: {', '.join(sorted(left))}")
        self.board.advance(start + LONGEST_ON_SECONDS)
        if left := self.board.all_on() & ON_FOR_A_DAY:
            raise Violation("I9", f"all is well, and on for ever: {', '.join(sorted(left))}")

    def _back_up(self, until: float) -> None:
        # Backups are not simulated here: there is one each day.
        while self._backed_up < until:
            self.board.add(_of_stack("BackupCompleted"), self._backed_up + HOUR, 1)
            self._backed_up += DAY

    def _wrong(self) -> Iterator[tuple[float, str, tuple[str, ...]]]:
        """What is wrong now, and for longer than its bound: since when, and whose alarm it is."""
        world = self._world

        def overdue(since: float, alarm: str, what: str | None = None) -> bool:
            bound_seconds = bound_of(alarm, what).seconds + self.later_seconds
            return world.kernel.now - since > bound_seconds

        for identity, since in self._dead_since.items():
            if overdue(since, "DeadLetters"):
                yield since, f"{identity} in the dead-letter queue", ("DeadLetters",)
        for message in world.queue.messages.values():
            if overdue(message.sent_at, "RequestsKeepFailing"):
                alarms = (
                    "RequestsWait",
                    "RequestsKeepFailing",
                    "QueuePaused",
                    "ProcessRefundErrors",  # it never gets as far as counting
                )
                yield message.sent_at, f"{message.id} in the queue", alarms
        for (refund_id,), item in world.refunds.items.items():
            if "open_shard" not in item or "open_since" not in item or "seen_paid_at" in item:
                continue
            since = from_rfc3339(item["open_since"]["S"]).timestamp()
            alarm = "OpenRefundsWait"
            if item["status"]["S"] == "AWAITING_APPROVAL":
                alarm = "ApprovalsWait"
            if overdue(since, alarm, "a refund"):
                # When the index can't be read, OpenRefundsWait says so for all that is in it.
                seen_by = (alarm, "OpenRefundsWait", "ReconcileRefundsErrors")
                yield since, f"{refund_id} open", seen_by

    def _queue_changed(self, queue: Queue) -> None:
        now = self._world.kernel.now
        self._sample(queue.name, now)
        if queue is self._world.dlq:
            self._dead_since = {
                identity: self._dead_since.get(identity, now) for identity in queue.messages
            }
        # SQS's age metric passes over what was received more than three times.
        sent = [each.sent_at for each in queue.messages.values() if each.receive_count <= 3]
        self._queues[queue.name] = (now, len(queue.messages), min(sent, default=None))

    def _sample(self, name: str, until: float) -> None:
        """What SQS reports of a queue that has not changed since the last sample."""
        if name not in self._queues:
            return
        since, depth, oldest = self._queues[name]
        at = since
        while depth and at <= until:
            self.board.add(_of_queue(name, "ApproximateNumberOfMessagesVisible"), at, depth)
            if oldest is not None:
                age = at - oldest
                self.board.add(_of_queue(name, "ApproximateAgeOfOldestMessage"), at, age)
            at = (at // SAMPLE_SECONDS + 1) * SAMPLE_SECONDS
        self._queues[name] = (max(at, since), depth, oldest)


def _of_stack(metric: str) -> Series:
    return series("Refunds", metric, service=STACK_NAME)


def _of_function(function: str, metric: str) -> Series:
    if metric == "OnFailureDestinationDeliveredEventCount":
        return series("AWS/Lambda", metric, EventSourceMappingUUID="WriteAuditRefundChanges")
    return series("AWS/Lambda", metric, FunctionName=function)


def _of_queue(name: str, metric: str) -> Series:
    return series("AWS/SQS", metric, QueueName=QUEUE_NAMES[name])
