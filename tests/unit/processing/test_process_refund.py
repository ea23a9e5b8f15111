"""What ProcessRefund counts and logs of a batch, and what does not hold the batch up."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError
from tests.support.builders import NOW, FakeClock, InlinePool, body, refund

from refunds.domain.clock import Deadline, rfc3339
from refunds.domain.refund import Refund, Status
from refunds.domain.request import ErrorCode, RefusedError
from refunds.processing.process_refund import SAID_JUST_NOW, ProcessRefund
from refunds.processing.queue import Deferred, PutBackError, Result
from refunds.tables.ledger import NEARLY_FULL_REFUNDS, Ledger, LedgerRead

DENIED = ClientError({"Error": {"Code": "AccessDeniedException"}}, "GetItem")


@dataclass
class Surroundings:
    """Every part of ProcessRefund in one: each message has the next of ``results``."""

    results: list[Result] = field(default_factory=list)
    ledgers: Mapping[str, LedgerRead] | Exception = field(default_factory=dict)
    opened: Any = None
    failing: str = ""
    calls: list[str] = field(default_factory=list)
    handled: list[dict[str, Any]] = field(default_factory=list)
    metrics: dict[str, list[tuple[str, float]]] = field(default_factory=dict)
    lines: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)

    def _called(self, name: str) -> None:
        self.calls.append(name)
        if self.failing == name:
            raise DENIED

    def before_batch(self) -> None:
        self._called("before_batch")

    def after_batch(self, deadline: Deadline) -> Any:
        self._called("after_batch")
        return self.opened

    def look_up_first(self, now: Any) -> bool:
        self._called("look_up_first")
        return False

    def read_many(self, transaction_ids: set[str]) -> Mapping[str, LedgerRead]:
        self._called("read_many")
        assert not isinstance(self.ledgers, Exception)
        return self.ledgers

    def handle(self, record: dict[str, Any], deadline: Deadline, **given: Any) -> Any:
        self.handled.append(given)
        result = self.results[int(record["messageId"])]
        if isinstance(result, Exception) and not isinstance(result, RefusedError):
            raise result
        return result

    def add_metric(self, name: str, unit: str, value: float) -> None:
        self.metrics.setdefault(name, []).append((unit, value))

    def info(self, message: str, **fields: Any) -> None:
        self.lines.append(("info", message, fields))

    def warning(self, message: str, **fields: Any) -> None:
        self.lines.append(("warning", message, fields))

    def error(self, message: str, **fields: Any) -> None:
        self.lines.append(("error", message, fields))

    def line(self, message: str) -> tuple[str, dict[str, Any]]:
        ((level, _, fields),) = [each for each in self.lines if each[1] == message]
        return level, fields

    def counted(self, name: str) -> list[float]:
        return [value for unit, value in self.metrics.get(name, []) if unit == "Count"]


def process(parts: Surroundings, *, ages_seconds: tuple[float | None, ...] = ()) -> Any:
    ages = ages_seconds or (None,) * len(parts.results)
    records = []
    for number, age in enumerate(ages):
        sent_ms = None if age is None else int((NOW.timestamp() - age) * 1000)
        attributes = {} if sent_ms is None else {"SentTimestamp": str(sent_ms)}
        records.append(
            {
                "messageId": str(number),
                "receiptHandle": "handle",
                "body": json.dumps(body(refund_id=f"r{number}")),
                "attributes": attributes,
            }
        )
    part: Any = parts
    run = ProcessRefund(
        queue=part,
        breaker=part,
        control=part,
        ledger=part,
        clock=FakeClock(),
        pool=InlinePool(),
        metrics=part,
        log=part,
    )
    return run.handle({"Records": records}, Deadline.after(FakeClock(), 60))


def put_back(reason: str = "HTTP 503", **more: Any) -> PutBackError:
    return PutBackError(reason, 7, **more)


def test_each_result_is_counted_once_and_logged_at_its_level() -> None:
    parts = Surroundings(
        [
            refund(status=Status.SUCCEEDED, failure_code="a b c"),
            RefusedError(ErrorCode.INVALID_JSON, "no"),
            Deferred("down"),
            put_back(),
            DENIED,
        ]
    )
    answer = process(parts)
    assert answer == {"batchItemFailures": [{"itemIdentifier": "3"}, {"itemIdentifier": "4"}]}
    for name, count in {
        "RefundSucceeded": [1],
        "MessagesRefused": [1],
        "MessagesDeferred": [1],
        "MessagesPutBack": [1, 1],
        "MisconfiguredPermissionDenied": [1],
    }.items():
        assert parts.counted(name) == count
    assert parts.line("refund recorded") == (
        "info",
        {
            "message_id": "0",
            "refund_id": "refund-1",
            "transaction_id": "payment-1",
            "status": "SUCCEEDED",
            "failure_code": "(a code that is not shown)",
        },
    )
    assert parts.line("message refused") == (
        "warning",
        {"message_id": "1", "error_code": "invalid_json"},
    )
    assert parts.line("message deferred") == ("info", {"message_id": "2", "reason": "down"})
    level, fields = parts.line("message put back")
    assert (level, fields["message_id"], fields["reason"]) == ("warning", "3", "HTTP 503")
    assert (fields["delay_seconds"], fields["extra"]["error"]) == (7, "PutBackError")
    level, fields = parts.line("message not handled")
    assert (level, fields["message_id"]) == ("error", "4")
    assert fields["extra"]["error"] == "ClientError AccessDeniedException"


def test_a_message_that_a_person_must_mend_is_an_error() -> None:
    denied, refused_key = put_back("ClientError"), put_back(misconfiguration="gateway_key_refused")
    denied.__cause__ = DENIED
    parts = Surroundings([denied, refused_key])
    process(parts)
    assert [level for level, message, _ in parts.lines if message == "message put back"] == [
        "error",
        "error",
    ]
    assert parts.counted("MisconfiguredPermissionDenied") == [1]
    assert parts.counted("MisconfiguredGatewayKeyRefused") == [1]


@pytest.mark.parametrize(
    ("ages_seconds", "oldest"),
    [((90.0, 30.0), 90), ((30.0, 90.0), 90), ((None, 0.0), 0), ((None, None), 0)],
)
def test_the_oldest_message_that_is_put_back_has_its_age_counted(
    ages_seconds: tuple[float | None, ...], oldest: int
) -> None:
    parts = Surroundings([put_back(), put_back()])
    process(parts, ages_seconds=ages_seconds)
    assert parts.metrics["OldestPutBackAgeSeconds"] == [("Seconds", oldest)]


def test_a_message_that_is_done_has_no_age() -> None:
    parts = Surroundings([refund(), Deferred("down")])
    process(parts, ages_seconds=(500.0, 500.0))
    assert parts.metrics["OldestPutBackAgeSeconds"] == [("Seconds", 0)]


@pytest.mark.parametrize(
    ("ago", "counted"),
    [
        (timedelta(0), [1]),
        (SAID_JUST_NOW - timedelta(seconds=1), [1]),
        (SAID_JUST_NOW, []),
        (None, []),
    ],
)
def test_a_balance_that_is_short_is_counted_when_the_gateway_has_just_said_so(
    ago: timedelta | None, counted: list[float]
) -> None:
    there: Refund = refund(balance_short_at=None if ago is None else rfc3339(NOW - ago))
    parts = Surroundings([there])
    process(parts)
    assert parts.counted("InsufficientBalance") == counted


@pytest.mark.parametrize(
    ("refunds", "counted"), [(NEARLY_FULL_REFUNDS - 1, []), (NEARLY_FULL_REFUNDS, [1])]
)
def test_a_ledger_is_named_when_it_is_nearly_full(refunds: int, counted: list[float]) -> None:
    held = {f"r{number}": 1 for number in range(refunds)}
    read = LedgerRead(Ledger("payment-1", 10_000, 1, "USD", held))
    parts = Surroundings([refund()], {"payment-1": read, "payment-2": LedgerRead(None)})
    process(parts)
    assert parts.counted("LedgersNearlyFull") == counted
    assert parts.handled[0]["read"] == read
    if counted:
        assert parts.line("ledger nearly full") == (
            "warning",
            {"transaction_id": "payment-1", "refunds": refunds},
        )


@pytest.mark.parametrize(
    ("failing", "message"),
    [
        ("look_up_first", "restore marker not read"),
        ("read_many", "ledgers of the batch not read"),
        ("after_batch", "calls to the gateway not counted"),
    ],
)
def test_what_cannot_be_read_is_reported_and_holds_no_message_up(
    failing: str, message: str
) -> None:
    parts = Surroundings([refund()], failing=failing)
    assert process(parts) == {"batchItemFailures": []}
    level, fields = parts.line(message)
    assert (level, fields["extra"]["error"]) == ("error", "ClientError AccessDeniedException")
    assert parts.handled[0]["look_up_first"] is (failing == "look_up_first")
    assert parts.calls == ["before_batch", "look_up_first", "read_many", "after_batch"]
    assert parts.counted("MisconfiguredPermissionDenied") == [1]


def test_a_breaker_that_opens_is_counted_and_says_why() -> None:
    class Opened:
        why = "HTTP 503"

    parts = Surroundings([refund()], opened=Opened())
    process(parts)
    assert parts.counted("BreakerOpened") == [1]
    assert parts.line("requests to the gateway stop") == ("error", {"reason": "HTTP 503"})
    quiet = Surroundings([refund()])
    process(quiet)
    assert quiet.counted("BreakerOpened") == []
