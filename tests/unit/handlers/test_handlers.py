"""The functions from event to log line: what they return, count and log."""

from __future__ import annotations

from typing import Any

import boto3
import pytest
from tests.support.builders import EMAIL, VISA, body, refund
from tests.support.functions import (
    PLANTED,
    Functions,
    pays,
    stream_event,
)
from tests.support.stream_records import CLAIMED, DONE, record


def test_a_batch_is_answered_counted_and_told_record_by_record(functions: Functions) -> None:
    paid = functions.new_id()
    called = functions.process(body(refund_id=paid, amount_minor=1), "not json")

    assert called.answer == {"batchItemFailures": []}
    assert called.line("refund recorded")["refund_id"] == paid
    assert called.line("refund recorded")["status"] == "SUCCEEDED"
    assert called.line("message refused")["error_code"] == "invalid_json"
    counted = called.metrics()
    assert (counted["RefundSucceeded"], counted["MessagesRefused"]) == ([1.0], [1.0])


def test_a_ledger_that_is_nearly_full_is_named(
    functions: Functions, monkeypatch: pytest.MonkeyPatch
) -> None:
    called = functions.process(body(refund_id=functions.new_id(), amount_minor=1))
    assert "LedgersNearlyFull" not in called.metrics()

    monkeypatch.setattr("refunds.processing.process_refund.NEARLY_FULL_REFUNDS", 1)
    called = functions.process(body(refund_id=functions.new_id(), amount_minor=1))
    assert called.line("ledger nearly full")["transaction_id"] == "payment-1"
    assert called.line("ledger nearly full")["refunds"] >= 1
    assert called.metrics()["LedgersNearlyFull"] == [1.0]


def test_a_message_that_must_come_back_is_reported_with_its_reason_and_age(
    functions: Functions,
) -> None:
    functions.gateway.answers = lambda method, path: (503, "busy")
    message = functions.message(body(refund_id=functions.new_id(), transaction_id="payment-9"))
    message["attributes"]["SentTimestamp"] = "0"
    called = functions.call("ProcessRefund", {"Records": [message]})

    assert called.answer == {"batchItemFailures": [{"itemIdentifier": message["messageId"]}]}
    assert called.line("message put back")["reason"] == "HTTP 503"
    assert called.metrics()["MessagesPutBack"] == [1.0]
    assert called.metrics()["OldestPutBackAgeSeconds"][0] > 10**9


@pytest.mark.parametrize(
    ("status", "metric"), [("SUCCEEDED", "RefundSucceeded"), ("IN_REVIEW", "RefundInReview")]
)
def test_each_status_has_its_metric(functions: Functions, status: str, metric: str) -> None:
    def answers(method: str, path: str) -> tuple[int, Any]:
        if status == "IN_REVIEW" and method == "POST":
            return 409, {"error": {"code": "idempotency_key_reused", "message": "m"}}
        return pays(method, path)

    functions.gateway.answers = answers
    called = functions.process(body(refund_id=functions.new_id(), amount_minor=1))

    assert called.line("refund recorded")["status"] == status
    assert called.metrics()[metric] == [1.0]


def test_the_audit_trail_will_name_the_function_and_its_version(functions: Functions) -> None:
    refund_id = functions.new_id()
    functions.process(body(refund_id=refund_id, amount_minor=1))

    stored = functions.deployed.item("REFUNDS_TABLE", refund_id=refund_id)
    assert stored is not None
    assert stored["processed_by"] == {"S": "sample:1"}


def test_a_message_that_could_not_even_be_refused_comes_back(functions: Functions) -> None:
    sqs = boto3.client("sqs")
    url = functions.environment["DEAD_LETTER_QUEUE_URL"]
    sqs.delete_queue(QueueUrl=url)
    try:
        called = functions.process(f"{VISA} is not json")
    finally:
        sqs.create_queue(QueueName=url.rpartition("/")[2])

    assert len(called.answer["batchItemFailures"]) == 1
    line = called.line("message not handled")
    assert "QueueDoesNotExist" in line["error"]
    assert VISA not in called.output


def test_entries_are_written_and_counted(functions: Functions) -> None:
    called = functions.call("WriteAudit", stream_event(record(CLAIMED), record(DONE, CLAIMED)))

    assert called.answer == {"batchItemFailures": []}
    assert len(functions.deployed.entries("payment-1", "refund-1")) == 2
    assert called.metrics()["AuditRecords"] == [2.0]
    assert called.metrics()["AuditEntriesRejected"] == [0.0]


def test_money_is_counted_with_its_currency(functions: Functions) -> None:
    there = refund(refund_id=functions.new_id())
    called = functions.call("WriteAudit", stream_event(record(there)))

    assert called.metrics()["RequestedMinor"] == 2500
    assert called.metrics()["RequestedCount"] == 1


def test_a_poison_record_is_told_and_counted_but_not_shown(functions: Functions) -> None:
    poison = record({"refund_id": {"S": EMAIL}, "status": {"S": VISA}, "version": {"N": "1"}})
    called = functions.call("WriteAudit", stream_event(poison))

    assert called.answer == {"batchItemFailures": []}
    assert called.line("audit record kept in S3")["event_id"] == "event-1"
    assert called.metrics()["AuditEntriesRejected"] == [1.0]
    assert any(key.startswith("audit/") for key in functions.deployed.keys("FAILURES_BUCKET"))
    for planted in PLANTED:
        assert planted not in called.output


def test_an_entry_that_could_not_be_written_comes_again(functions: Functions) -> None:
    table = functions.environment["AUDIT_TABLE"]
    client = boto3.client("dynamodb")
    there: Any = client.describe_table(TableName=table)["Table"]
    client.delete_table(TableName=table)
    try:
        called = functions.call("WriteAudit", stream_event(record(CLAIMED, number=5)))
    finally:
        client.create_table(
            TableName=table,
            KeySchema=there["KeySchema"],
            AttributeDefinitions=there["AttributeDefinitions"],
            BillingMode="PAY_PER_REQUEST",
        )

    assert called.answer == {"batchItemFailures": [{"itemIdentifier": f"{5:021d}"}]}
    assert "ResourceNotFoundException" in called.line("audit entry not written")["error"]


def test_when_the_bus_is_gone_the_batch_fails_without_saying_what_was_in_it(
    functions: Functions,
) -> None:
    events, name = boto3.client("events"), functions.environment["EVENT_BUS_NAME"]
    there = refund(
        refund_id="r-bus",
        status="FAILED",
        user_id=EMAIL,
        failure_message=EMAIL,
        failure_code=f"{EMAIL} has no card",
    )
    events.delete_event_bus(Name=name)
    try:
        error, output = functions.failing_call("WriteAudit", stream_event(record(there)))
    finally:
        events.create_event_bus(Name=name)

    for planted in PLANTED:
        assert planted not in str(error) + output


# ReconcileRefunds


def test_a_run_tells_and_counts_what_it_did(functions: Functions) -> None:
    refund_id = functions.new_id()
    functions.put_refund(
        refund_id=refund_id,
        lease_until=None,
        open_since="2026-01-01T00:00:00.000000Z",
        open_shard="0",
        check_at="2026-01-01T00:00:00.000000Z",
        status="IN_REVIEW",
    )
    called = functions.call("ReconcileRefunds", {})

    assert called.answer["in_review"] == 1
    assert called.answer["sweep_complete"] is True
    assert called.metrics()["RefundsInReview"] == [1.0]
    assert called.metrics()["OldestOpenRefundAgeSeconds"][0] > 0
    assert called.line("reconciled")["in_review"] == 1


def test_a_refund_that_was_named_is_looked_at(functions: Functions) -> None:
    called = functions.call("ReconcileRefunds", {"look_at": "nobody"})

    assert called.answer == {"refund_id": "nobody", "status": None}
    assert called.metrics()["RefundsLookedAt"] == [1.0]


def test_news_of_a_gateway_that_is_down_only_looks_after_the_queue(functions: Functions) -> None:
    called = functions.call("ReconcileRefunds", {"detail-type": "Gateway Down", "detail": {}})

    # There is no event source mapping in this test: that is told and counted, not raised.
    assert called.answer == {"requests": "not switched"}
    assert called.metrics()["QueueSwitchErrors"] == [1.0]
    assert called.line("queue not switched")["error"]
