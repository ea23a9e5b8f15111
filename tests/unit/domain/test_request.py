"""Every kind of bad body is refused with its code and a message that repeats nothing of it."""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from tests.support.builders import EMAIL, LEFT_OUT, SECRET, VISA, InlinePool, body, request
from tests.support.world import World

from refunds.domain.card_numbers import has_card_number, redacted
from refunds.domain.money import EXPONENTS
from refunds.domain.request import (
    MAX_ERROR_MESSAGE_BYTES,
    ErrorCode,
    RefundRequest,
    RefusedError,
    parse_message,
)
from refunds.processing.queue import handle_batch

LARGEST_BYTES = 262_144
FIELDS = sorted(RefundRequest.model_fields)
OPTIONAL: dict[str, Any] = {
    "amount_minor": 2500,
    "requested_at": "2026-11-23T07:10:00Z",
    "metadata": {"order": "A-1"},
    "reason_code": "RMA-7",
    "note": "broken on arrival",
    "line_items": [{"sku": "mug", "quantity": 2, "amount_minor": 1800}],
    "expected_refundable_minor": 7500,
}


def refused(content: str | bytes) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        parse_message(content)
    return caught.value


def refused_fields(**changes: Any) -> RefusedError:
    return refused(json.dumps(body(**changes)))


# What is valid

identifiers = st.text("ABCxyz019_-", min_size=1, max_size=64)
printable = st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=128)
no_card = printable.filter(lambda text: not has_card_number(text))
metadata = st.dictionaries(
    no_card.filter(lambda text: len(text) <= 40), no_card | st.just(""), max_size=20
)
valid_bodies = st.fixed_dictionaries(
    {
        "refund_id": identifiers,
        "transaction_id": identifiers,
        "user_id": no_card,
        "currency": st.sampled_from(sorted(EXPONENTS)),
        "reason": st.sampled_from(
            [
                "requested_by_customer",
                "order_cancelled",
                "payment_error",
                "duplicate",
                "fraudulent",
                "other",
            ]
        ),
        "requested_by": no_card,
    },
    optional={
        "amount_minor": st.integers(1, 10**12),
        "requested_at": st.datetimes(timezones=st.timezones()).map(
            lambda at: at.isoformat(timespec="microseconds")[:26] + "+02:00"
        ),
        "metadata": metadata,
        "reason_code": no_card.filter(lambda text: len(text) <= 64),
        "note": no_card,
        "expected_refundable_minor": st.integers(0, 10**12),
    },
)


@given(valid_bodies)
@example(body(amount_minor=10**12))
@example(body(amount_minor=1))
@example(body(amount_minor=LEFT_OUT))
@example(body(refund_id="a" * 64, transaction_id="b" * 128))
@example(body(user_id="u" * 128, requested_by="é" * 128))
@example(body(**OPTIONAL))
@example(body(line_items=[]))
@example(body(line_items=[{"sku": "s" * 64, "quantity": 10**6, "amount_minor": 0}] * 50))
@example(body(line_items=[{"sku": "é", "quantity": 1, "amount_minor": 1250}] * 2))
@example(body(reason_code="c" * 64, note="n" * 500, expected_refundable_minor=0))
@example(body(metadata={}))
@example(body(metadata={"k" * 40: "v" * 500}))
@example(body(metadata={str(n): "" for n in range(20)}))
@example(body(requested_at="2026-11-23T07:10:00Z"))
@example(body(requested_at="2026-11-23t07:10:00.123456789-11:30"))
def test_a_valid_body_is_read_as_it_was_sent(fields: dict[str, Any]) -> None:
    read = parse_message(json.dumps(fields))

    assert read.model_dump(exclude_unset=True) == fields
    assert parse_message(json.dumps(fields, ensure_ascii=False).encode()) == read


def test_ids_may_look_like_card_numbers() -> None:
    read = parse_message(json.dumps(body(refund_id=VISA, transaction_id=VISA)))

    assert (read.refund_id, read.transaction_id) == (VISA, VISA)


def test_a_body_of_exactly_256_kib_is_read_and_one_byte_more_is_refused() -> None:
    text = json.dumps(body())
    padded = text + " " * (LARGEST_BYTES - len(text))

    assert parse_message(padded).refund_id == "refund-1"
    assert refused(padded + " ").code is ErrorCode.TOO_LARGE
    assert refused((padded + " ").encode()).code is ErrorCode.TOO_LARGE


def test_size_is_counted_in_bytes_not_characters() -> None:
    text = json.dumps(body(user_id="€" * (LARGEST_BYTES // 2)), ensure_ascii=False)

    assert len(text) < LARGEST_BYTES
    assert refused(text).code is ErrorCode.TOO_LARGE


# What is not JSON

NOT_JSON = {
    "nothing": "",
    "text": "please refund",
    "a byte order mark": "\ufeff" + json.dumps(body()),
    "NaN": json.dumps(body(amount_minor=float("nan"))),
    "Infinity": json.dumps(body(amount_minor=float("inf"))),
    "-Infinity": json.dumps(body(metadata={"a": float("-inf")})),
    "a single quote": "{'refund_id': 'r'}",
    "a trailing comma": json.dumps(body())[:-1] + ",}",
    "two objects": json.dumps(body()) * 2,
    "cut short": json.dumps(body())[:-1],
    "a bare control character": json.dumps(body()).replace("anna", "an\nna"),
    "a nested array bomb": "[" * 100_000,
    "a nested object bomb": '{"a":' * 40_000,
    "a bomb inside a field": json.dumps(body(metadata="X")).replace(
        '"X"', "[" * 60_000 + "]" * 60_000
    ),
    "a leading zero": json.dumps(body()).replace("2500", "02500"),
    "a hexadecimal number": json.dumps(body()).replace("2500", "0x9c4"),
}


@pytest.mark.parametrize("content", NOT_JSON.values(), ids=NOT_JSON)
def test_what_is_not_json_is_refused_as_such(content: str) -> None:
    assert refused(content).code is ErrorCode.INVALID_JSON
    assert refused(content.encode()).code is ErrorCode.INVALID_JSON


@pytest.mark.parametrize("content", [b"\xff\xfe{}", b'{"user_id": "\xc3"}', b"\x80"])
def test_what_is_not_utf_8_is_refused(content: bytes) -> None:
    assert refused(content).code is ErrorCode.INVALID_JSON


@given(st.sampled_from(["[]", "null", "true", "1", "1.5", '"text"', "[{}]"]))
def test_json_that_is_no_object_is_refused_and_told_so(content: str) -> None:
    error = refused(content)

    assert error.code is ErrorCode.INVALID_JSON
    assert "object" in error.message


def test_the_place_of_broken_json_is_told() -> None:
    assert "at character 13" in refused('{"refund_id":}').message


# Keys given twice


@pytest.mark.parametrize("field", FIELDS)
def test_a_field_given_twice_is_refused_even_with_the_same_value(field: str) -> None:
    text = json.dumps(body(**OPTIONAL))
    value = json.dumps(json.loads(text)[field])
    error = refused(f"{text[:-1]}, {json.dumps(field)}: {value}}}")

    assert (error.code, error.message) == (
        ErrorCode.DUPLICATE_KEY,
        f"given more than once: {field}",
    )


@pytest.mark.parametrize(
    "metadata", ['{"a": "1", "a": "2"}', '{"a": "1", "\\u0061": "1"}', '{"x": {"a": 1, "a": 1}}']
)
def test_a_key_given_twice_below_the_top_is_refused(metadata: str) -> None:
    text = json.dumps(body(metadata="X")).replace('"X"', metadata)

    assert refused(text).code is ErrorCode.DUPLICATE_KEY


def test_thousands_of_keys_with_one_twice_take_no_long_time() -> None:
    keys = [f'"{number:x}":1' for number in range(25_000)]
    began = time.process_time()

    assert refused("{" + ",".join([*keys, '"0":2']) + "}").code is ErrorCode.DUPLICATE_KEY
    assert time.process_time() - began < 2


# Fields

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
    ],
)
def test_what_is_no_rfc_3339_instant_with_an_offset_is_refused(at: str) -> None:
    error = refused_fields(requested_at=at)

    assert error.code is ErrorCode.INVALID_FIELD
    assert "RFC 3339" in error.message


def test_an_unknown_reason_is_refused_and_the_known_ones_are_told() -> None:
    assert "order_cancelled" in refused_fields(reason="whim").message


# Card numbers

CARDS = [
    "4111111111111111",
    "4222222222222",
    "5555555555554444",
    "2223003122003222",
    "378282246310005",
    "30569309025904",
    "36227206271667",
    "3530111333300000",
    "6011111111111117",
    "6200000000000005",
    "6304000000000000",
    "4000000000000000006",
    "2200000000000004",
    "9792000000000003",
    "8100000000000002",
]
SEPARATORS = [
    *("", " ", "  ", "-", " - ", ".", "_", "/", "\u00a0", "\u2009", "\u202f", "\u3000", "\u2028"),
    *("\u2010", "\u2011", "\u2012", "\u2013", "\u2014", "\u2212", "\uff0d", "\u200b", "\u00ad"),
    "\ufeff",
]
ODD_SEPARATORS = [":", ",", "|", "*", "·", "•", "+", "~", ", ", ";"]
DIGITS = [
    "0123456789",
    "０１２３４５６７８９",
    "٠١٢٣٤٥٦٧٨٩",
    "०१२३४५६७८९",
    "⁰¹²³⁴⁵⁶⁷⁸⁹",
    "𝟎𝟏𝟐𝟑𝟒𝟓𝟔𝟕𝟖𝟗",
]
PLACES: list[Callable[[str], dict[str, Any]]] = [
    lambda text: {"user_id": text},
    lambda text: {"requested_by": text},
    lambda text: {"metadata": {"note": text}},
    lambda text: {"metadata": {text[-40:]: "v"}},
    lambda text: {"note": text},
    lambda text: {"reason_code": text[-64:]},
    lambda text: {"line_items": [{"sku": text[-64:], "quantity": 1, "amount_minor": 1}]},
]


def grouped(card: str, separator: str) -> str:
    sizes = [4, 6, 5] if len(card) == 15 else [4, 4, 4, 4, 3]
    groups, rest = [], card
    for size in sizes:
        groups.append(rest[:size])
        rest = rest[size:]
    return separator.join(group for group in groups if group)


@given(
    st.sampled_from(CARDS),
    st.sampled_from(SEPARATORS),
    st.sampled_from(DIGITS),
    st.sampled_from(PLACES),
    st.sampled_from(["", "card ", "x", "(", "№"]),
)
def test_a_card_number_is_refused_wherever_and_however_it_is_written(
    card: str, separator: str, digits: str, place: Callable[[str], dict[str, Any]], before: str
) -> None:
    text = before + grouped(card, separator).translate(str.maketrans("0123456789", digits))
    if len(text) > 40:
        place = PLACES[2]
    error = refused_fields(**place(text))

    assert error.code is ErrorCode.CARD_NUMBER
    assert text not in error.message
    assert not has_card_number(error.message)


@pytest.mark.parametrize("separator", SEPARATORS, ids=ascii)
def test_every_separator_is_seen_through(separator: str) -> None:
    assert has_card_number(grouped(VISA, separator))
    assert has_card_number(separator.join(VISA))


@pytest.mark.parametrize("separator", ODD_SEPARATORS, ids=ascii)
@pytest.mark.parametrize("card", ["4111111111111111", "378282246310005", "4000000000000000006"])
def test_odd_separators_are_seen_through_between_groups_as_on_cards(
    separator: str, card: str
) -> None:
    assert has_card_number(f"pan {grouped(card, separator)}.")


@pytest.mark.parametrize("digits", DIGITS, ids=ascii)
def test_digits_of_every_script_are_digits(digits: str) -> None:
    assert has_card_number(VISA.translate(str.maketrans("0123456789", digits)))


@pytest.mark.parametrize("card", CARDS)
def test_every_scheme_is_known(card: str) -> None:
    assert has_card_number(card)


@given(st.sampled_from(CARDS), st.integers(0, 18), st.integers(1, 9))
def test_one_wrong_digit_makes_it_no_card_number(card: str, place: int, by: int) -> None:
    place %= len(card)
    wrong = card[:place] + str((int(card[place]) + by) % 10) + card[place + 1 :]

    assert not has_card_number(wrong)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no digits",
        "1763881800000",
        "0000000000000000",
        "order 12345678, 2 items",
        "+49 170 1234567",
        "2026-11-23T07:10:00.123456Z",
        "4111 1111 1111",
        "411111111111111111111111",
        "41111111111111110000",
        "4111,1111,1111,1112",
        "45:12.123456789",
        "5a105105105105100",
        "550e8400-e29b-41d4-a716-446655440000",
    ],
)
def test_other_numbers_are_no_card_numbers(text: str) -> None:
    assert not has_card_number(text)


def test_instants_with_microseconds_and_offset_are_hardly_ever_taken_for_cards() -> None:
    seconds = random.Random(7)
    for _ in range(300):
        at = (
            f"2026-11-{seconds.randrange(10, 31)}T{seconds.randrange(10, 24)}:"
            f"{seconds.randrange(10, 60)}:{seconds.randrange(10, 60)}."
            f"{seconds.randrange(10**6):06d}+02:00"
        )
        assert not has_card_number(at)


def test_a_card_number_beside_other_numbers_is_found() -> None:
    assert has_card_number("12/27 4111 1111 1111 1111 123")
    assert has_card_number("4111-1111-1111-1111 4111")


def test_text_with_a_card_number_is_replaced_as_a_whole_before_it_is_kept() -> None:
    assert VISA not in redacted(f"card {VISA} is closed")
    assert redacted("insufficient funds") == "insufficient funds"


# What is told

SENSITIVE = [VISA, "4111 1111 1111 1111", EMAIL, SECRET, "Jane\nDoe", "DE89370400440532013000"]


@pytest.mark.parametrize("planted", SENSITIVE)
@pytest.mark.parametrize("field", FIELDS)
def test_the_reason_repeats_no_value_of_the_body(field: str, planted: str) -> None:
    told = [
        refused_fields(**{field: f"{planted}\0"}),
        refused_fields(**{field: {planted: [planted]}}),
        refused_fields(**{field: [planted]}),
        refused_fields(**{"reason": planted, field: planted, "metadata": {planted: 1}}),
    ]

    for error in told:
        assert planted not in error.message
        assert planted not in str(error)


@pytest.mark.parametrize("planted", [VISA, f"c{VISA}", EMAIL, "DE89370400440532013000", "a b", "é"])
def test_the_reason_repeats_no_name_that_could_be_a_value(planted: str) -> None:
    twice = json.dumps(body())[:-1] + f", {json.dumps(planted)}: 1" * 2 + "}"
    told = [refused_fields(**{planted: 1}), refused_fields(**{planted: None}), refused(twice)]

    for error in told:
        assert planted not in error.message
        assert "a name that is not shown" in error.message


def test_the_text_of_broken_json_is_not_repeated() -> None:
    assert SECRET not in refused(f'{{"a": {SECRET}}}').message
    assert "Infinity" not in refused('{"a": Infinity}').message


def test_the_reason_fits_into_a_message_attribute() -> None:
    names = {f"{'a' * 30}{letter}": 1 for letter in "abcdefghijklmnopqrstuvwxyz"}
    error = refused_fields(**names)

    assert error.message.count("aaa") < 100
    assert len(RefusedError(ErrorCode.INVALID_FIELD, "é" * 2000).message.encode()) <= (
        MAX_ERROR_MESSAGE_BYTES
    )


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(FIELDS), inner),
        max_leaves=8,
    ),
    st.sampled_from([*FIELDS, "other"]),
)
def test_anything_is_read_or_refused_but_never_raises_something_else(
    value: Any, field: str
) -> None:
    for content in (json.dumps(value), json.dumps(body(**{field: value}))):
        with suppress(RefusedError):
            parse_message(content)


@given(st.text(st.characters(), max_size=60) | st.binary(max_size=60))
def test_any_text_or_bytes_are_read_or_refused(content: str | bytes) -> None:
    with pytest.raises(RefusedError):
        parse_message(content)


# Fingerprints


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

    assert kept | {"line_items": list(kept["line_items"])} == {
        name: value for name, value in body(**OPTIONAL).items() if name != "amount_minor"
    } | {"sent_by": "AROAEXAMPLE:orders"}


def test_a_sender_that_is_unknown_is_left_out_and_a_long_one_is_cut() -> None:
    text = json.dumps(body())

    assert "sent_by" not in parse_message(text).recorded_fields()
    assert parse_message(text, sent_by="x" * 300).recorded_fields()["sent_by"] == "x" * 256


# The neighbours in a batch

BAD_BODIES = {
    "not JSON": ("refund please", ErrorCode.INVALID_JSON),
    "a bomb": ("[" * 100_000, ErrorCode.INVALID_JSON),
    "a key twice": ('{"refund_id": "a", "refund_id": "b"}', ErrorCode.DUPLICATE_KEY),
    "an unknown field": (json.dumps(body(amount=1)), ErrorCode.UNKNOWN_FIELD),
    "a float": (json.dumps(body(amount_minor=25.0)), ErrorCode.INVALID_FIELD),
    "a surrogate": (json.dumps(body(user_id="\ud800")), ErrorCode.INVALID_FIELD),
    "a surrogate's name": (json.dumps(body(**{"\udc00": 1})), ErrorCode.UNKNOWN_FIELD),
    "an unknown currency": (json.dumps(body(currency="ZZZ")), ErrorCode.UNKNOWN_CURRENCY),
    "a card": (json.dumps(body(requested_by=f"x {VISA}")), ErrorCode.CARD_NUMBER),
}


@pytest.mark.parametrize(("text", "code"), BAD_BODIES.values(), ids=BAD_BODIES)
def test_a_bad_body_ends_in_the_dlq_as_received_and_its_neighbours_go_through(
    world: World, text: str, code: ErrorCode
) -> None:
    records = [
        world.stack.send(body(refund_id="before", amount_minor=100)),
        world.stack.send(text),
        world.stack.send(body(refund_id="after", amount_minor=200)),
    ]
    told: list[Any] = []

    response = handle_batch(
        records,
        world.queue,
        world.deadline(),
        InlinePool(),
        lambda record, result: told.append(result),
    )

    assert response == {"batchItemFailures": []}
    assert {order.refund_id for order in world.gateway.orders} == {"before", "after"}
    (dead,) = world.stack.dead_letters()
    assert dead["Body"] == text
    assert dead["MessageAttributes"]["error_code"]["StringValue"] == code
    assert dead["MessageAttributes"]["error_message"]["StringValue"] == told[1].message
