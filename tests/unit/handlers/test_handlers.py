"""The functions from event to log line: what they return, count and say, and never say."""

from __future__ import annotations

import io
import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any
from unittest.mock import patch

import boto3
import pytest
from moto import mock_aws
from samtranslator.yaml_helper import yaml_parse  # type: ignore[import-untyped]
from tests.support import deployed
from tests.support.builders import EMAIL, SECRET, VISA, body, refund
from tests.support.stream_records import CLAIMED, DONE, record

from refunds.tables.wire import item_to_wire

CARD_IN_GROUPS = "4111 1111 1111 1111"
PLANTED = (EMAIL, VISA, CARD_IN_GROUPS, SECRET)

Answers = Callable[[str, str], tuple[int, Any]]
"""Method and path to status and content."""

PAYMENT = {
    "id": "payment-1",
    "status": "captured",
    "currency": "USD",
    "amount_captured": 1_000_000,
    "amount_refunded": 0,
}


class Gateway:
    """A gateway that says what it is told to."""

    def __init__(self) -> None:
        self.answers: Answers = lambda method, path: (500, "")
        gateway = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._answer(None)

            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                self._answer(json.loads(self.rfile.read(length)))

            def _answer(self, asked: Any) -> None:
                status, content = gateway.answers(self.command, self.path)
                if content == "echo":
                    content = {"id": "gw-1", "status": "succeeded"} | asked
                sent = content if isinstance(content, str) else json.dumps(content)
                self.send_response(status)
                self.send_header("Content-Length", str(len(sent.encode())))
                self.send_header("Connection", "close")
                self.end_headers()
                self.wfile.write(sent.encode())

            def log_message(self, format: str, *args: Any) -> None:
                """Says nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = False
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join(10)
        self._server.server_close()


def pays(method: str, path: str) -> tuple[int, Any]:
    if method == "POST":
        return 201, "echo"
    return (200, PAYMENT) if "/payments/" in path else (200, {"data": []})


@dataclass
class Called:
    """What a function returned, and all that it wrote to its log."""

    answer: Any
    output: str

    def lines(self) -> list[dict[str, Any]]:
        found = [json.loads(line) for line in self.output.splitlines() if line.startswith("{")]
        return [line for line in found if "message" in line]

    def line(self, message: str) -> dict[str, Any]:
        (found,) = [line for line in self.lines() if line["message"] == message]
        return found

    def metrics(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for line in self.output.splitlines():
            told = json.loads(line) if line.startswith("{") else {}
            for each in told.get("_aws", {}).get("CloudWatchMetrics", []):
                found |= {metric["Name"]: told[metric["Name"]] for metric in each["Metrics"]}
        return found


class Functions:
    """The four functions with their template's environment, over moto and a scripted gateway."""

    def __init__(self, there: deployed.Deployed, gateway: Gateway) -> None:
        self.deployed = there
        self.gateway = gateway
        self.environment = there.environment
        # What a function says goes where its logger went when it was first loaded.
        self._said = io.StringIO()
        self._ids = count(1)
        self._receipts: list[str] = []

    def call(self, function: str, event: Any) -> Called:
        before = self._said.tell()
        with redirect_stdout(self._said):
            answer = self.deployed.call(function, event)
        return Called(answer, self._said.getvalue()[before:])

    def failing_call(self, function: str, event: Any) -> tuple[BaseException, str]:
        """The error that the function ends with, and what it wrote."""
        before = self._said.tell()
        with redirect_stdout(self._said), pytest.raises(Exception) as caught:  # noqa: PT011
            self.deployed.call(function, event)
        return caught.value, self._said.getvalue()[before:]

    def new_id(self) -> str:
        return f"r{next(self._ids)}"

    def message(self, content: Any) -> dict[str, Any]:
        """A message of the queue as an event's record; ``content`` is text or becomes JSON."""
        client, url = boto3.client("sqs"), self.environment["REFUND_QUEUE_URL"]
        text = content if isinstance(content, str) else json.dumps(content)
        client.send_message(QueueUrl=url, MessageBody=text)
        (got,) = client.receive_message(QueueUrl=url, MessageSystemAttributeNames=["All"])[
            "Messages"
        ]
        self._receipts.append(got["ReceiptHandle"])
        attributes: Any = got["Attributes"]
        return {
            "messageId": got["MessageId"],
            "receiptHandle": got["ReceiptHandle"],
            "body": got["Body"],
            "attributes": attributes,
            "messageAttributes": {},
            "eventSource": "aws:sqs",
        }

    def take_back_messages(self) -> None:
        """Those that were put back would come to another test."""
        for receipt in self._receipts:
            boto3.client("sqs").delete_message(
                QueueUrl=self.environment["REFUND_QUEUE_URL"], ReceiptHandle=receipt
            )
        self._receipts.clear()

    def process(self, *contents: Any) -> Called:
        records = [self.message(content) for content in contents]
        return self.call("ProcessRefund", {"Records": records})

    def put_refund(self, **changes: Any) -> None:
        boto3.client("dynamodb").put_item(
            TableName=self.environment["REFUNDS_TABLE"],
            Item=item_to_wire(refund(**changes).item()),
        )


@pytest.fixture(scope="module")
def loaded() -> Iterator[Functions]:
    template = yaml_parse(deployed.TEMPLATE.read_text())
    settings = {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": deployed.REGION,
        "AWS_REGION": deployed.REGION,
    }
    gateway = Gateway()
    with patch.dict(os.environ, settings), mock_aws():
        there = deployed.Deployed(template, gateway.url, SECRET)
        with clean_handlers(), patch.dict(os.environ, there.environment):
            yield Functions(there, gateway)
    gateway.stop()


@contextmanager
def clean_handlers() -> Iterator[None]:
    """Handlers build their clients when they are loaded: these are loaded here, and forgotten."""
    deployed._forget_handlers()
    yield
    deployed._forget_handlers()


@pytest.fixture
def functions(loaded: Functions) -> Iterator[Functions]:
    loaded.gateway.answers = pays
    # Each test finds the gateway trusted: the breaker remembers failures.
    boto3.client("dynamodb").delete_item(
        TableName=loaded.environment["LEDGER_TABLE"], Key={"transaction_id": {"S": "#intake"}}
    )
    yield loaded
    loaded.take_back_messages()


# ProcessRefund


def test_a_batch_is_answered_counted_and_told_record_by_record(functions: Functions) -> None:
    paid = functions.new_id()
    called = functions.process(body(refund_id=paid, amount_minor=1), "not json")

    assert called.answer == {"batchItemFailures": []}
    assert called.line("refund recorded")["refund_id"] == paid
    assert called.line("refund recorded")["status"] == "SUCCEEDED"
    assert called.line("message refused")["error_code"] == "invalid_json"
    counted = called.metrics()
    assert (counted["RefundSucceeded"], counted["MessagesRefused"]) == ([1.0], [1.0])


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


# WriteAudit


def stream_event(*records: dict[str, Any]) -> dict[str, Any]:
    return {"Records": list(records)}


def test_entries_are_written_and_counted(functions: Functions) -> None:
    called = functions.call("WriteAudit", stream_event(record(CLAIMED), record(DONE, CLAIMED)))

    assert called.answer == {"batchItemFailures": []}
    assert len(functions.deployed.entries("payment-1", "refund-1")) == 2
    assert called.metrics()["AuditRecords"] == [2.0]
    assert called.metrics()["AuditEntriesRejected"] == [0.0]


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


# What never gets into a log (I8)


def words(status: int) -> Answers:
    """A gateway whose errors are full of what it should keep to itself."""

    def answers(method: str, path: str) -> tuple[int, Any]:
        if "/payments/" in path:
            return 200, PAYMENT
        if method == "GET":
            return 200, {"data": []}
        text = " ".join(PLANTED)
        return status, {"error": {"code": text, "message": text}}

    return answers


def names_people(method: str, path: str) -> tuple[int, Any]:
    # Without a card number beside it, so that nothing else makes it be left out.
    if method == "POST":
        return 422, {"error": {"code": f"{EMAIL}_has_no_card", "message": SECRET}}
    return pays(method, path)


def pages(method: str, path: str) -> tuple[int, Any]:
    return 502, f"<html>{' '.join(PLANTED)}</html>"


def broken_payment(method: str, path: str) -> tuple[int, Any]:
    return 200, PAYMENT | {"status": EMAIL, "currency": VISA, "id": SECRET}


def broken_refund(method: str, path: str) -> tuple[int, Any]:
    if method == "POST":
        return 201, {"id": EMAIL, "status": VISA, "amount": SECRET}
    return pays(method, path)


def failed_refund(method: str, path: str) -> tuple[int, Any]:
    if method != "POST":
        return pays(method, path)
    failed = {"id": EMAIL, "transaction_id": EMAIL, "reference": VISA, "amount": 1}
    return 201, failed | {"currency": EMAIL, "status": "failed", "failure_code": EMAIL}


GATEWAYS: dict[str, Answers] = {
    "pays": pays,
    "pages": pages,
    "names people": names_people,
    "broken payment": broken_payment,
    "broken refund": broken_refund,
    "failed refund": failed_refund,
    **{str(status): words(status) for status in (400, 401, 402, 404, 409, 422, 429, 500)},
}


@pytest.mark.parametrize("gateway", GATEWAYS.values(), ids=GATEWAYS)
def test_neither_people_cards_nor_secrets_get_into_the_log(
    functions: Functions, gateway: Answers, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("WARNING")
    functions.gateway.answers = gateway
    refund_id = functions.new_id()
    private = {"user_id": EMAIL, "requested_by": f"customer:{EMAIL}", "metadata": {"to": EMAIL}}
    called = [
        functions.process(
            body(refund_id=refund_id, amount_minor=1, **private),
            body(refund_id=refund_id, amount_minor=2, **private),
            body(refund_id=functions.new_id(), amount_minor=1, metadata={VISA: EMAIL}),
            body(refund_id=functions.new_id(), requested_by=CARD_IN_GROUPS, user_id=SECRET),
            body(refund_id=EMAIL, reason=SECRET, amount_minor=VISA),
            body(**{EMAIL: VISA, SECRET: 1}),
            f'{{"user_id": "{EMAIL}" {SECRET} {VISA}',
        ),
        functions.call("ReconcileRefunds", {}),
        functions.call(
            "WriteAudit",
            stream_event(
                record(refund(refund_id=functions.new_id(), status="FAILED", **private)),
                record({"user_id": {"S": EMAIL}, "metadata": {"B": VISA}, "x": {"S": SECRET}}),
            ),
        ),
    ]

    output = "".join(each.output for each in called) + caplog.text
    assert "message refused" in output
    for planted in PLANTED:
        assert planted not in output


def test_an_unforeseen_error_is_told_by_place_and_never_by_its_words(
    functions: Functions, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any, **kwargs: Any) -> Any:
        raise KeyError(f"{EMAIL} {VISA}")

    monkeypatch.setattr("refunds.processing.processor.Processor.process", broken)
    called = functions.process(body(refund_id=functions.new_id()))

    line = called.line("message put back")
    assert (line["reason"], line["cause_error"]) == ("KeyError", "KeyError")
    assert "broken" in line["cause_at"]
    for planted in PLANTED:
        assert planted not in called.output


def test_refused_messages_are_told_on_the_bus_without_their_contents(
    functions: Functions, monkeypatch: pytest.MonkeyPatch
) -> None:
    published: list[Any] = []
    monkeypatch.setattr(
        "refunds.audit.outcome_events.OutcomeBus.publish",
        lambda bus, events: published.extend(events),
    )
    functions.process(
        body(metadata={VISA: EMAIL, SECRET: f"{EMAIL}\0"}), body(**{EMAIL: 1, SECRET: VISA})
    )

    assert len(published) == 2
    for planted in (EMAIL, VISA):
        assert planted not in str([event.detail for event in published])
