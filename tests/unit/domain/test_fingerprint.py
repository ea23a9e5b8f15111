"""Which messages are the same request, and what the record keeps of one."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.builders import LEFT_OUT, body, request
from tests.support.messages import OPTIONAL, valid_bodies

from refunds.domain.request import (
    parse_message,
)


@given(valid_bodies, st.randoms(use_true_random=False))
def test_key_order_and_white_space_do_not_change_the_fingerprint(
    fields: dict[str, Any], order: random.Random
) -> None:
    names = list(fields)
    order.shuffle(names)
    shuffled = {name: fields[name] for name in names}

    one, other = parse_message(json.dumps(fields)), parse_message(json.dumps(shuffled, indent=3))
    assert one.fingerprint() == other.fingerprint()


@pytest.mark.parametrize(
    "changes",
    [
        {"refund_id": "refund-2"},
        {"transaction_id": "payment-2"},
        {"user_id": "user-2"},
        {"amount_minor": 2501},
        {"amount_minor": LEFT_OUT},
        {"currency": "EUR"},
        {"reason": "other"},
        {"requested_by": "agent:otto"},
        {"reason_code": "x"},
        {"note": "x"},
        {"expected_refundable_minor": 0},
        {"line_items": []},
        {"line_items": [{"sku": "mug", "quantity": 1, "amount_minor": 1}]},
        {"metadata": {}},
        {"metadata": {"a": "b"}},
    ],
    ids=repr,
)
def test_any_other_value_or_left_out_field_changes_the_fingerprint(changes: dict[str, Any]) -> None:
    assert request(**changes).fingerprint() != request().fingerprint()


def test_the_time_of_the_request_does_not_change_the_fingerprint() -> None:
    earlier, later = (request(requested_at=f"2026-11-23T07:1{minute}:00Z") for minute in (0, 1))

    assert earlier.fingerprint() == later.fingerprint() == request().fingerprint()


def test_the_fingerprint_of_stored_refunds_stays_the_same() -> None:
    # Stored ones are compared with it: changing it needs a new FINGERPRINT_FORMAT.
    canonical = json.dumps(body(), sort_keys=True, separators=(",", ":"))

    assert request().fingerprint() == f"2:{hashlib.sha256(canonical.encode()).hexdigest()}"
    assert request().fingerprint() == (
        "2:38074845967f5d2b653544063a831e5e8d0b24cc68ad5722ea8b45a39d4efe81"
    )


def test_a_fingerprint_of_the_first_format_is_compared_with_the_time_in_it() -> None:
    sent = body(requested_at="2026-11-23T07:10:00Z", metadata={"order": "7"})
    canonical = json.dumps(sent, sort_keys=True, separators=(",", ":"))
    stored = f"1:{hashlib.sha256(canonical.encode()).hexdigest()}"

    assert request(**sent).has_fingerprint(stored)
    assert not request(**sent | {"requested_at": "2026-11-23T07:10:01Z"}).has_fingerprint(stored)
    assert not request(**sent | {"requested_at": LEFT_OUT}).has_fingerprint(stored)
    assert request(**sent).has_fingerprint(request(**sent).fingerprint())
    assert not request(**sent).has_fingerprint(request().fingerprint())


@pytest.mark.parametrize("stored", ["3:00", "0:00", "", "38074845967f"])
def test_a_fingerprint_of_an_unknown_format_is_neither_equal_nor_different(stored: str) -> None:
    with pytest.raises(ValueError, match="newer release"):
        request().has_fingerprint(stored)


# What the refund's record keeps


def test_the_record_keeps_every_field_but_the_amount_and_who_sent_it() -> None:
    read = parse_message(json.dumps(body(**OPTIONAL)), sent_by="AROAEXAMPLE:orders")

    kept = read.recorded_fields()

    assert isinstance(kept["line_items"], tuple)
    assert kept | {"line_items": list(kept["line_items"])} == {
        name: value for name, value in body(**OPTIONAL).items() if name != "amount_minor"
    } | {"sent_by": "AROAEXAMPLE:orders"}


def test_a_sender_that_is_unknown_is_left_out_and_a_long_one_is_cut() -> None:
    text = json.dumps(body())

    assert "sent_by" not in parse_message(text).recorded_fields()
    assert parse_message(text, sent_by="x" * 300).recorded_fields()["sent_by"] == "x" * 256


# Messages of every release


OLD_MESSAGES = json.loads((Path(__file__).parent / "messages" / "version-1.json").read_text())


@pytest.mark.parametrize("message", OLD_MESSAGES, ids=[each["name"] for each in OLD_MESSAGES])
def test_a_message_of_version_1_stays_valid_and_the_same_request(message: dict[str, Any]) -> None:
    read = parse_message(message["body"])

    assert all(read.has_fingerprint(stored) for stored in message["fingerprints"])
    assert message["fingerprints"][-1] == read.fingerprint()
