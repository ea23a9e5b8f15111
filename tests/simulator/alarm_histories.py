"""Scripted histories of what goes wrong and must be alarmed: one for each fault, with its bounds.

Each is played once. Its metrics stay, so that a changed alarm is evaluated over them again without
playing anything: that is how mutants of alarms are caught.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from typing import Any
from unittest.mock import patch

from tests.simulator.alarm_expectations import Expectations, Expected
from tests.simulator.alarms import Datapoints, Series, series
from tests.simulator.dynamodb import DynamoDB
from tests.simulator.scripting import resume
from tests.simulator.watch import DAY, HOUR, MINUTE, bound_of
from tests.simulator.world import World
from tests.support.expanded_template import STACK_NAME

from refunds.domain.limits import Limits
from refunds.gateways.contract import INSUFFICIENT_FUNDS, Declined
from refunds.gateways.flair import FlairGateway
from refunds.processing.processor import Processor
from refunds.processing.settler import Settler
from refunds.tables.audit_trail import AuditTable

QUIET_SECONDS = 26 * HOUR


@dataclass
class Played(Expectations):
    """A history of the simulator, and what is expected of the alarms."""

    world: World

    @property
    def data(self) -> dict[Series, Datapoints]:
        return self.world.watch.board.data

    @property
    def now(self) -> float:
        return self.world.kernel.now

    def expect(self, alarm: str, since: float, what: str | None = None) -> None:
        self.expected.append(Expected(alarm, since, since + bound_of(alarm, what).seconds))

    def report(self, where: Series, value: float, at: float | None = None) -> None:
        """What AWS reports of a service that is not simulated."""
        self.world.watch.board.add(where, self.now if at is None else at, value)

    def recovers(self, seconds: float = 4 * HOUR) -> None:
        """The cause is gone: some hours later everything is quiet."""
        self.world.run_schedule(seconds)
        self.quiet_from = self.now
        self.world.run_schedule(HOUR)


def request(refund_id: str = "r1", **changes: Any) -> dict[str, Any]:
    return {
        "refund_id": refund_id,
        "transaction_id": "tx1",
        "user_id": "u1",
        "amount_minor": 3,
        "currency": "USD",
        "reason": "order_cancelled",
        "requested_by": "agent:7",
    } | changes


History = Callable[[Played], None]
HISTORIES: dict[str, History] = {}


def history(play: History) -> History:
    HISTORIES[play.__name__.removeprefix("_").replace("_", " ")] = play
    return play


@cache
def played(name: str) -> Played:
    world = World(1, trace=True)
    world.kernel.max_events = 2_000_000
    world.pay("tx1", 1_000_000)
    played_ = Played(world=world)
    world.run_schedule(2 * HOUR)  # a new stack's first hours
    try:
        HISTORIES[name](played_)
    finally:
        played_.ends = world.kernel.now
        world.watch.advance()
        world.kernel.faults_on = False
        world.kernel.close()
    return played_


@contextmanager
def broken(owner: Any, name: str, error: Exception) -> Iterator[None]:
    """Production code with a bug in it."""

    def bug(*args: Any, **more: Any) -> Any:
        raise error

    with patch.object(owner, name, bug):
        yield


@contextmanager
def denied(world: World, *steps: str, code: str = "AccessDeniedException") -> Iterator[None]:
    world.services.wire.denied.update(dict.fromkeys(steps, code))
    try:
        yield
    finally:
        for step in steps:
            del world.services.wire.denied[step]


# --- what was silent before -----------------------------------------------------------------------


@history
def _all_is_well(played: Played) -> None:
    played.quiet_from = played.now
    for number in range(8):
        played.world.send(request(f"r{number}"))
        played.world.run_schedule(HOUR)


@history
def _a_release_fails_on_every_request(played: Played) -> None:
    world, since = played.world, played.now
    with broken(Processor, "process", TypeError("a bug of the new version")):
        for number in range(10):
            world.send(request(f"r{number}"))
        world.run_schedule(HOUR)
        played.expect("ProcessRefundUnexpectedErrors", since)
        # Retries are an hour apart by then: it must not go off in between.
        world.run_schedule(3 * HOUR)
        played.expect("ProcessRefundUnexpectedErrors", played.now - 30)
    played.recovers()
    assert sum(each.ever_succeeded for each in world.flair.refunds) == 10


@history
def _a_release_fails_on_every_audit_record(played: Played) -> None:
    world, since = played.world, played.now
    with broken(AuditTable, "insert_new", RuntimeError("a bug of the new version")):
        world.send(request())
        world.run_schedule(10 * MINUTE)
        played.expect("WriteAuditUnexpectedErrors", since)
    played.recovers()


@history
def _the_reconciler_fails_on_a_refund(played: Played) -> None:
    world = played.world
    world.flair.stubborn["r1"] = "pending"
    world.send(request())
    world.run_for(30)
    with broken(Settler, "take_over", KeyError("a bug of the new version")):
        since = played.now + 300
        world.run_schedule(2 * HOUR)
        played.expect("ReconcileRefundsUnexpectedErrors", since)
    _succeed(world)
    played.recovers()


@history
def _the_index_cant_be_read_for_three_days(played: Played) -> None:
    world = played.world
    world.flair.stubborn["r1"] = "pending"
    world.send(request())
    world.run_for(60)
    since = played.now
    with denied(world, "dynamodb query Refunds"):
        world.run_schedule(3 * DAY)
        played.expect("Misconfigured", since, "a permission")
        played.expect("SettleErrors", since)
        played.expect("OpenRefundsWait", since, "can't be read")
        for alarm in ("Misconfigured", "SettleErrors", "OpenRefundsWait"):
            played.expected.append(Expected(alarm, played.now - 1, played.now))
    _succeed(world)
    played.recovers()


@history
def _a_key_is_disabled(played: Played) -> None:
    world, since = played.world, played.now
    with denied(world, "dynamodb get Ledger", "dynamodb put Refunds", code="KMS.DisabledException"):
        world.send(request())
        world.run_schedule(HOUR)
        played.expect("Misconfigured", since, "a permission")
    played.recovers()
    assert world.refunds.items[("r1",)]["status"]["S"] == "SUCCEEDED"


@history
def _a_table_cant_be_reached(played: Played) -> None:
    world, since = played.world, played.now
    with denied(world, "dynamodb query Refunds", code="unreachable"):
        world.run_schedule(2 * HOUR)
        played.expect("AwsErrors", since)
    played.recovers()


@history
def _the_queues_mapping_cant_be_read_while_it_is_paused(played: Played) -> None:
    world = played.world
    world.tap.state = "Disabled"
    world.source.enabled = False
    with denied(world, "lambda get mapping"):
        since = played.now
        world.run_schedule(4 * HOUR)
        played.expect("QueuePaused", since, "mapping")
        played.expect("QueueSwitchErrors", since)
        played.expected.append(Expected("QueuePaused", played.now - 1, played.now))
    played.recovers()


@history
def _the_archiver_behind_a_list_that_never_ends(played: Played) -> None:
    world, since = played.world, played.now
    for number in range(60):
        world.flair._create("tx1", f"old-{number}", 1, ours=False)
    page = world.flair._list
    request_ = world.network.request

    def endless(host: str, query: dict[str, str]) -> Any:
        if "reference" in query or "transaction_id" in query:
            return page(host, query)
        return page(host, {**query, "cursor": "50"})

    def slow(method: str, url: str, **more: Any) -> Any:
        if method == "GET" and "reference=" not in url and "transaction_id" not in url:
            world.kernel.pause(10.0)
        return request_(method, url, **more)

    world.flair.page_size = 2
    message = world.sqs.enqueue(world.dlq, '{"refused": 1}', {})
    message.sent_at -= 4 * DAY - 2 * HOUR  # it has waited for almost four days
    with patch.object(world.flair, "_list", endless), patch.object(world.network, "request", slow):
        world.run_schedule(2 * HOUR - 600)
        played.expect("DeadLetters", since)
        played.expected.append(Expected("DeadLettersWait", since, since + 7 * MINUTE))
        world.run_schedule(1200)
    assert message.gone == "archived"
    archived = played.now
    # Its alarms go off with it; this one stays until a person has dealt with it.
    played.expect("DeadLettersArchived", archived)
    world.run_schedule(DAY)
    played.expected.append(Expected("DeadLettersArchived", played.now - 1, played.now))
    world.deal_with_failures()
    played.recovers()


@history
def _a_full_dead_letter_queue(played: Played) -> None:
    world, since = played.world, played.now
    messages = [world.sqs.enqueue(world.dlq, f'{{"refused": {number}}}') for number in range(700)]
    world.run_schedule(20 * MINUTE)
    played.expect("DeadLetters", since)
    # What was looked at is visible again at once.
    assert all(each.visible_at <= played.now for each in messages)
    world.run_for(4 * DAY)
    world.run_schedule(2 * HOUR)
    assert all(each.gone == "archived" for each in messages)
    world.deal_with_failures()
    played.recovers()


@history
def _dead_letters_cant_be_read(played: Played) -> None:
    world, since = played.world, played.now
    with denied(world, "sqs receive"):
        world.run_schedule(2 * HOUR)
        played.expect("ArchiveErrors", since)
        played.expect("Misconfigured", since, "a permission")
    played.recovers()


@history
def _the_audit_mapping_is_disabled(played: Played) -> None:
    world, since = played.world, played.now
    world.tap.audit_state = "Disabled"
    world.run_schedule(HOUR)
    played.expect("AuditStopped", since)
    world.tap.audit_state = "Enabled"
    played.recovers()


@history
def _the_tables_stream_is_gone(played: Played) -> None:
    world, since = played.world, played.now
    dynamodb: DynamoDB = world.services.dynamodb
    dynamodb.has_stream = False
    world.run_schedule(HOUR)
    played.expect("AuditStopped", since)
    dynamodb.has_stream = True
    played.recovers()


@history
def _the_schedule_is_dead_and_webhooks_still_come(played: Played) -> None:
    world, since = played.world, played.now
    world.run_for(60)
    for _ in range(30):
        world.functions.invoke(
            "reconcile",
            lambda env, deadline: env.reconcile_refunds.handle({"look_at": "r1"}, deadline),
            lambda result: None,
            lambda: None,
        )
        world.run_for(300)
    played.expect("ReconcilerSilent", since)
    played.recovers()


@history
def _a_wrong_key(played: Played) -> None:
    world, since = played.world, played.now
    for_real, world.secret.value = world.secret.value, "sk_wrong"
    world.flair.secret = type(world.secret)()
    world.flair.secret.value = for_real
    world.run_for(400)  # the caches of the functions end
    since = played.now
    for number in range(3):
        world.send(request(f"r{number}"))
    world.run_schedule(6 * HOUR)
    played.expect("Misconfigured", since, "API key")
    played.expected.append(Expected("Misconfigured", played.now - 1, played.now))
    # It rejects and fails nothing for good.
    assert not {item["status"]["S"] for item in world.refunds.items.values()} & {
        "REJECTED",
        "FAILED",
    }
    world.secret.value = for_real
    played.recovers()
    assert sum(each.ever_succeeded for each in world.flair.refunds) == 3


@history
def _a_gateway_outage(played: Played) -> None:
    world, since = played.world, played.now
    world.network.outage = "answers 503"
    for number in range(12):
        world.pay(f"tx-{number}", 100)
        world.send(request(f"r{number}", transaction_id=f"tx-{number}"))
    world.run_schedule(4 * HOUR)
    played.expect("QueuePaused", since, "gateway")
    played.expect("SweepErrors", since)
    # An outage of the gateway is never called our own misconfiguration.
    assert not world.watch.advance().on("Misconfigured")
    world.network.outage = None
    played.recovers()


@history
def _a_days_total_above_the_stop(played: Played) -> None:
    world = played.world
    world.services.limits = Limits(stop_above={"USD": 5})
    world.functions.idle.clear()
    since = played.now
    for number in range(3):
        world.send(request(f"r{number}"))
    world.run_schedule(16 * HOUR)
    played.expect("QueuePaused", since, "StopAboveMinor")
    played.expected.append(Expected("QueuePaused", played.now - 1, played.now))
    assert sum(each.ever_succeeded for each in world.flair.refunds) == 1
    resume(world)
    played.recovers()


@history
def _one_unreadable_refund_in_the_gateways_list(played: Played) -> None:
    world = played.world
    world.flair.page_size = 2
    world.send(request())
    world.run_for(60)
    for number in range(3):
        world.flair._create("tx1", f"others-{number}", 5, ours=False)
    shown = world.flair._shown

    def other_status(moved: Any) -> dict[str, Any]:
        return shown(moved) | ({"amount": 0} if moved.reference == "others-0" else {})

    world.flair.fail(world.flair.refunds[0], "account_closed")
    with patch.object(world.flair, "_shown", other_status):
        since = played.now
        world.run_schedule(2 * HOUR)
        played.expect("UnreadableGatewayRefunds", since)
    assert world.refunds.items[("r1",)]["status"]["S"] == "REVERSED"
    played.recovers(QUIET_SECONDS)


@history
def _a_poison_stream_record(played: Played) -> None:
    world = played.world
    world.send(request())
    world.run_for(60)
    world.checker.tampered.add("r1")
    since = played.now
    item = world.refunds.items[("r1",)]
    world.refunds.write(("r1",), item | {"amount_minor": {"N": "77"}})  # by hand, same version
    world.run_schedule(2 * HOUR)
    played.expect("AuditRejects", since)
    played.expect("AuditRecordsKept", since)
    played.expected.append(Expected("AuditRecordsKept", played.now - 1, played.now))
    world.deal_with_failures()
    played.recovers()


@history
def _a_row_that_cant_be_read(played: Played) -> None:
    world = played.world
    world.flair.stubborn["r1"] = "pending"
    world.send(request())
    world.run_for(60)
    world.checker.tampered.add("r1")
    item = world.refunds.items[("r1",)]
    check_at = item["check_at"]
    since = played.now + 600
    world.refunds.write(("r1",), item | {"status": {"S": "NONSENSE"}})
    world.run_schedule(4 * HOUR)
    played.expect("UnreadableRefunds", since)
    played.expected.append(Expected("UnreadableRefunds", played.now - 1, played.now))
    world.refunds.write(("r1",), item | {"check_at": check_at})
    _succeed(world)
    world.run_for(60)
    world.deal_with_failures()
    played.recovers()


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
    _succeed(world)
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
    _succeed(world)
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
    _succeed(world)
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
    played.report(sweep, 8 * DAY)
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
    since = max(world.watch.board.data[_stack("BackupCompleted")].at)
    world.run_schedule(28 * HOUR)
    played.expect("BackupMissing", since)
    for number in range(3):
        played.report(_stack("BackupCompleted"), 1, played.now + number * HOUR)
    played.recovers()


def _stack(metric: str) -> Series:
    return series("Refunds", metric, service=STACK_NAME)


def _succeed(world: World) -> None:
    """The gateway settles whatever is pending there."""
    for moved in world.flair.refunds:
        if moved.status == "pending":
            moved.status, moved.ever_succeeded = "succeeded", True


NOT_PLAYED = {"ReceiveWebhookErrors": "Webhooks=true", "BackupDrillMissing": "Stage=prod"}
"""Alarms of stacks with other parameters, of which the template's tests know."""
