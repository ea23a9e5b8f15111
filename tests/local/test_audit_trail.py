"""The stream gives one chained entry for each version, and then an event on the bus."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from typing import Any

import pytest
from tests.local.flow import Flow, eventually

from refunds.domain.audit_entry import entry_hash


@pytest.fixture(scope="module")
def bus(flow: Flow) -> Iterator[_Published]:
    """Everything that was published to the bus so far."""
    stack, name = flow.stack, f"test-{secrets.token_hex(4)}"
    queue = stack.sqs.create_queue(QueueName=name)["QueueUrl"]
    arn = stack.sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])
    stack.events.put_rule(
        Name=name,
        EventBusName=stack["EventBusName"],
        EventPattern=json.dumps({"source": ["refunds"]}),
    )
    stack.events.put_targets(
        Rule=name,
        EventBusName=stack["EventBusName"],
        Targets=[{"Id": "queue", "Arn": arn["Attributes"]["QueueArn"]}],
    )
    yield _Published(flow, queue)
    stack.events.remove_targets(Rule=name, EventBusName=stack["EventBusName"], Ids=["queue"])
    stack.events.delete_rule(Name=name, EventBusName=stack["EventBusName"])
    stack.sqs.delete_queue(QueueUrl=queue)


class _Published(list[dict[str, Any]]):
    def __init__(self, flow: Flow, queue: str) -> None:
        super().__init__()
        self._flow = flow
        self._queue = queue

    def about(self, **detail: str) -> list[dict[str, Any]]:
        """Reads new events, and returns all so far whose detail has these values."""
        answer = self._flow.stack.sqs.receive_message(QueueUrl=self._queue, MaxNumberOfMessages=10)
        for message in answer.get("Messages", []):
            self.append(json.loads(message["Body"]))
            self._flow.stack.sqs.delete_message(
                QueueUrl=self._queue, ReceiptHandle=message["ReceiptHandle"]
            )
        return [event for event in self if detail.items() <= event["detail"].items()]


def test_each_version_has_one_entry_and_the_hashes_make_a_chain(flow: Flow) -> None:
    payment = flow.payment()
    flow.sandbox.add_fault("declined", transaction_id=payment)
    bodies = [flow.request(payment, 1_000) for _ in range(3)]
    flow.send(*bodies)
    for body in bodies:
        refund = flow.refund(body, "SUCCEEDED", "FAILED")
        entries = flow.entries(refund)
        assert [entry["version"] for entry in entries] == list(range(1, refund["version"] + 1))
        assert [entry["entry_hash"] for entry in entries] == [entry_hash(e) for e in entries]
        assert [entry["previous_hash"] for entry in entries] == [
            None,
            *(entry["entry_hash"] for entry in entries[:-1]),
        ]
        last = entries[-1]
        assert last["status"] == refund["status"]
        assert last["event"] == f"refund.{refund['status'].lower()}"
        assert last["record_type"] == "REFUND"
        assert last["entry_id"] == f"REFUND#{refund['refund_id']}#{refund['version']:06d}"
        assert last["requested_by"] == "agent:grace"


def test_the_payment_sides_records_in_the_same_table_are_left_alone(flow: Flow) -> None:
    payment = flow.payment()
    theirs = {
        "transaction_id": {"S": payment},
        "entry_id": {"S": "PAYMENT#captured"},
        "record_type": {"S": "PAYMENT"},
        "amount": {"N": "100.5"},
    }
    flow.stack.dynamodb.put_item(TableName=flow.stack["AuditTableName"], Item=theirs)
    body = flow.request(payment, 100)
    flow.send(body)
    flow.entries(flow.refund(body, "SUCCEEDED"))
    key = {name: theirs[name] for name in ("transaction_id", "entry_id")}
    there = flow.stack.dynamodb.get_item(TableName=flow.stack["AuditTableName"], Key=key)
    assert there["Item"] == theirs


def test_an_outcome_is_announced_on_the_bus_without_personal_data(
    flow: Flow, bus: _Published
) -> None:
    payment = flow.payment()
    body = flow.request(payment, 700)
    flow.send(body)
    refund = flow.refund(body, "SUCCEEDED")
    (event,) = eventually(lambda: bus.about(refund_id=refund["refund_id"]), "its event")
    assert event["detail-type"] == "Refund Succeeded"
    assert event["source"] == "refunds"
    assert event["detail"] == {
        "refund_id": refund["refund_id"],
        "version": refund["version"],
        "transaction_id": payment,
        "status": "SUCCEEDED",
        "amount_minor": 700,
        "currency": "USD",
        "failure_code": None,
        "occurred_at": refund["updated_at"],
    }


def test_a_refused_message_is_announced_with_its_reason(flow: Flow, bus: _Published) -> None:
    body = flow.request(flow.payment(), -1)
    flow.send(body)
    flow.dead_letter(body)
    found = eventually(lambda: bus.about(error_code="invalid_field"), "its event")
    assert found[0]["detail-type"] == "Refund Refused"
