"""The circuit breaker: when it opens, what it stops, and how it lets requests flow again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from typing import Any

import pytest
from botocore.exceptions import ClientError
from tests.support.builders import NOW, InlinePool, body, payment
from tests.support.fake_gateway import FakeGateway
from tests.support.world import World

from refunds.audit.outcome_events import gateway_down_event
from refunds.breaker.breaker import (
    HOLD_SECONDS,
    Breaker,
    GatewayCalls,
    WatchedGateway,
    gateway_trouble,
)
from refunds.breaker.queue_mapping import IntakeKeeper, Switch
from refunds.domain.clock import rfc3339
from refunds.domain.intake import (
    FAILURE_WINDOW,
    MAX_HISTORY,
    OPEN_AFTER_FAILED_PAYMENTS,
    OPEN_AT_LEAST,
    PROBE_AFTER_FAILED_PAYMENTS,
    STEP_AT_LEAST,
    BreakerState,
    Intake,
    after_probe,
    desired_mapping,
    forget_failures,
    may_probe,
    opened,
    paused,
    record_failures,
    resumed,
    should_probe,
)
from refunds.domain.refund import Refund, Status
from refunds.gateways.contract import Answer, Declined, KeyTooOld, RefundOrder, Retryable, Unknown
from refunds.gateways.routing import Gateways
from refunds.processing.queue import PutBackError, RefundQueue, Result, handle_batch
from refunds.tables.state import Control

MOST = 10


# --- The rules ------------------------------------------------------------------------------------


def failing(number: int) -> list[str]:
    return [f"payment-{each}" for each in range(number)]


def open_breaker(**changes: Any) -> Intake:
    return opened(Intake(**changes), "ProcessRefund:7", "HTTP 503", NOW)


def test_one_payment_that_always_fails_raises_no_doubt() -> None:
    intake = Intake()
    for _ in range(1000):
        after = record_failures(intake, ["payment-1"], NOW)
        assert not should_probe(intake, after, NOW)
        intake = after
    assert intake.failing == ("payment-1",)


def test_doubt_comes_with_five_payments_and_with_each_doubling() -> None:
    intake, doubts = Intake(), []
    for number in range(1, 50):
        after = record_failures(intake, failing(number), NOW)
        if should_probe(intake, after, NOW):
            doubts.append(number)
        intake = after
    assert doubts == [
        PROBE_AFTER_FAILED_PAYMENTS,
        2 * PROBE_AFTER_FAILED_PAYMENTS,
        4 * PROBE_AFTER_FAILED_PAYMENTS,
        8 * PROBE_AFTER_FAILED_PAYMENTS,
    ]


def test_failures_are_counted_together_for_ten_minutes_only() -> None:
    intake = record_failures(Intake(), failing(4), NOW)
    later = record_failures(intake, ["another"], NOW + FAILURE_WINDOW)
    assert later.failing == ("another",)
    assert not should_probe(intake, later, NOW + FAILURE_WINDOW)


def test_what_is_kept_of_failures_is_bounded() -> None:
    assert len(record_failures(Intake(), failing(5000), NOW).failing) == OPEN_AFTER_FAILED_PAYMENTS


def test_an_open_breaker_counts_nothing() -> None:
    intake = open_breaker()
    assert record_failures(intake, failing(3), NOW) == intake


def test_opening_twice_is_opening_once() -> None:
    intake = open_breaker()
    assert opened(intake, "another", "other", NOW + timedelta(hours=1)) == intake


def test_a_gateway_that_is_down_is_not_asked_at_once() -> None:
    intake = open_breaker()
    assert not may_probe(intake, NOW + OPEN_AT_LEAST - timedelta(seconds=1))
    assert may_probe(intake, NOW + OPEN_AT_LEAST)
    assert not may_probe(Intake(), NOW)


def test_recovery_is_gradual() -> None:
    intake, now, concurrencies = open_breaker(), NOW, []
    for _ in range(10):
        concurrencies.append(desired_mapping(intake, 100))
        now += timedelta(minutes=5)
        intake = after_probe(intake, None, 100, "ReconcileRefunds:1", now)
    assert [each.concurrency for each in concurrencies if each.enabled][:5] == [2, 8, 32, 100, 100]
    assert not concurrencies[0].enabled
    assert intake.breaker is BreakerState.CLOSED


@pytest.mark.parametrize("most", [2, 3, 10, 1000])
def test_recovery_ends_closed_whatever_the_most_is(most: int) -> None:
    intake, now = open_breaker(), NOW
    for _ in range(10):
        now += STEP_AT_LEAST
        intake = after_probe(intake, None, most, "me", now)
        assert 2 <= desired_mapping(intake, most).concurrency <= most
    assert intake.breaker is BreakerState.CLOSED
    assert intake.concurrency is None


def test_a_step_of_the_recovery_takes_its_time() -> None:
    intake = after_probe(open_breaker(), None, MOST, "me", NOW + OPEN_AT_LEAST)
    at = NOW + OPEN_AT_LEAST + STEP_AT_LEAST - timedelta(seconds=1)
    assert after_probe(intake, None, MOST, "me", at) == intake


def test_recovery_waits_while_refunds_fail_and_goes_back_when_the_gateway_does() -> None:
    now = NOW + OPEN_AT_LEAST
    intake = after_probe(open_breaker(), None, MOST, "me", now)
    doubted = record_failures(intake, failing(2), now)
    assert after_probe(doubted, None, MOST, "me", now + STEP_AT_LEAST) == doubted
    again = after_probe(doubted, "HTTP 503", MOST, "me", now + STEP_AT_LEAST)
    assert again.breaker is BreakerState.OPEN
    assert again.failing == ()


def test_neither_switch_moves_the_other() -> None:
    held = paused(open_breaker(), "jo", "maintenance", NOW)
    closed = held
    for minutes in range(5, 60, 5):
        closed = after_probe(closed, None, MOST, "me", NOW + timedelta(minutes=minutes))
    assert closed.breaker is BreakerState.CLOSED
    assert not desired_mapping(closed, MOST).enabled
    free = resumed(held, "jo", "done", NOW)
    assert free.breaker is BreakerState.OPEN
    assert not desired_mapping(free, MOST).enabled


def test_who_paused_first_stays_named() -> None:
    intake = paused(Intake(), "jo", "maintenance", NOW)
    assert paused(intake, "sam", "me too", NOW) == intake
    assert (intake.paused_by, intake.paused_why) == ("jo", "maintenance")
    assert resumed(Intake(), "jo", "why not", NOW) == Intake()


def test_the_history_says_who_and_why_and_is_bounded() -> None:
    intake = Intake()
    for number in range(MAX_HISTORY):
        intake = resumed(paused(intake, "jo", f"{number}", NOW), "sam", "x" * 10_000, NOW)
    assert len(intake.history) == MAX_HISTORY
    assert intake.history[-2]["by"] == "jo"
    assert intake.history[-2]["what"] == "paused"
    assert len(intake.history[-1]["why"]) == 256


def test_a_state_is_read_as_it_was_stored() -> None:
    full = paused(record_failures(open_breaker(version=3), [], NOW), "jo", "why", NOW)
    recovering = record_failures(
        after_probe(full, None, MOST, "me", NOW + OPEN_AT_LEAST), ["p"], NOW
    )
    for intake in (Intake(), full, recovering):
        assert Intake.from_item(intake.item()) == intake
    assert Intake.from_item({}) == Intake()


# --- The state in the table -----------------------------------------------------------------------


def test_racing_functions_lose_no_change(world: World) -> None:
    other = Control(world.stack.clients.dynamodb, world.stack.ledger_table)
    meddled = False

    def step(intake: Intake) -> Intake:
        nonlocal meddled
        if not meddled:
            meddled = True
            other.change_intake(lambda there: paused(there, "jo", "why", NOW))
        return opened(intake, "me", "HTTP 503", NOW)

    world.control.change_intake(step)
    intake = world.control.intake()
    assert intake.paused
    assert intake.breaker is BreakerState.OPEN
    assert intake.version == 2


def test_a_change_that_changes_nothing_writes_nothing(world: World) -> None:
    there = world.stack.items(world.stack.ledger_table)
    world.control.change_intake(forget_failures)
    assert world.stack.items(world.stack.ledger_table) == there


# --- ProcessRefund --------------------------------------------------------------------------------


@dataclass
class Processing:
    """ProcessRefund over a fake gateway, as its handler puts it together."""

    world: World
    announced: list[Intake] = field(default_factory=list)
    number: Any = field(default_factory=count)

    def __post_init__(self) -> None:
        world, calls = self.world, GatewayCalls()
        gateways = Gateways([WatchedGateway(world.gateway, calls)])
        protocol = world.protocol(*gateways, tokens="watched")
        self.breaker = Breaker(
            control=world.control,
            gateways=gateways,
            calls=calls,
            clock=world.clock,
            by="ProcessRefund:7",
            announce=self.announced.append,
            random=lambda: 0.5,
        )
        self.queue = RefundQueue(
            client=world.stack.clients.sqs,
            queue_url=world.stack.queue_url,
            dead_letter_queue_url=world.stack.dead_letter_queue_url,
            bus=world.bus,
            processor=protocol.processor,
            first_retry_seconds=900,
            random=lambda: 0.5,
            hold=self.breaker.hold,
        )

    def batch(self, size: int, *, captured: bool = True) -> list[Result]:
        """Requests for so many new payments; what became of each."""
        records = []
        for _ in range(size):
            number = next(self.number)
            name = f"payment-{number}-x"
            if captured:
                self.world.gateway.payments[name] = payment(transaction_id=name)
            records.append(
                self.world.stack.send(body(refund_id=f"refund-{number}-x", transaction_id=name))
            )
        results: list[Result] = []
        deadline = self.world.deadline()
        handle_batch(
            records, self.queue, deadline, InlinePool(), lambda record, told: results.append(told)
        )
        self.breaker.after_batch(deadline)
        return results


@pytest.fixture
def processing(world: World) -> Processing:
    return Processing(world)


def test_the_happy_path_neither_reads_nor_writes_the_breakers_state(
    processing: Processing, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("the state was touched")

    monkeypatch.setattr(processing.world.control, "intake", never)
    monkeypatch.setattr(processing.world.control, "change_intake", never)
    results = processing.batch(3)
    assert all(isinstance(each, Refund) and each.status is Status.SUCCEEDED for each in results)


def test_a_gateway_that_is_down_opens_the_breaker_and_is_announced_once(
    processing: Processing,
) -> None:
    processing.world.gateway.down = True
    processing.batch(PROBE_AFTER_FAILED_PAYMENTS)
    intake = processing.world.control.intake()
    assert intake.breaker is BreakerState.OPEN
    assert "HTTP 503" in str(intake.why)
    assert [each.since for each in processing.announced] == [rfc3339(NOW)]
    event = gateway_down_event(processing.announced[0])
    assert event.detail_type == "Gateway Down"
    processing.batch(PROBE_AFTER_FAILED_PAYMENTS)
    assert len(processing.announced) == 1


def test_failures_add_up_over_batches_and_functions(world: World) -> None:
    numbers = count()
    functions = [Processing(world, number=numbers) for _ in range(PROBE_AFTER_FAILED_PAYMENTS)]
    world.gateway.down = True
    for function in functions:
        assert world.control.intake().breaker is BreakerState.CLOSED
        function.batch(1)
    assert world.control.intake().breaker is BreakerState.OPEN


def test_few_failures_do_not_open_it(processing: Processing) -> None:
    processing.world.gateway.down = True
    processing.batch(PROBE_AFTER_FAILED_PAYMENTS - 1)
    assert processing.world.control.intake().breaker is BreakerState.CLOSED


def test_a_batch_of_which_one_got_through_counts_for_nothing(processing: Processing) -> None:
    gateway = processing.world.gateway
    gateway.answers = [Unknown("timed out")] * (3 * PROBE_AFTER_FAILED_PAYMENTS)
    processing.batch(3 * PROBE_AFTER_FAILED_PAYMENTS + 1)
    assert processing.world.control.intake() == Intake()


def test_a_success_forgets_the_failures_before_it(processing: Processing) -> None:
    gateway = processing.world.gateway
    gateway.answers = [Unknown("timed out")] * (PROBE_AFTER_FAILED_PAYMENTS - 1)
    processing.batch(PROBE_AFTER_FAILED_PAYMENTS - 1)
    assert len(processing.world.control.intake().failing) == PROBE_AFTER_FAILED_PAYMENTS - 1
    processing.batch(1)
    assert processing.world.control.intake().failing == ()


def test_a_decline_is_an_answer(processing: Processing) -> None:
    processing.world.gateway.answers = [
        Declined("card_declined", "no")
    ] * PROBE_AFTER_FAILED_PAYMENTS
    processing.batch(PROBE_AFTER_FAILED_PAYMENTS)
    assert processing.world.control.intake() == Intake()


def test_payments_that_fail_while_the_gateway_answers_do_not_open_it(
    processing: Processing,
) -> None:
    processing.world.gateway.answers = [Unknown("HTTP 500")] * (2 * PROBE_AFTER_FAILED_PAYMENTS)
    processing.batch(2 * PROBE_AFTER_FAILED_PAYMENTS)
    intake = processing.world.control.intake()
    assert intake.breaker is BreakerState.CLOSED
    assert len(intake.failing) == 2 * PROBE_AFTER_FAILED_PAYMENTS


@pytest.mark.parametrize("answer", [Unknown("HTTP 500"), Retryable("HTTP 429", 1.0)])
def test_a_gateway_that_answers_questions_and_takes_no_refund_is_down_too(
    processing: Processing, answer: Answer
) -> None:
    processing.world.gateway.answers = [answer] * OPEN_AFTER_FAILED_PAYMENTS
    for _ in range(OPEN_AFTER_FAILED_PAYMENTS // 10):
        processing.batch(10)
    assert processing.world.control.intake().breaker is BreakerState.OPEN


def test_while_it_is_open_messages_on_their_way_go_back_untried(processing: Processing) -> None:
    processing.world.gateway.down = True
    processing.batch(PROBE_AFTER_FAILED_PAYMENTS)
    processing.world.gateway.calls.clear()
    (result,) = processing.batch(1)
    assert isinstance(result, PutBackError)
    assert result.delay_seconds is not None
    assert result.delay_seconds >= HOLD_SECONDS
    assert processing.world.gateway.calls == []


def test_what_is_refused_is_refused_while_it_is_open_too(processing: Processing) -> None:
    processing.world.gateway.down = True
    processing.batch(PROBE_AFTER_FAILED_PAYMENTS)
    processing.world.stack.messages(processing.world.stack.queue_url)
    record = processing.world.stack.send("no json")
    processing.queue.handle(record, processing.world.deadline())
    assert len(processing.world.stack.dead_letters()) == 1


def test_an_environment_does_not_take_it_for_open_for_ever(processing: Processing) -> None:
    world = processing.world
    world.gateway.down = True
    processing.batch(PROBE_AFTER_FAILED_PAYMENTS)
    world.gateway.down = False
    world.clock.advance(seconds=61)
    (result,) = processing.batch(1)
    assert isinstance(result, Refund)


def test_an_order_that_was_not_sent_says_nothing_of_the_gateway(world: World) -> None:
    calls = GatewayCalls()
    world.gateway.answers = [KeyTooOld()]
    order = RefundOrder("refund-1", "payment-1", 1, "USD", "other", "refund-1")
    WatchedGateway(world.gateway, calls).create_refund(order, world.deadline(), not_after=NOW)
    assert calls.take() == {}


# --- The reconciler and the event source mapping --------------------------------------------------


def _error(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": code}}, "UpdateEventSourceMapping")


@dataclass
class FakeMapping:
    """Lambda's control plane: one mapping. ``before_update`` runs just before an update."""

    state: str = "Enabled"
    concurrency: int = MOST
    updates: list[dict[str, Any]] = field(default_factory=list)
    before_update: Callable[[], None] = lambda: None

    def get_event_source_mapping(self, *, UUID: str) -> dict[str, Any]:  # noqa: N803
        assert UUID == "mapping-1"
        return {"State": self.state, "ScalingConfig": {"MaximumConcurrency": self.concurrency}}

    def update_event_source_mapping(self, *, UUID: str, **change: Any) -> dict[str, Any]:  # noqa: N803
        assert UUID == "mapping-1"
        self.before_update()
        if self.state.endswith("ing"):
            raise _error("ResourceInUseException")
        self.updates.append(change)
        self.state = "Enabled" if change["Enabled"] else "Disabled"
        if "ScalingConfig" in change:
            self.concurrency = change["ScalingConfig"]["MaximumConcurrency"]
        return {"State": "Enabling" if change["Enabled"] else "Disabling"}


@dataclass
class Reconciling:
    world: World
    mapping: FakeMapping = field(default_factory=FakeMapping)

    def __post_init__(self) -> None:
        client: Any = self.mapping
        self.switch = Switch(
            control=self.world.control,
            client=client,
            mapping_id="mapping-1",
            maximum_concurrency=MOST,
        )
        self.keeper = IntakeKeeper(
            control=self.world.control,
            switch=self.switch,
            gateways=[self.world.gateway],
            clock=self.world.clock,
            by="ReconcileRefunds:1",
        )

    def keep(self) -> None:
        self.keeper.keep(self.world.deadline(230))

    def trip(self) -> None:
        self.world.gateway.down = True
        self.world.control.change_intake(
            lambda intake: opened(intake, "ProcessRefund:7", "HTTP 503", self.world.clock.now())
        )


@pytest.fixture
def reconciling(world: World) -> Reconciling:
    return Reconciling(world)


def test_a_good_run_asks_no_gateway_and_leaves_the_mapping_alone(reconciling: Reconciling) -> None:
    reconciling.keep()
    assert reconciling.mapping.updates == []
    assert reconciling.world.gateway.calls == []


def test_an_outage_stops_the_queue_and_its_end_lets_it_flow_step_by_step(
    reconciling: Reconciling,
) -> None:
    world, mapping = reconciling.world, reconciling.mapping
    reconciling.trip()
    reconciling.keep()
    assert mapping.state == "Disabled"
    for _ in range(288):
        world.clock.advance(minutes=5)
        reconciling.keep()
        assert mapping.state == "Disabled"
    assert len(mapping.updates) == 1
    world.gateway.down = False
    steps = []
    for _ in range(4):
        world.clock.advance(minutes=5)
        reconciling.keep()
        steps.append((mapping.state, mapping.concurrency))
    assert steps == [("Enabled", 2), ("Enabled", 8), ("Enabled", 10), ("Enabled", 10)]
    assert world.control.intake().breaker is BreakerState.CLOSED


@pytest.mark.parametrize("state", ["Enabled", "Disabled"])
@pytest.mark.parametrize("breaker", ["closed", "open"])
def test_whatever_a_crash_left_the_next_run_makes_the_mapping_follow_the_state(
    reconciling: Reconciling, state: str, breaker: str
) -> None:
    reconciling.mapping.state = state
    if breaker == "open":
        reconciling.trip()
    reconciling.keep()
    assert reconciling.mapping.state == ("Disabled" if breaker == "open" else "Enabled")


def test_a_pause_that_comes_between_reading_and_switching_wins(reconciling: Reconciling) -> None:
    world, mapping = reconciling.world, reconciling.mapping
    mapping.state = "Disabled"  # just resumed, say

    def pause_meanwhile() -> None:
        mapping.before_update = lambda: None
        world.control.change_intake(lambda intake: paused(intake, "jo", "stop!", NOW))

    mapping.before_update = pause_meanwhile
    reconciling.keep()
    assert mapping.state == "Disabled"


def test_a_mapping_that_is_just_being_changed_is_switched_at_the_next_run(
    reconciling: Reconciling,
) -> None:
    reconciling.trip()
    reconciling.mapping.state = "Updating"
    assert not reconciling.switch.follow().settled
    reconciling.mapping.state = "Enabled"
    assert reconciling.switch.follow().settled
    assert reconciling.mapping.state == "Disabled"


def test_what_a_person_paused_is_never_resumed(reconciling: Reconciling) -> None:
    world, mapping = reconciling.world, reconciling.mapping
    world.control.change_intake(lambda intake: paused(intake, "jo", "audit", NOW))
    reconciling.trip()
    world.gateway.down = False
    for _ in range(20):
        reconciling.keep()
        world.clock.advance(minutes=5)
        assert mapping.state == "Disabled"
    world.control.change_intake(lambda intake: resumed(intake, "jo", "done", NOW))
    reconciling.keep()
    assert mapping.state == "Enabled"


def test_with_two_gateways_one_that_answers_is_enough(world: World) -> None:
    other = FakeGateway()
    world.gateway.down = True
    assert gateway_trouble([world.gateway, other], world.clock, world.deadline()) is None
    other.down = True
    assert gateway_trouble([world.gateway, other], world.clock, world.deadline()) is not None
