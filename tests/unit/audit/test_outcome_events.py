"""Outcome events: one for each thing that others should know, without personal data."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.support.builders import EMAIL, LEFT_OUT, NOW, VISA, FakeClock, refund
from tests.support.moto_stack import Stack
from tests.support.world import World

from refunds.audit.failures_bucket import FailureStore
from refunds.audit.outcome_events import (
    OutcomeBus,
    OutcomeEvent,
    PublishError,
    outcome_event,
    refused_event,
)
from refunds.domain.audit_entry import audit_entry, removal_entry
from refunds.domain.redaction import describe
from refunds.domain.refund import Status
from refunds.domain.request import ErrorCode, RefusedError


@pytest.mark.parametrize(
    ("status", "title"),
    [
        (Status.SUCCEEDED, "Refund Succeeded"),
        (Status.FAILED, "Refund Failed"),
        (Status.REJECTED, "Refund Rejected"),
        (Status.REVERSED, "Refund Reversed"),
        (Status.PENDING, "Refund Pending"),
        (Status.IN_REVIEW, "Refund In Review"),
    ],
)
def test_each_outcome_has_its_event(status: Status, title: str) -> None:
    entry = audit_entry(refund(status=status, version=2, failure_code="declined").item())
    event = outcome_event(entry)

    assert event == OutcomeEvent(
        title,
        {
            "refund_id": "refund-1",
            "version": 2,
            "transaction_id": "payment-1",
            "status": status.value,
            "amount_minor": 2500,
            "currency": "USD",
            "failure_code": "declined",
            "occurred_at": entry["occurred_at"],
        },
    )


def test_a_start_and_a_removal_are_no_outcomes() -> None:
    done = refund(status=Status.SUCCEEDED).item()

    assert outcome_event(audit_entry(refund().item())) is None
    assert outcome_event(removal_entry(done, removed_at="now", removed_by="x")) is None


def test_what_a_refund_does_not_have_is_null_in_its_event() -> None:
    event = outcome_event(audit_entry(refund(status=Status.REJECTED, amount_minor=LEFT_OUT).item()))

    assert event is not None
    assert (event.detail["amount_minor"], event.detail["failure_code"]) == (None, None)


def test_no_personal_data_is_in_an_event() -> None:
    there = refund(
        status=Status.FAILED,
        user_id=EMAIL,
        requested_by=EMAIL,
        metadata={"note": EMAIL},
        failure_message=EMAIL,
        failure_code=f"no card of {EMAIL}",
        processed_by=EMAIL,
        review={"by": EMAIL, "why": EMAIL, "evidence": EMAIL},
    )

    event = outcome_event(audit_entry(there.item()))

    assert event is not None
    assert EMAIL not in json.dumps(event.detail)
    assert EMAIL not in event.detail_type


def test_a_refused_message_gives_its_reason_and_nothing_of_its_body() -> None:
    event = refused_event("message-1", RefusedError(ErrorCode.INVALID_FIELD, "amount_minor: no"))

    assert event == OutcomeEvent(
        "Refund Refused",
        {
            "message_id": "message-1",
            "error_code": "invalid_field",
            "error_message": "amount_minor: no",
        },
    )


def test_more_events_than_one_call_takes_all_arrive(world: World) -> None:
    events = [OutcomeEvent("Refund Succeeded", {"version": number}) for number in range(23)]

    world.bus.publish(events)

    arrived = world.stack.events()
    assert sorted(event["detail"]["version"] for event in arrived) == list(range(23))
    assert {event["source"] for event in arrived} == {"refunds"}
    assert {event["detail-type"] for event in arrived} == {"Refund Succeeded"}


class DeafBus:
    def __init__(self, failed: int) -> None:
        self.failed = failed
        self.calls = 0

    def put_events(self, **arguments: Any) -> dict[str, Any]:
        self.calls += 1
        return {"FailedEntryCount": self.failed, "Entries": []}


def test_an_event_that_was_not_taken_is_an_error_not_a_loss() -> None:
    client: Any = DeafBus(failed=1)
    with pytest.raises(PublishError, match="1 of 2"):
        OutcomeBus(client, "bus").publish([OutcomeEvent("a", {}), OutcomeEvent("b", {})])


def test_without_events_nothing_is_called() -> None:
    client: Any = DeafBus(failed=0)
    OutcomeBus(client, "bus").publish([])

    assert client.calls == 0


# What is kept and what is told of failures


def test_what_could_not_be_handled_is_kept_whole_under_its_day(stack: Stack) -> None:
    store = FailureStore(stack.clients.s3, stack.failures_bucket, FakeClock())
    key = store.keep("audit", "../event 1/x", {"body": "\ud800 é", "n": 1})

    assert key == f"audit/{NOW:%Y/%m/%d}/.._event_1_x.json"
    assert stack.kept(stack.failures_bucket) == {key: {"body": "\ud800 é", "n": 1}}


def test_what_has_no_name_is_kept_by_its_contents_and_binary_as_lambda_gives_it(
    stack: Stack,
) -> None:
    store = FailureStore(stack.clients.s3, stack.failures_bucket, FakeClock())
    keys = {store.keep("audit", None, {"value": value}) for value in (b"x", {"b", "a"}, NOW)}

    assert len(keys) == 3
    kept = [each["value"] for each in stack.kept(stack.failures_bucket).values()]
    assert sorted(kept, key=str) == ["2026-11-23 07:10:00+00:00", ["a", "b"], "eA=="]


def test_a_long_name_still_makes_a_key(stack: Stack) -> None:
    store = FailureStore(stack.clients.s3, stack.failures_bucket, FakeClock())

    assert len(store.keep("audit", "x" * 5000, {})) < 300


def test_an_error_is_told_by_kind_and_place_and_never_by_its_text() -> None:
    try:
        try:
            raise KeyError(f"{EMAIL} {VISA}")
        except KeyError as exc:
            raise RuntimeError(f"for {EMAIL}") from exc
    except RuntimeError as exc:
        told = describe(exc)

    assert told["error"] == "RuntimeError"
    assert told["cause_error"] == "KeyError"
    assert told["at"].startswith("test_outcome_events.py:")
    assert EMAIL not in str(told)
    assert VISA not in str(told)


def test_awss_own_code_is_told(stack: Stack) -> None:
    with pytest.raises(stack.clients.s3.exceptions.ClientError) as caught:
        stack.clients.s3.get_object(Bucket=stack.failures_bucket, Key=EMAIL)

    assert describe(caught.value)["error"] == "NoSuchKey NoSuchKey"


def test_an_error_that_was_never_raised_has_no_place() -> None:
    assert describe(ValueError(EMAIL)) == {"error": "ValueError"}
