"""Messages that cannot become a refund end in the dead-letter queue, with the reason."""

from __future__ import annotations

import hashlib
import json

import pytest
from tests.local.flow import Flow

from refunds.domain.request import masked_body
from refunds_ops.stack.records import refund_item

BAD = {
    "invalid_json": '{"refund_id": "rf_é", "transaction_id": ',
    "duplicate_key": '{"refund_id": "a", "refund_id": "b"}',
    "unknown_field": '{ "refund_id":"rf_unknown",\t"iban": "x" }',
}


@pytest.mark.parametrize(("error_code", "body"), BAD.items())
def test_a_refused_message_is_kept_byte_for_byte_with_its_reason(
    flow: Flow, error_code: str, body: str
) -> None:
    flow.send(body)
    letter = flow.dead_letter(body)
    attributes = {name: value["StringValue"] for name, value in letter["MessageAttributes"].items()}
    assert attributes["error_code"] == error_code
    assert attributes["error_message"]
    assert letter["Body"] == body


def test_a_card_number_is_refused_and_masked(flow: Flow) -> None:
    body = flow.request("pay_full", 100, metadata={"note": "card 4111 1111 1111 1111"})
    flow.send(body)
    letter = flow.dead_letter(masked_body(body))
    attributes = {name: value["StringValue"] for name, value in letter["MessageAttributes"].items()}
    assert attributes["error_code"] == "card_number"
    assert attributes["body_sha256"] == hashlib.sha256(body.encode()).hexdigest()
    assert "4111" not in json.dumps([letter["Body"], attributes["error_message"]])


def test_a_refused_message_does_not_hold_up_the_others(flow: Flow) -> None:
    payment = flow.payment()
    good, bad = flow.request(payment, 100), flow.request(payment, "1.00")
    flow.send(bad, good)
    flow.refund(good, "SUCCEEDED")
    flow.dead_letter(bad)


def test_a_refused_message_leaves_its_refund_id_free(flow: Flow) -> None:
    payment = flow.payment()
    bad = flow.request(payment, True)
    flow.send(bad)
    flow.dead_letter(bad)
    good = flow.request(payment, 100, refund_id=json.loads(bad)["refund_id"])
    flow.send(good)
    flow.refund(good, "SUCCEEDED")


def test_an_id_used_again_with_another_amount_leaves_the_first_refund_alone(flow: Flow) -> None:
    payment = flow.payment()
    body = flow.request(payment, 100)
    flow.send(body)
    before = flow.refund(body, "SUCCEEDED")
    conflict = flow.request(payment, 200, refund_id=before["refund_id"])
    flow.send(conflict)
    letter = flow.dead_letter(conflict)
    assert letter["MessageAttributes"]["error_code"]["StringValue"] == "idempotency_conflict"
    assert refund_item(flow.stack, before["refund_id"]) == before
    assert flow.moved(payment) == [100]
