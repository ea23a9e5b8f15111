"""Histories of what waits too long, and of what only AWS reports."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from unittest.mock import patch

from tests.simulator.alarm_expectations import Expected
from tests.simulator.alarm_play import (
    QUIET_SECONDS,
    Played,
    denied,
    history,
    request,
    stack_metric,
    succeed,
)
from tests.simulator.alarms import Series, series
from tests.simulator.watch import DAY, HOUR, MINUTE
from tests.support.expanded_template import STACK_NAME

from refunds.domain.limits import Limits
from refunds.gateways.contract import INSUFFICIENT_FUNDS, Declined
from refunds.gateways.flair import FlairGateway
from refunds.processing.settler import Settler


@history
def _our_balance_at_the_gateway_is_too_low(played: Played) -> None:
    """One refund is declined for it, another stays pending."""
    world = played.world
    world.flair.stubborn["r1"] = "pending"
    find, create = FlairGateway.find_refunds, FlairGateway.create_refund

    def waits(self: Any, *asked: Any) -> Any:
        return tuple(
            replace(each, pending_reason=INSUFFICIENT_FUNDS) for each in find(self, *asked)
        )

    def refused(self: Any, order: Any, *more: Any, **named: Any) -> Any:
        if order.refund_id == "r2":
            return Declined(INSUFFICIENT_FUNDS, "top up your balance", insufficient_funds=True)
        answer: Any = create(self, order, *more, **named)
        return replace(answer, refund=replace(answer.refund, pending_reason=INSUFFICIENT_FUNDS))

    with (
        patch.object(FlairGateway, "find_refunds", waits),
        patch.object(FlairGateway, "create_refund", refused),
    ):
        since = played.now
        world.send(request("r2"))
        world.run_schedule(7 * MINUTE)
        played.expect("InsufficientBalance", since)
        world.send(request("r1"))
        world.run_schedule(6 * HOUR)
        played.expected.append(Expected("InsufficientBalance", played.now - 1, played.now))
    assert world.refunds.items[("r2",)]["status"]["S"] == "FAILED"
    assert "balance_short_at" in world.refunds.items[("r1",)]
    succeed(world)
    played.recovers()
    assert world.refunds.items[("r1",)]["status"]["S"] == "SUCCEEDED"
    assert "balance_short_at" not in world.refunds.items[("r1",)]


@history
def _a_refund_stays_open(played: Played) -> None:
    world = played.world
    world.flair.stubborn["r1"] = "pending"
    world.send(request())
    since = played.now
    world.run_schedule(DAY + 3 * HOUR)
    played.expect("OpenRefundsWait", since, "stays open")
    succeed(world)
    played.recovers()


@history
def _nobody_decides(played: Played) -> None:
    world = played.world
    world.send(request())
    world.run_for(60)
    world.checker.tampered.add("r1")
    item = world.refunds.items[("r1",)]
    since = played.now
    at = {"S": "2026-03-01T02:00:00.000000Z"}
    opened = {"open_since": at, "open_shard": {"S": "3"}, "check_at": at}
    world.refunds.write(("r1",), item | opened | {"status": {"S": "IN_REVIEW"}})
    world.run_schedule(3 * DAY + 2 * HOUR)
    played.expect("RefundsToReview", since)
    played.expect("ReviewsWait", since)
    played.expected.append(Expected("ReviewsWait", played.now - 1, played.now))
    world.refunds.write(("r1",), item)
    world.run_for(60)
    world.deal_with_failures()
    played.recovers()


@history
def _nobody_approves(played: Played) -> None:
    world = played.world
    world.services.limits = Limits(per_refund={"USD": 1}, approval_days=2)
    world.functions.idle.clear()
    world.send(request())
    since = played.now
    world.run_schedule(12 * HOUR)
    played.expect("ApprovalsWait", since)
    played.expected.append(Expected("ApprovalsWait", played.now - 1, played.now))
    world.run_schedule(1.5 * DAY + 2 * HOUR)
    assert world.refunds.items[("r1",)]["status"]["S"] == "REJECTED"
    played.recovers()


@history
def _a_refund_is_paid_there_and_ended_here(played: Played) -> None:
    world = played.world
    world.flair.stubborn["r1"] = "declined"
    world.send(request())
    world.run_for(60)
    assert world.refunds.items[("r1",)]["status"]["S"] == "FAILED"
    del world.flair.stubborn["r1"]
    since = played.now
    moved = world.flair._create("tx1", "r1", 3, ours=False)
    world.run_schedule(3 * HOUR)
    played.expect("RefundsPaidThoughEnded", since)
    played.expected.append(Expected("RefundsPaidThoughEnded", played.now - 1, played.now))
    world.flair.fail(moved, "sent_back")
    played.recovers()


@history
def _more_open_refunds_than_can_be_settled(played: Played) -> None:
    world = played.world
    items = {}
    for number in range(60):
        name = f"r{number}"
        world.flair.stubborn[name] = "pending"
        world.send(request(name))
    world.run_for(120)
    for key, item in world.refunds.items.items():
        items[key] = item["open_since"]["S"]
    looked: dict[str, float] = {}
    take_over = Settler.take_over

    def slow(settler: Settler, refund: Any, deadline: Any) -> Any:
        world.kernel.pause(200.0)
        looked[refund.refund_id] = world.kernel.now
        return take_over(settler, refund, deadline)

    since = played.now
    with patch.object(Settler, "take_over", slow), patch("tests.simulator.kernel.POOL_WIDTH", 1):
        world.run_schedule(7 * HOUR)
    # Slow as it is, nobody starves: every refund had its turn.
    assert len(looked) == 60
    played.expect("OpenRefundsOverdue", since + HOUR)
    succeed(world)
    played.recovers()


@history
def _a_request_is_never_tried(played: Played) -> None:
    world = played.world
    # By hand and against the recorded state, which the reconciler would put right.
    world.source.enabled = False
    world.send(request())
    since = played.now
    world.run_schedule(DAY + HOUR)
    played.expect("RequestsWait", since)
    world.source.switch(enabled=True, concurrency=2)
    played.recovers()


@history
def _a_request_fails_for_more_than_a_day(played: Played) -> None:
    world, since = played.world, played.now
    with denied(world, "dynamodb get Ledger", "dynamodb put Refunds", code="ThrottlingException"):
        world.send(request())
        world.run_schedule(DAY + 3 * HOUR)
        played.expect("RequestsKeepFailing", since)
    played.recovers()


@history
def _what_only_aws_reports(played: Played) -> None:
    """Functions and services that are not simulated: the metrics that AWS's manual names."""
    world, since = played.world, played.now

    def of_function(metric: str, function: str) -> Series:
        return series("AWS/Lambda", metric, FunctionName=function)

    for function in ("ProcessRefund", "WriteAudit", "ReconcileRefunds", "BackupRefunds"):
        played.report(of_function("Errors", function), 1)
        played.expect(f"{function}Errors", since)
    for function in ("ProcessRefund", "WriteAudit"):
        played.report(of_function("Throttles", function), 1)
        played.expect(f"{function}Throttles", since)
    played.report(of_function("IteratorAge", "WriteAudit"), 3_700_000)
    played.expected.append(Expected("AuditLags", since, since + 7 * MINUTE))
    played.report(of_function("DestinationDeliveryFailures", "WriteAudit"), 1)
    played.expect("RecordsLost", since)
    left = series(
        "AWS/Lambda",
        "OnFailureDestinationDeliveredEventCount",
        EventSourceMappingUUID="WriteAuditRefundChanges",
    )
    played.report(left, 1)
    played.expect("RecordsLeftTheStream", since)
    played.report(series("Refunds", "BackupDrillFailed", service=STACK_NAME), 1)
    played.expect("BackupDrillFailed", since)
    sweep = series("Refunds", "SweepBehindSeconds", service=STACK_NAME)
    played.report(sweep, 600)
    played.expected.append(Expected("SweepBehind", since, since + 2 * MINUTE))
    world.run_schedule(HOUR)
    played.expected.append(Expected("RecordsLost", played.now - 1, played.now))
    world.run_schedule(2 * HOUR)
    played.report(series("Refunds", "BackupDrillFailed", service=STACK_NAME), 0)
    played.recovers(QUIET_SECONDS)


@history
def _no_backup_is_published(played: Played) -> None:
    world = played.world
    world.run_for(DAY)
    world.watch.advance()
    world.watch._backed_up = float("inf")  # no more of them
    since = max(world.watch.board.data[stack_metric("BackupCompleted")].at)
    world.run_schedule(28 * HOUR)
    played.expect("BackupMissing", since)
    for number in range(3):
        played.report(stack_metric("BackupCompleted"), 1, played.now + number * HOUR)
    played.recovers()
