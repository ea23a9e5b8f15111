"""A request whose gateway is down is sent again later, with what SQS said of the first message."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.support.builders import body
from tests.support.world import World

from refunds.breaker.breaker import Hold
from refunds.domain.refund import Status
from refunds.processing.deferral import (
    FIRST_SENT_BY,
    RESENT,
    Deferral,
    first_sent_at,
    first_sent_by,
)
from refunds.processing.queue import Deferred, PutBackError, RefundQueue

BODY = json.dumps(body())


class Sent:
    """An SQS client that keeps what is sent."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.visibilities: list[int] = []
        self.error: Exception | None = None

    def send_message(self, **message: Any) -> None:
        if self.error:
            raise self.error
        self.messages.append(message)

    def change_message_visibility(self, *, VisibilityTimeout: int, **_: Any) -> None:  # noqa: N803
        self.visibilities.append(VisibilityTimeout)


def a_record(**changes: Any) -> dict[str, Any]:
    return {
        "messageId": "m-1",
        "receiptHandle": "receipt",
        "body": BODY,
        "attributes": {
            "ApproximateReceiveCount": "1",
            "SentTimestamp": "1795417800000",
            "SenderId": "AROA1:orders",
        },
        "messageAttributes": {},
    } | changes


def again(record: dict[str, Any], delay_seconds: float = 800) -> dict[str, Any]:
    sent = Sent()
    Deferral(sent, "queue").send_again(record, delay_seconds)  # type: ignore[arg-type]
    (message,) = sent.messages
    return message


def as_received(message: dict[str, Any], sender: str = "AROA2:ProcessRefund") -> dict[str, Any]:
    """The record of a message that was sent again."""
    attributes = {
        name: {"dataType": "String", "stringValue": value["StringValue"]}
        for name, value in message["MessageAttributes"].items()
    }
    system = {"ApproximateReceiveCount": "1", "SentTimestamp": "1795999999000", "SenderId": sender}
    return a_record(attributes=system, messageAttributes=attributes, body=message["MessageBody"])


def test_the_body_is_byte_for_byte_the_same_and_the_delay_is_one_that_sqs_takes() -> None:
    message = again(a_record(), 5_000.7)

    assert message["MessageBody"] == BODY
    assert message["DelaySeconds"] == 900
    assert again(a_record(), 120.9)["DelaySeconds"] == 120


def test_when_and_by_whom_it_was_first_sent_goes_along_however_often_it_is_deferred() -> None:
    record = a_record()
    for _ in range(3):
        message = again(record)
        assert set(message["MessageAttributes"]) == {RESENT, FIRST_SENT_BY}
        record = as_received(message)
        assert first_sent_at(record) == "2026-11-23T07:10:00.000000Z"
        assert first_sent_by(record) == "AROA1:orders via AROA2:ProcessRefund"


def test_a_sender_cannot_pass_for_another_unseen() -> None:
    forged = {FIRST_SENT_BY: {"dataType": "String", "stringValue": "AROA9:finance"}}
    record = a_record(messageAttributes=forged)

    assert first_sent_by(record) == "AROA9:finance via AROA1:orders"


def a_queue(world: World, sent: Sent, hold: Hold | None) -> RefundQueue:
    return RefundQueue(
        client=sent,  # type: ignore[arg-type]
        queue_url="queue",
        dead_letter_queue_url="dlq",
        bus=world.bus,
        processor=world.processor,
        first_retry_seconds=2,
        random=lambda: 0.5,
        hold=lambda transaction_id: hold,
    )


def test_a_held_request_is_sent_again_untried(world: World) -> None:
    sent = Sent()
    queue = a_queue(world, sent, Hold("acme is down", 800.0, send_again=True))

    assert queue.handle(a_record(), world.deadline()) == Deferred("acme is down")
    assert [message["DelaySeconds"] for message in sent.messages] == [800]
    assert sent.visibilities == []
    assert world.gateway.calls == []
    assert world.refunds.get("refund-1") is None


def test_if_it_cannot_be_sent_again_it_is_put_back(world: World) -> None:
    sent = Sent()
    sent.error = ConnectionError("no")
    queue = a_queue(world, sent, Hold("acme is down", 800.0, send_again=True))
    with pytest.raises(PutBackError):
        queue.handle(a_record(), world.deadline())

    assert len(sent.visibilities) == 1


def test_what_is_wrong_with_a_message_is_found_before_it_is_held(world: World) -> None:
    sent = Sent()
    queue = a_queue(world, sent, Hold("acme is down", 800.0, send_again=True))
    queue.handle(a_record(body="no json"), world.deadline())

    assert [message["QueueUrl"] for message in sent.messages] == ["dlq"]


def test_a_message_that_was_sent_again_is_processed_as_the_first(world: World) -> None:
    sent = Sent()
    record = as_received(again(a_record()))
    refund = a_queue(world, sent, None).handle(record, world.deadline())

    assert not isinstance(refund, Exception | Deferred)
    stored = world.refunds.get("refund-1")
    assert stored is not None
    assert stored.status is Status.SUCCEEDED
    assert stored.sent_by == "AROA1:orders via AROA2:ProcessRefund"
