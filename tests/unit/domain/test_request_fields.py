"""Each field's bounds and texts."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from tests.support.builders import EMAIL, LEFT_OUT, body
from tests.support.messages import FIELDS, OPTIONAL, refused, refused_fields

from refunds.domain.request import (
    ErrorCode,
    RefusedError,
    parse_message,
)

NOT_AN_AMOUNT = [
    True,
    False,
    0,
    -1,
    -2500,
    10**12 + 1,
    10**100,
    -(10**100),
    2500.0,
    25.5,
    0.1,
    1e3,
    1e300,
    "2500",
    "25.00",
    "",
    "1_000",
    "２５００",
    [2500],
    {"amount": 2500},
    None,
]


@pytest.mark.parametrize("amount", NOT_AN_AMOUNT, ids=repr)
def test_what_is_not_an_integer_of_minor_units_is_refused(amount: Any) -> None:
    error = refused_fields(amount_minor=amount)

    assert error.code is ErrorCode.INVALID_FIELD
    assert error.message.startswith("amount_minor: must")


@given(st.integers(max_value=0) | st.integers(min_value=10**12 + 1) | st.floats(allow_nan=False))
def test_any_other_number_is_no_amount(amount: float) -> None:
    assume(amount not in (float("inf"), float("-inf")))

    assert refused_fields(amount_minor=amount).code is ErrorCode.INVALID_FIELD


@pytest.mark.parametrize("digits", ["9" * 200_000, "1" + "0" * 5000, "-" + "9" * 5000, "1" * 41])
def test_thousands_of_digits_are_refused_without_reading_them_all(digits: str) -> None:
    text = json.dumps(body()).replace("2500", digits)
    began = time.process_time()

    assert refused(text).code is ErrorCode.INVALID_FIELD
    assert time.process_time() - began < 1


def test_minus_zero_and_an_exponent_are_no_amounts() -> None:
    for number in ("-0", "25e2", "2500.00", "1E400"):
        text = json.dumps(body()).replace("2500", number)
        assert refused(text).code is ErrorCode.INVALID_FIELD


@pytest.mark.parametrize(
    "currency", ["usd", "Usd", "US", "USDX", "ZZZ", "XTS", "XAU", "BTC", "", " USD", "USD ", "€"]
)
def test_an_unknown_currency_is_refused_with_a_code_of_its_own(currency: str) -> None:
    error = refused_fields(currency=currency)

    assert error.code is ErrorCode.UNKNOWN_CURRENCY
    assert "ISO 4217" in error.message


def test_an_unknown_currency_beside_another_fault_is_an_invalid_field() -> None:
    error = refused_fields(currency="ZZZ", reason="whim")

    assert error.code is ErrorCode.INVALID_FIELD
    assert "currency: must be an ISO 4217 code" in error.message
    assert "reason: " in error.message


@pytest.mark.parametrize("field", ["refund_id", "transaction_id"])
@pytest.mark.parametrize(
    "value", ["", " ", "a b", "a\n", "a/b", "a#b", "é", "a.b", "\u0661", "a" * 129, "../x", "a\0"]
)
def test_an_id_of_other_characters_or_length_is_refused(field: str, value: str) -> None:
    error = refused_fields(**{field: value})

    assert error.code is ErrorCode.INVALID_FIELD
    assert error.message.startswith(f"{field}: must be 1 to ")


def test_the_bounds_of_each_id_are_its_own_and_told() -> None:
    assert "1 to 64 of" in refused_fields(refund_id="a" * 65).message
    assert "1 to 128 of" in refused_fields(transaction_id="a" * 129).message


@pytest.mark.parametrize("field", ["user_id", "requested_by"])
@pytest.mark.parametrize("value", ["", "x" * 129])
def test_a_name_of_no_or_too_many_characters_is_refused(field: str, value: str) -> None:
    assert refused_fields(**{field: value}).code is ErrorCode.INVALID_FIELD


@pytest.mark.parametrize("field", ["user_id", "requested_by", "reason_code"])
@pytest.mark.parametrize(
    "value",
    [
        *(" ", "   ", "\u00a0", "\u3000 ", "\u2800", "\u3164"),
        *("an\u200bna", "\ufeffanna", "an\u00adna", "anna\u200d", "an\u2060na", "an\u2028na"),
        *("\u202eanna", "\u2066anna\u2069", "\u200fanna", "\u061canna", "\U000e0061nna"),
    ],
    ids=ascii,
)
def test_a_blank_name_or_one_with_invisible_characters_is_refused_with_the_reason(
    field: str, value: str
) -> None:
    error = refused_fields(**{field: value})

    assert error.code is ErrorCode.INVALID_FIELD
    assert "must not be blank" in error.message or "invisible" in error.message


@pytest.mark.parametrize("place", ["note", "metadata"])
def test_notes_and_values_may_join_letters_and_emoji_but_not_hide_or_turn_text(place: str) -> None:
    def parse(text: str) -> None:
        parse_message(json.dumps(body(**{place: text if place == "note" else {"k": text}})))

    for text in ("\U0001f468\u200d\U0001f469\u200d\U0001f467", "نامه\u200cای", "two words", " "):
        parse(text)
    for text in ("a\u202eb", "a\u2066b", "a\u200bb", "\ufeff", "a\u200eb"):
        with pytest.raises(RefusedError, match="invisible or text direction"):
            parse(text)


unstorable = st.characters(categories=("Cc", "Cs"))


@given(unstorable, st.sampled_from(["user_id", "requested_by", "key", "value"]))
@example("\0", "user_id")
@example("\0", "key")
@example("\ud800", "value")
@example("\udfff", "key")
def test_escaped_control_characters_and_lone_surrogates_are_refused(bad: str, where: str) -> None:
    text = f"jane{bad}doe"
    changes: dict[str, Any] = {where: text}
    if where in ("key", "value"):
        changes = {"metadata": {text: "v"} if where == "key" else {"k": text}}

    assert refused_fields(**changes).code is ErrorCode.INVALID_FIELD


@pytest.mark.parametrize("field", FIELDS)
def test_a_lone_surrogate_is_refused_in_every_field(field: str) -> None:
    error = refused_fields(**{field: "\ud800"})

    assert error.code in (ErrorCode.INVALID_FIELD, ErrorCode.UNKNOWN_CURRENCY)


def test_a_field_named_by_a_lone_surrogate_is_unknown() -> None:
    assert refused_fields(**{"\ud800": 1}).code is ErrorCode.UNKNOWN_FIELD


OTHER_TYPES: list[Any] = [True, False, 1, 1.5, [], ["x"], {"a": "b"}]


NOT_TEXT = {"amount_minor", "metadata", "line_items", "expected_refundable_minor"}


@pytest.mark.parametrize("field", sorted(set(FIELDS) - NOT_TEXT))
@pytest.mark.parametrize("value", OTHER_TYPES, ids=repr)
def test_a_field_of_another_type_is_refused(field: str, value: Any) -> None:
    error = refused_fields(**{field: value})

    assert error.code is ErrorCode.INVALID_FIELD
    assert error.message.startswith(f"{field}: ")


@pytest.mark.parametrize(
    "metadata",
    [
        [],
        "text",
        1,
        True,
        {"a": 1},
        {"a": True},
        {"a": None},
        {"a": {"b": "c"}},
        {"": "v"},
        {"k" * 41: "v"},
        {"k": "v" * 501},
        {str(number): "v" for number in range(21)},
    ],
    ids=lambda value: repr(value)[:30],
)
def test_metadata_that_is_no_small_map_of_text_is_refused(metadata: Any) -> None:
    error = refused_fields(metadata=metadata)

    assert error.code is ErrorCode.INVALID_FIELD
    assert error.message.startswith("metadata: ")


def item(**changes: Any) -> dict[str, Any]:
    fields = {"sku": "mug", "quantity": 2, "amount_minor": 1800} | changes
    return {name: value for name, value in fields.items() if value is not LEFT_OUT}


@pytest.mark.parametrize(
    ("line_items", "message"),
    [
        ({"sku": "mug"}, "line_items: "),
        ("mug", "line_items: "),
        ([item()] * 51, "line_items: "),
        (["mug"], "line_items[0]: "),
        ([item(), item(sku="")], "line_items[1].sku: "),
        ([item(sku="s" * 65)], "line_items[0].sku: "),
        ([item(sku="m\nug")], "line_items[0].sku: "),
        ([item(sku=LEFT_OUT)], "line_items[0].sku: is required"),
        ([item(quantity=0)], "line_items[0].quantity: "),
        ([item(quantity=10**6 + 1)], "line_items[0].quantity: "),
        ([item(quantity=1.0)], "line_items[0].quantity: "),
        ([item(quantity=None)], "line_items[0].quantity: "),
        ([item(amount_minor=-1)], "line_items[0].amount_minor: must be an integer of minor units"),
        ([item(amount_minor=10**12 + 1)], "line_items[0].amount_minor: must be an integer"),
        ([item(amount_minor="18.00")], "line_items[0].amount_minor: must be an integer"),
        ([item(amount_minor=True)], "line_items[0].amount_minor: must be an integer"),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_line_items_of_another_form_are_refused_and_the_place_is_named(
    line_items: Any, message: str
) -> None:
    error = refused_fields(line_items=line_items)

    assert error.code is ErrorCode.INVALID_FIELD
    assert error.message.startswith(message)


def test_an_unknown_field_of_a_line_item_is_refused_without_repeating_its_name() -> None:
    error = refused_fields(line_items=[item(**{EMAIL: 1})])

    assert error.code is ErrorCode.UNKNOWN_FIELD
    assert error.message == (
        "line_items[0]: has an unknown field; the fields are sku, quantity, amount_minor"
    )


def test_line_items_may_add_up_to_the_amount_but_not_to_more() -> None:
    parse_message(json.dumps(body(line_items=[item(), item(amount_minor=700)])))
    parse_message(json.dumps(body(line_items=[item()], amount_minor=LEFT_OUT)))

    error = refused_fields(line_items=[item(), item(amount_minor=701)])

    assert error.code is ErrorCode.INVALID_FIELD
    assert error.message == "line_items: their amounts add up to more than amount_minor"


@pytest.mark.parametrize("amount", [-1, 10**12 + 1, True, 1.0, "0", []], ids=repr)
def test_an_expectation_that_is_no_amount_is_refused(amount: Any) -> None:
    error = refused_fields(expected_refundable_minor=amount)

    assert error.code is ErrorCode.INVALID_FIELD
    assert error.message.startswith("expected_refundable_minor: must be an integer of minor units")


@pytest.mark.parametrize(("field", "longest"), [("reason_code", 64), ("note", 500)])
def test_a_code_or_note_of_no_or_too_many_characters_is_refused(field: str, longest: int) -> None:
    for text in ("", "x" * (longest + 1), "a\nb"):
        error = refused_fields(**{field: text})
        assert error.code is ErrorCode.INVALID_FIELD
        assert error.message.startswith(f"{field}: ")


@pytest.mark.parametrize("field", FIELDS)
def test_null_is_refused_and_the_message_says_to_leave_the_field_out(field: str) -> None:
    error = refused_fields(**{field: None})

    assert error.code is ErrorCode.INVALID_FIELD
    assert error.message.startswith(f"{field}: must not be null")


@pytest.mark.parametrize("field", sorted(set(FIELDS) - set(OPTIONAL)))
def test_a_missing_field_is_named(field: str) -> None:
    error = refused_fields(**{field: LEFT_OUT})

    assert (error.code, error.message) == (ErrorCode.INVALID_FIELD, f"{field}: is required")


@pytest.mark.parametrize("value", [None, 1, "x"])
@pytest.mark.parametrize("name", ["amount", "amountMinor", "Refund_id", "card", "__class__"])
def test_an_unknown_field_is_named_beside_the_known_ones(name: str, value: Any) -> None:
    error = refused_fields(**{name: value})

    assert error.code is ErrorCode.UNKNOWN_FIELD
    assert f"unknown: {name};" in error.message
    assert "amount_minor" in error.message


@pytest.mark.parametrize(
    "at",
    [
        "",
        "2026-11-23",
        "2026-11-23T07:10:00",
        "2026-11-23 07:10:00Z",
        "2026-11-23T07:10Z",
        "2026-13-01T00:00:00Z",
        "2026-02-30T00:00:00Z",
        "2026-11-23T25:00:00Z",
        "2026-11-23T07:10:00+0100",
        "2026-11-23T07:10:00+99:00",
        "0001-01-01T00:00:00+14:00",
        "2026-W47-1T07:10:00Z",
        "2026-11-23T07:10:00.Z",
        "2026-11-23T07:10:00,5Z",
        "٢٠٢٦-11-23T07:10:00Z",
        "now",
        "1763881800",
        "2026-11-23T07:10:00Z\n",
        "2026-11-23T07:10:60Z",
        "2016-12-31T23:59:61Z",
        "2016-12-31T23:59:60+01:00",
        "2026-11-23T24:00:00Z",
        "9999-12-31T23:59:60Z",
        "9999-12-31T23:00:00-02:00",
    ],
)
def test_what_is_no_rfc_3339_instant_with_an_offset_is_refused(at: str) -> None:
    error = refused_fields(requested_at=at)

    assert error.code is ErrorCode.INVALID_FIELD
    assert "RFC 3339" in error.message


def test_an_instant_has_at_most_128_characters() -> None:
    error = refused_fields(requested_at=f"2026-11-23T07:10:00.{'1' * 108}Z")

    assert error.message == "requested_at: string should have at most 128 characters"


@pytest.mark.parametrize(
    "at",
    [
        "2026-11-23T07:10:00Z",
        "2026-11-23t07:10:00z",
        "2026-11-23T07:10:00-00:00",
        "2026-11-23T07:10:00.1234567890123456789012345678901234567890+01:00",
        "2016-12-31T23:59:60Z",
        "2016-12-31T23:59:60.5Z",
        "2017-01-01T01:59:60+02:00",
        "1990-12-31T15:59:60-08:00",
        "2015-06-30T23:59:60Z",
    ],
)
def test_every_rfc_3339_instant_is_kept_as_it_was_sent(at: str) -> None:
    assert parse_message(json.dumps(body(requested_at=at))).requested_at == at


def test_an_unknown_reason_is_refused_and_the_known_ones_are_told() -> None:
    assert "order_cancelled" in refused_fields(reason="whim").message
