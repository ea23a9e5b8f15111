"""What the circuit breaker makes of the requests that ProcessRefund tries."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pytest
from tests.support.builders import NOW, InlinePool, body, payment
from tests.support.world import World

from refunds.audit.outcome_events import gateway_down_event
from refunds.breaker.breaker import HOLD_SECONDS, Breaker, GatewayCalls, WatchedGateway
from refunds.domain.clock import rfc3339
from refunds.domain.intake import (
    OPEN_AFTER_FAILED_PAYMENTS,
    PROBE_AFTER_FAILED_PAYMENTS,
    BreakerState,
    Intake,
)
from refunds.domain.refund import Refund, Status
from refunds.gateways.contract import Answer, Declined, KeyTooOld, RefundOrder, Retryable, Unknown
from refunds.gateways.routing import Gateways
from refunds.processing.queue import PutBackError, RefundQueue, Result, handle_batch


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


@pytest.mark.parametrize(
    "answer",
    [Unknown("HTTP 500"), pytest.param(Retryable("HTTP 429", 1.0), marks=pytest.mark.long)],
)
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
