"""What becomes of a message: done, refused to the DLQ byte for byte, or back with a delay."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any
from unittest.mock import patch

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from hypothesis import given
from hypothesis import strategies as st
from tests.support.builders import VISA, InlinePool, body, payment
from tests.support.world import World

from refunds.audit.outcome_events import PublishError
from refunds.breaker.breaker import Hold
from refunds.domain.refund import Refund, Status
from refunds.domain.request import ErrorCode, RefusedError
from refunds.gateways.contract import Retryable, Unknown
from refunds.processing.queue import (
    LONGEST_DELAY_SECONDS,
    PutBackError,
    RefundQueue,
    handle_batch,
    retry_delay_seconds,
)
from refunds.tables.ledger import LedgerRead


def delayed(world: World, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The visibility timeouts that are set."""
    seen: list[int] = []
    client: Any = world.stack.clients.sqs
    change = client.change_message_visibility

    def watched(**arguments: Any) -> Any:
        seen.append(arguments["VisibilityTimeout"])
        return change(**arguments)

    monkeypatch.setattr(client, "change_message_visibility", watched)
    return seen


def test_a_handled_message_may_be_deleted(world: World) -> None:
    result = world.queue.handle(world.stack.send(body()), world.deadline())

    assert isinstance(result, Refund)
    assert result.status is Status.SUCCEEDED


def test_the_refund_records_who_sent_the_message_by_the_queues_word(world: World) -> None:
    record = world.stack.send(body(requested_by="agent:anna"))
    record["attributes"]["SenderId"] = "AROAEXAMPLE:order-system"

    world.queue.handle(record, world.deadline())

    assert (world.stored().requested_by, world.stored().sent_by) == (
        "agent:anna",
        "AROAEXAMPLE:order-system",
    )


def test_a_message_without_a_sender_is_handled(world: World) -> None:
    record = world.stack.send(body())
    record["attributes"].pop("SenderId", None)

    assert isinstance(world.queue.handle(record, world.deadline()), Refund)
    assert world.stored().sent_by is None


def test_a_refused_message_goes_to_the_dlq_byte_for_byte_with_its_reason(world: World) -> None:
    text = json.dumps(body(user_id="é", amount_minor=25.5), ensure_ascii=False, indent=3) + "\n \t"
    record = world.stack.send(text)
    result = world.queue.handle(record, world.deadline())

    assert isinstance(result, RefusedError)
    (dead,) = world.stack.dead_letters()
    assert dead["Body"] == text
    assert dead["MessageAttributes"] == {
        "error_code": {"DataType": "String", "StringValue": "invalid_field"},
        "error_message": {"DataType": "String", "StringValue": result.message},
        "first_sent_by": {"DataType": "String", "StringValue": record["attributes"]["SenderId"]},
    }
    (event,) = world.stack.events()
    assert event["detail-type"] == "Refund Refused"
    assert event["detail"]["error_code"] == "invalid_field"


def test_a_card_number_is_masked_in_the_dlq_and_the_digest_of_the_whole_kept(world: World) -> None:
    text = json.dumps(body(note=f"é {VISA}"), ensure_ascii=False, indent=3)
    record = world.stack.send(text)
    result = world.queue.handle(record, world.deadline())

    assert isinstance(result, RefusedError)
    (dead,) = world.stack.dead_letters()
    assert json.loads(dead["Body"]) == body(note=f"é {'*' * 16}")
    assert dead["MessageAttributes"] == {
        "error_code": {"DataType": "String", "StringValue": "card_number"},
        "error_message": {"DataType": "String", "StringValue": result.message},
        "body_sha256": {
            "DataType": "String",
            "StringValue": hashlib.sha256(text.encode()).hexdigest(),
        },
        "first_sent_by": {"DataType": "String", "StringValue": record["attributes"]["SenderId"]},
    }
    (event,) = world.stack.events()
    assert event["detail"]["error_code"] == "card_number"
    assert VISA not in json.dumps(event)


def test_a_refused_message_does_not_use_up_its_refund_id(world: World) -> None:
    world.queue.handle(world.stack.send(body(amount_minor=2500.0)), world.deadline())
    result = world.queue.handle(world.stack.send(body()), world.deadline())

    assert isinstance(result, Refund)
    assert result.status is Status.SUCCEEDED


def test_a_conflict_goes_to_the_dlq_and_leaves_the_first_as_it_is(world: World) -> None:
    world.queue.handle(world.stack.send(body()), world.deadline())
    first = world.stored()
    result = world.queue.handle(world.stack.send(body(amount_minor=1)), world.deadline())

    assert isinstance(result, RefusedError)
    assert result.code is ErrorCode.IDEMPOTENCY_CONFLICT
    assert world.stored() == first
    (dead,) = world.stack.dead_letters()
    assert dead["MessageAttributes"]["error_code"]["StringValue"] == "idempotency_conflict"


def test_when_the_bus_is_down_a_refused_message_comes_back_and_nothing_is_doubled(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deaf(events: Any) -> None:
        raise PublishError("1 of 1 not taken")

    monkeypatch.setattr(world.bus, "publish", deaf)
    with pytest.raises(PublishError):
        world.queue.handle(world.stack.send("bad"), world.deadline())
    assert world.stack.dead_letters() == []


def test_a_message_put_back_comes_again_after_its_delay(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = delayed(world, monkeypatch)
    world.gateway.answers.append(Unknown("HTTP 500"))
    with pytest.raises(PutBackError) as caught:
        world.queue.handle(world.stack.send(body()), world.deadline())

    # First retry after 2 s at most, with a jitter of one half.
    assert (caught.value.delay_seconds, seen) == (1, [1])


def test_the_gateways_wish_is_the_least_delay(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = delayed(world, monkeypatch)
    world.gateway.answers.append(Retryable("HTTP 429", 120))
    with pytest.raises(PutBackError):
        world.queue.handle(world.stack.send(body()), world.deadline())

    assert seen == [121]


def test_an_unforeseen_error_puts_the_message_back_and_keeps_its_cause(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = delayed(world, monkeypatch)

    def broken(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError(f"card {VISA}")

    monkeypatch.setattr(world.processor, "process", broken)
    with pytest.raises(PutBackError) as caught:
        world.queue.handle(world.stack.send(body()), world.deadline())
    assert str(caught.value) == "RuntimeError"
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert seen == [1]


@pytest.mark.parametrize(
    "error",
    [
        ClientError({"Error": {"Code": "ReceiptHandleIsInvalid", "Message": ""}}, "x"),
        EndpointConnectionError(endpoint_url="https://sqs"),
    ],
)
def test_a_delay_that_cant_be_set_still_brings_the_message_back(
    world: World, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fails(**arguments: Any) -> None:
        raise error

    record = world.stack.send(body())
    monkeypatch.setattr(world.stack.clients.sqs, "change_message_visibility", fails)
    world.gateway.down = True
    with pytest.raises(PutBackError) as caught:
        world.queue.handle(record, world.deadline())
    assert caught.value.delay_seconds is None


# Delays


@given(st.integers(1, 1000), st.integers(1, 900), st.floats(0, 1, exclude_max=True))
def test_a_delay_is_never_longer_than_an_hour_nor_than_its_step(
    receives: int, first: int, random: float
) -> None:
    delay = retry_delay_seconds(receives, first, lambda: random, None)

    assert 0 <= delay <= min(LONGEST_DELAY_SECONDS, first * 2 ** min(receives - 1, 30))
    assert isinstance(delay, int)


def test_delays_double_and_are_spread_over_all_of_their_step() -> None:
    def delays(random: float) -> list[int]:
        return [retry_delay_seconds(n, 2, lambda: random, None) for n in (1, 2, 3, 11, 12, 99)]

    assert delays(0.999999) == [2, 4, 8, 2048, 3600, 3600]
    assert delays(0.5) == [1, 2, 4, 1024, 1800, 1800]
    assert delays(0.0) == [0, 0, 0, 0, 0, 0]


def test_a_known_wait_is_waited_for_with_the_jitter_on_top_but_an_hour_at_most() -> None:
    assert retry_delay_seconds(1, 2, lambda: 0.0, 41.2) == 42
    assert retry_delay_seconds(3, 2, lambda: 0.5, 40.0) == 44
    assert retry_delay_seconds(1, 2, lambda: 0.5, 7200.0) == 3600


# Batches


def handle(world: World, records: list[dict[str, Any]], pool: Any = None) -> dict[str, Any]:
    told: list[Any] = []
    response = handle_batch(
        records,
        world.queue,
        world.deadline(),
        pool or InlinePool(),
        lambda record, result: told.append(result),
    )
    assert len(told) == len(records)
    return response


def test_only_what_must_come_back_is_reported(world: World) -> None:
    records = [world.stack.send(body(refund_id=name, amount_minor=1)) for name in ("a", "b", "c")]
    world.gateway.answers += [Unknown("x")]

    assert handle(world, records) == {
        "batchItemFailures": [{"itemIdentifier": records[0]["messageId"]}]
    }


def test_a_batch_of_which_nothing_could_be_done_comes_back_whole(world: World) -> None:
    records = [world.stack.send(body(refund_id=name)) for name in ("a", "b")]
    world.gateway.down = True

    failures = handle(world, records)["batchItemFailures"]
    assert [each["itemIdentifier"] for each in failures] == [
        record["messageId"] for record in records
    ]


def test_duplicates_within_a_batch_are_paid_once(world: World) -> None:
    records = [world.stack.send(body()) for _ in range(5)]
    with ThreadPoolExecutor(5) as pool:
        handle(world, records, pool)

    assert len(world.gateway.orders) == 1
    assert world.remaining() == 7500


def test_partial_refunds_side_by_side_never_exceed_what_was_captured(world: World) -> None:
    world.gateway.payments["payment-1"] = payment(captured_minor=5000)
    records = [
        world.stack.send(body(refund_id=f"r{number}", amount_minor=1500)) for number in range(6)
    ]
    with ThreadPoolExecutor(6) as pool:
        handle(world, records, pool)

    assert sum(order.amount_minor for order in world.gateway.orders) <= 4500
    remaining = world.remaining()
    assert remaining is not None
    assert remaining >= 500


def test_the_records_of_a_batch_run_side_by_side(world: World) -> None:
    # Nobody passes before all have arrived: one after the other would wait for ever.
    together = Barrier(4, timeout=10)
    process = world.processor.process

    def at_once(*args: Any, **kwargs: Any) -> Any:
        together.wait()
        return process(*args, **kwargs)

    world.processor.process = at_once  # type: ignore[method-assign]
    records = [
        world.stack.send(body(refund_id=f"r{number}", amount_minor=1)) for number in range(4)
    ]
    with ThreadPoolExecutor(4) as pool:
        assert handle(world, records, pool) == {"batchItemFailures": []}


def test_while_the_gateway_is_down_requests_go_back_untried_and_bad_ones_are_refused(
    world: World,
) -> None:
    held = RefundQueue(
        client=world.stack.clients.sqs,
        queue_url=world.stack.queue_url,
        dead_letter_queue_url=world.stack.dead_letter_queue_url,
        bus=world.bus,
        processor=world.processor,
        first_retry_seconds=2,
        random=lambda: 0.5,
        hold=lambda transaction_id: Hold("the gateway is down", 60.0, send_again=False),
    )
    with pytest.raises(PutBackError) as caught:
        held.handle(world.stack.send(body()), world.deadline())
    assert caught.value.delay_seconds == 61
    assert world.gateway.calls == []
    assert isinstance(held.handle(world.stack.send("bad"), world.deadline()), RefusedError)


def test_the_ledgers_of_a_batchs_payments_are_asked_for_at_once_and_of_nothing_else(
    world: World,
) -> None:
    asked: list[set[str]] = []

    def read_ledgers(transaction_ids: set[str]) -> dict[str, LedgerRead]:
        asked.append(transaction_ids)
        return world.ledger.read_many(transaction_ids)

    world.gateway.payments["payment-2"] = payment(transaction_id="payment-2")
    bodies = [
        body(amount_minor=1),
        body(refund_id="refund-2", transaction_id="payment-2", amount_minor=2),
        "no request",
    ]
    records = [world.stack.send(each) for each in bodies]
    with patch.object(world.ledger, "get", side_effect=AssertionError("one more read")):
        response = handle_batch(
            records,
            world.queue,
            world.deadline(),
            InlinePool(),
            lambda record, result: None,
            read_ledgers=read_ledgers,
        )

    assert response == {"batchItemFailures": []}
    assert asked == [{"payment-1", "payment-2"}]
    assert [world.stored(each).status for each in ("refund-1", "refund-2")] == [
        Status.SUCCEEDED,
        Status.SUCCEEDED,
    ]


def test_a_batch_without_a_request_reads_no_ledgers(world: World) -> None:
    def read_ledgers(transaction_ids: set[str]) -> dict[str, LedgerRead]:
        raise AssertionError(transaction_ids)

    handle_batch(
        [world.stack.send("no request")],
        world.queue,
        world.deadline(),
        InlinePool(),
        lambda record, result: None,
        read_ledgers=read_ledgers,
    )
