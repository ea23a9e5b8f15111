"""An audit entry is a pure function of the refund's image, hashed so that anyone can check it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from tests.support.builders import LEFT_OUT, NOW, refund
from tests.support.item_size import item_size

from refunds.domain.audit_entry import (
    MAX_VERSION,
    audit_entry,
    entry_hash,
    image_of,
    removal_entry,
)
from refunds.domain.clock import rfc3339
from refunds.domain.identifiers import entry_id
from refunds.domain.refund import AUDITED, Refund, Status, change_status
from refunds.tables.wire import item_to_wire

SUCCEEDED = change_status(
    refund(), Status.SUCCEEDED, at=rfc3339(NOW), by="f:1", previous_hash="0" * 64
)


def canonical(value: Any) -> str:
    """RFC 8785 for what an entry holds, written without the library: sorted keys, no space."""
    if isinstance(value, dict):
        # By UTF-16 code units, as the RFC has it.
        names = sorted(value, key=lambda name: name.encode("utf-16-be"))
        return "{" + ",".join(f"{canonical(name)}:{canonical(value[name])}" for name in names) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(canonical, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def recomputed(entry: dict[str, Any]) -> str:
    left_out = ("entry_hash", "recorded_at", "rebuilt")
    told = {name: value for name, value in entry.items() if name not in left_out}
    return hashlib.sha256(canonical(told).encode()).hexdigest()


def test_the_entry_of_a_new_refund_has_the_designs_attributes() -> None:
    there = refund(metadata={"order": "7"})

    assert audit_entry(there.item()) == {
        "transaction_id": "payment-1",
        "entry_id": "REFUND#refund-1#000001",
        "record_type": "REFUND",
        "refund_id": "refund-1",
        "version": 1,
        "user_id": "user-1",
        "event": "refund.processing",
        "previous_status": None,
        "status": "PROCESSING",
        "outcome": "Refund Pending",
        "processed_by": "ProcessRefund:7",
        "requested_by": "agent:anna",
        "occurred_at": rfc3339(NOW),
        "previous_hash": None,
        "details": {
            "amount_minor": 2500,
            "currency": "USD",
            "reason": "requested_by_customer",
            "gateway": "flair",
            "metadata": {"order": "7"},
            "created_at": rfc3339(NOW),
        },
        "entry_hash": "13bd1c7f30b37df79a65d9990e882de2efb350d8975e5628f14ddc2d99e50c18",
    }


def test_the_entry_of_a_change_says_what_it_was_before() -> None:
    entry = audit_entry(SUCCEEDED.item())

    assert (entry["event"], entry["outcome"]) == ("refund.succeeded", "Refund Successful")
    assert (entry["previous_status"], entry["previous_hash"]) == ("PROCESSING", "0" * 64)
    assert entry["details"]["changed_fields"] == ["status", "processed_by"]
    assert entry["entry_hash"] == (
        "9b41e03a6ab5552926e753e5dbe8ad33e620cc43c5cba9b8eb3d7d3fb579f7a9"
    )


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"metadata": {"naïve": "☃", "\U0001f600": "after", "\uffee": "before", "quote": '"\\/'}},
        {"amount_minor": LEFT_OUT, "status": Status.REJECTED, "failure_code": "payment_not_found"},
        {"amount_minor": 10**12, "failure_message": "tab\tand\nline \u2028 \x7f"},
        {"review": {"by": "operator:eve", "why": "bank says so", "evidence": "mail 7"}},
    ],
)
def test_the_hash_is_the_one_that_others_compute(changes: dict[str, Any]) -> None:
    entry = audit_entry(refund(**changes).item())

    assert entry["entry_hash"] == recomputed(entry)


def test_every_audited_attribute_is_under_the_hash_and_no_other_is() -> None:
    there = replace(
        SUCCEEDED,
        gateway_refund_id="gw-1",
        failure_code="c",
        failure_message="m",
        metadata={"a": "b"},
        review={"by": "x"},
        requested_at=rfc3339(NOW),
        sent_by="AROAEXAMPLE:orders",
        reason_code="RMA-7",
        note="n",
        line_items=({"sku": "mug", "quantity": 2, "amount_minor": 1},),
        expected_refundable_minor=2500,
        order_format=2,
        kept_minor=100,
    )
    image = there.item()
    others = {
        "status": "FAILED",
        "previous_status": "PENDING",
        "version": 9,
        "amount_minor": 1,
        "expected_refundable_minor": 2,
        "order_format": 3,
        "kept_minor": 1,
        "line_items": [{"sku": "mug", "quantity": 3, "amount_minor": 1}],
    }
    changed = {
        name: audit_entry(image | {name: others.get(name, "other")})["entry_hash"]
        for name in AUDITED
    }

    assert audit_entry(image)["entry_hash"] not in changed.values()
    assert len(set(changed.values())) == len(AUDITED)
    for name in set(image) - set(AUDITED):
        assert audit_entry(image | {name: "other"}) == audit_entry(image)


def test_when_it_was_recorded_or_rebuilt_is_not_under_the_hash() -> None:
    entry = audit_entry(SUCCEEDED.item())

    assert entry_hash(entry | {"recorded_at": "now", "rebuilt": True}) == entry["entry_hash"]
    assert entry_hash(entry | {"anything": "else"}) != entry["entry_hash"]


def test_a_removal_is_the_version_after_the_last_and_chained_to_it() -> None:
    image = SUCCEEDED.item()
    entry = removal_entry(image, removed_at="then", removed_by="dynamodb.amazonaws.com")

    assert entry["entry_id"] == "REFUND#refund-1#000003"
    assert (entry["event"], entry["version"]) == ("refund.deleted", 3)
    assert (entry["previous_status"], entry["status"]) == ("SUCCEEDED", "SUCCEEDED")
    assert entry["previous_hash"] == audit_entry(image)["entry_hash"]
    assert (entry["occurred_at"], entry["processed_by"]) == ("then", "dynamodb.amazonaws.com")
    assert entry["entry_hash"] == recomputed(entry)


@pytest.mark.parametrize(
    "there",
    [refund(), SUCCEEDED, replace(SUCCEEDED, gateway_reference="dev.refund-1", kept_minor=5)],
)
def test_the_image_of_an_entry_makes_the_same_entry(there: Refund) -> None:
    image = image_of(audit_entry(there.item()))
    assert image == {name: value for name, value in there.item().items() if name in AUDITED}
    assert audit_entry(image) == audit_entry(there.item())


def test_a_reference_that_is_the_refunds_id_is_left_out() -> None:
    usual, staged = (
        audit_entry(replace(refund(), gateway_reference=reference).item())["details"]
        for reference in ("refund-1", "dev.refund-1")
    )
    assert "gateway_reference" not in usual
    assert staged["gateway_reference"] == "dev.refund-1"


@pytest.mark.parametrize(
    ("changed", "event"),
    [
        (("status", "restored"), "refund.restored"),
        (("proposal",), "refund.decision_proposed"),
        (("status",), "refund.processing"),
    ],
)
def test_the_event_says_what_changed(changed: tuple[str, ...], event: str) -> None:
    assert audit_entry(replace(refund(), changed_fields=changed).item())["event"] == event


def test_the_last_version_has_an_entry_and_none_after_it() -> None:
    last = replace(refund(), version=MAX_VERSION)
    assert audit_entry(last.item())["version"] == MAX_VERSION
    with pytest.raises(ValueError, match=f"from 1 to {MAX_VERSION}"):
        audit_entry(replace(last, version=MAX_VERSION + 1).item())


def test_entries_of_a_refund_sort_by_version() -> None:
    ids = [entry_id("r", version) for version in (1, 2, 10, 999_999)]

    assert ids == sorted(ids)
    assert ids[0] == "REFUND#r#000001"


def test_an_entry_repeats_nothing_in_its_details() -> None:
    entry = audit_entry(SUCCEEDED.item())

    assert not set(entry) & set(entry["details"])


@pytest.mark.parametrize("status", ["processing", "", "DONE", None])
def test_an_image_that_is_not_a_refunds_makes_no_entry(status: Any) -> None:
    with pytest.raises((KeyError, ValueError)):
        audit_entry({"refund_id": "r", "status": status})


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 0},
        {"version": 1_000_000},
        {"version": True},
        {"version": "1"},
        {"amount_minor": True},
        {"amount_minor": "2500"},
        {"amount_minor": 2**53},
        {"expected_refundable_minor": "2500"},
        {"expected_refundable_minor": True},
        {"line_items": "mug"},
        {"line_items": [{"quantity": 2**53}]},
        {"sent_by": 7},
        {"note": ["n"]},
        {"user_id": None},
        {"updated_at": 7},
        {"refund_id": "a#b"},
        {"transaction_id": ""},
        {"failure_message": "\ud800"},
    ],
    ids=str,
)
def test_a_refund_with_a_value_that_cant_be_makes_no_entry(changes: dict[str, Any]) -> None:
    image = SUCCEEDED.item() | changes
    for make in (audit_entry, partial(removal_entry, removed_at="then", removed_by="x")):
        with pytest.raises(ValueError, match=r".+"):
            make(image)


def test_a_usual_refund_and_its_entries_stay_within_1_kb() -> None:
    first = refund(
        refund_id="3f1c2d5e-8a7b-4c6d-9e0f-112233445566",
        transaction_id="7a6b5c4d-3e2f-4a1b-8c9d-aabbccddeeff",
        user_id="jane.doe.1987@mail.example.com",
        requested_by="agent:anna.smith@support.example",
        requested_at="2026-11-23T07:09:58.123456Z",
        sent_by="AROAJ2UCCR6DPCEXAMPLE:order-service",
        processed_by="refunds-prod-ProcessRefund-1A2B3C4D5E6F:17",
        attempt_token="0123456789abcdef",  # noqa: S106 - no secret
    )
    second = change_status(
        first,
        Status.SUCCEEDED,
        at=rfc3339(NOW),
        by=first.processed_by,
        previous_hash=audit_entry(first.item())["entry_hash"],
        gateway_refund_id="re_8d7c6b5a4f3e2d1c0b9a8f7e6d5c4b3a",
    )
    opened = replace(
        second, open_since=rfc3339(NOW), open_shard="7", check_at=rfc3339(NOW), lease_until="x" * 27
    )

    for each in (first, second, opened):
        assert item_size(item_to_wire(each.item())) <= 1024
        stored = audit_entry(each.item()) | {"recorded_at": rfc3339(NOW)}
        assert item_size(item_to_wire(stored)) <= 1024
