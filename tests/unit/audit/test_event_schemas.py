"""Outcome events keep to the schemas under docs/events/, and tell nothing of a person."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from tests.support.builders import EMAIL, NOW, VISA, refund

from refunds.audit.outcome_events import SOURCE, OutcomeEvent, outcome_event, refused_event
from refunds.domain.audit_entry import audit_entry, removal_entry
from refunds.domain.clock import rfc3339
from refunds.domain.refund import OUTCOMES, Refund, Status, change_status
from refunds.domain.request import ErrorCode, RefusedError

SCHEMAS = Path(__file__).parents[3] / "docs" / "events"

PERSONAL = {
    "user_id": f"user of {EMAIL}",
    "requested_by": f"customer:{EMAIL}",
    "metadata": {"note": f"card {VISA}"},
}


def of(status: Status) -> Refund:
    """A refund in that status, with personal data wherever it may have some."""
    begun = refund(**PERSONAL)
    if status is Status.PROCESSING:
        return begun
    if status is Status.REJECTED:
        return refund(
            **PERSONAL, status=status, failure_code="payment_not_found", failure_message=EMAIL
        )
    if status is Status.AWAITING_APPROVAL:
        approval = {"by": EMAIL, "name": EMAIL, "why": VISA}
        return refund(**PERSONAL, status=status, approvals=(approval,))
    at, hash_ = rfc3339(NOW), "0" * 64
    why = {} if status in (Status.SUCCEEDED, Status.PENDING) else {"failure_code": "declined"}
    if status is Status.REVERSED:
        begun = change_status(begun, Status.SUCCEEDED, at=at, by=EMAIL, previous_hash=hash_)
    return change_status(
        begun, status, at=at, by=EMAIL, previous_hash=hash_, failure_message=EMAIL, **why
    )


def schema(event: OutcomeEvent) -> Any:
    name = event.detail_type.lower().replace(" ", "-")
    return json.loads((SCHEMAS / f"{name}.json").read_text())


def envelope(event: OutcomeEvent) -> dict[str, Any]:
    """As EventBridge hands it on."""
    return {
        "version": "0",
        "id": "1",
        "detail-type": event.detail_type,
        "source": SOURCE,
        "account": "123456789012",
        "time": "2026-11-23T07:10:00Z",
        "region": "eu-central-1",
        "resources": [],
        "detail": json.loads(json.dumps(event.detail)),
    }


def validate(event: OutcomeEvent) -> None:
    jsonschema.Draft202012Validator(
        schema(event), format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    ).validate(envelope(event))


@pytest.mark.parametrize("path", sorted(SCHEMAS.glob("*.json")), ids=lambda path: path.stem)
def test_each_schema_is_one(path: Path) -> None:
    jsonschema.Draft202012Validator.check_schema(json.loads(path.read_text()))


def test_there_is_a_schema_for_each_event_and_no_other() -> None:
    names = {
        f"refund-{status.lower().replace('_', '-')}"
        for status in OUTCOMES
        if status is not Status.PROCESSING
    }
    assert {path.stem for path in SCHEMAS.glob("*.json")} == names | {"refund-refused"}


@pytest.mark.parametrize("status", [each for each in Status if each is not Status.PROCESSING])
def test_an_outcome_keeps_to_its_schema(status: Status) -> None:
    event = outcome_event(audit_entry(of(status).item()))
    assert event is not None
    validate(event)


def test_a_rejection_of_a_request_without_an_amount_keeps_to_it() -> None:
    item = of(Status.REJECTED).item()
    del item["amount_minor"]
    event = outcome_event(audit_entry(item))
    assert event is not None
    validate(event)


@pytest.mark.parametrize("code", ErrorCode)
def test_a_refusal_keeps_to_its_schema(code: ErrorCode) -> None:
    validate(refused_event("059f36b4-87a3-44ab-83d2-661975830a7d", RefusedError(code, "why")))


@pytest.mark.parametrize("status", [each for each in Status if each is not Status.PROCESSING])
def test_no_event_tells_anything_of_a_person(status: Status) -> None:
    event = outcome_event(audit_entry(of(status).item()))
    assert EMAIL not in json.dumps(event.detail if event else {})
    assert VISA not in json.dumps(event.detail if event else {})


def test_neither_a_beginning_nor_a_removal_is_announced() -> None:
    assert outcome_event(audit_entry(of(Status.PROCESSING).item())) is None
    removed = removal_entry(
        of(Status.SUCCEEDED).item(), removed_at=rfc3339(NOW), removed_by="unknown"
    )
    assert outcome_event(removed) is None
