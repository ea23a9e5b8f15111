"""What a producer is told about a message that is refused, word by word."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.support.builders import LEFT_OUT, VISA, body
from tests.support.messages import refused, refused_fields

from refunds.domain.request import ErrorCode, masked_body, parse_message

AMOUNT = "must be an integer of minor units from {} to 1000000000000 (2500 is $25.00)"
ITEM = {"sku": "mug", "quantity": 1, "amount_minor": 1}
ID = "must be 1 to {} of A-Z, a-z, 0-9, _ and -"
ITEM_FIELDS = "has an unknown field; the fields are sku, quantity, amount_minor"


@pytest.mark.parametrize(
    ("changes", "code", "message"),
    [
        ({"amount_minor": 0}, "invalid_field", f"amount_minor: {AMOUNT.format(1)}"),
        ({"amount_minor": "1"}, "invalid_field", f"amount_minor: {AMOUNT.format(1)}"),
        (
            {"expected_refundable_minor": -1},
            "invalid_field",
            f"expected_refundable_minor: {AMOUNT.format(0)}",
        ),
        ({"refund_id": "a" * 65}, "invalid_field", f"refund_id: {ID.format(64)}"),
        ({"transaction_id": "a" * 129}, "invalid_field", f"transaction_id: {ID.format(128)}"),
        ({"user_id": LEFT_OUT}, "invalid_field", "user_id: is required"),
        (
            {"line_items": [ITEM, {**ITEM, "amount_minor": -1}]},
            "invalid_field",
            f"line_items[1].amount_minor: {AMOUNT.format(0)}",
        ),
        (
            {"line_items": [{"sku": "mug", "quantity": 1}]},
            "invalid_field",
            "line_items[0].amount_minor: is required",
        ),
        (
            {"line_items": [ITEM, {**ITEM, "jane": 1}]},
            "unknown_field",
            f"line_items[1]: {ITEM_FIELDS}",
        ),
        (
            {"line_items": [{**ITEM, "amount_minor": 5000}]},
            "invalid_field",
            "line_items: their amounts add up to more than amount_minor",
        ),
        (
            {"requested_at": "x" * 129},
            "invalid_field",
            "requested_at: string should have at most 128 characters",
        ),
        (
            {"note": f"card {VISA}"},
            "card_number",
            "note: looks like a card number; send a token or the last four digits instead",
        ),
        (
            {"line_items": [{**ITEM, "sku": VISA}]},
            "card_number",
            "line_items: looks like a card number; send a token or the last four digits instead",
        ),
        (
            {"note": None, "amount_minor": None},
            "invalid_field",
            "amount_minor, note: must not be null; leave an optional field out instead",
        ),
    ],
    ids=lambda value: str(value)[:40],
)
def test_the_message_names_the_field_and_what_it_must_be(
    changes: dict[str, Any], code: str, message: str
) -> None:
    error = refused_fields(**changes)
    assert (error.code.value, error.message) == (code, message)


def test_what_is_wrong_with_several_fields_is_said_of_the_first_five() -> None:
    names = ["refund_id", "transaction_id", "user_id", "requested_by", "currency", "reason"]
    error = refused_fields(**dict.fromkeys(names, LEFT_OUT))
    assert error.code is ErrorCode.INVALID_FIELD
    said = error.message.split("; ")
    assert len(said) == 5
    assert all(each.endswith(": is required") for each in said)


def test_errors_of_one_kind_have_its_code_and_of_several_the_general_one() -> None:
    assert refused_fields(currency="XXX").code is ErrorCode.UNKNOWN_CURRENCY
    assert refused_fields(currency="XXX", amount_minor=0).code is ErrorCode.INVALID_FIELD


def test_unknown_and_doubled_names_are_said_of_the_first_five() -> None:
    unknown = refused_fields(**{f"x{letter}": 1 for letter in "fedcba"}).message
    assert unknown.startswith("unknown: xa, xb, xc, xd, xe; the fields are refund_id, ")
    doubled = refused("{" + ",".join(f'"x{letter}":1,"x{letter}":2' for letter in "fedcba") + "}")
    assert doubled.message == "given more than once: xa, xb, xc, xd, xe"


def test_the_size_that_a_body_may_have_is_said() -> None:
    assert refused(" " * (256 * 1024 + 1)).message == "the body is larger than 256 KiB"
    assert parse_message(json.dumps(body()).ljust(256 * 1024)).refund_id == "refund-1"


def test_the_longest_integers_are_refused_as_amounts() -> None:
    for digits in (13, 40, 41, 4000):
        error = refused(json.dumps(body()).replace("2500", "9" * digits))
        assert error.message == f"amount_minor: {AMOUNT.format(1)}"


def test_a_masked_body_keeps_everything_but_the_digits_of_card_numbers() -> None:
    kept = {"note": "é 7", "amount_minor": 2500, "refund_id": VISA}
    card = {"line_items": [{"sku": f"{VISA} é"}, VISA], VISA: {"metadata": [VISA]}}
    stars = "*" * len(VISA)
    masked = {"line_items": [{"sku": f"{stars} é"}, stars], stars: {"metadata": [stars]}}
    assert masked_body(json.dumps(kept | card)) == json.dumps(kept | masked, ensure_ascii=False)
