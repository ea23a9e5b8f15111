"""Every kind of bad body is refused with its code and a message that repeats nothing of it."""

from __future__ import annotations

import hashlib
import json
import time
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.support.builders import EMAIL, LEFT_OUT, SECRET, VISA, InlinePool, body
from tests.support.messages import FIELDS, OPTIONAL, refused, refused_fields, valid_bodies
from tests.support.world import World

from refunds.domain.card_numbers import has_card_number
from refunds.domain.request import (
    MAX_ERROR_MESSAGE_BYTES,
    ErrorCode,
    RefusedError,
    masked_body,
    named_refund_id,
    named_transaction_id,
    parse_message,
)
from refunds.processing.queue import handle_batch

LARGEST_BYTES = 262_144


# What is valid


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


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (json.dumps(body(user_id=" ")), "refund-1"),
        ("not JSON", None),
        ("[" * 100_000, None),
        ("[]", None),
        ("7", None),
        ("{}", None),
        (json.dumps({"refund_id": 7}), None),
        (json.dumps({"refund_id": "a b"}), None),
    ],
    ids=lambda value: str(value)[:30],
)
def test_the_refund_id_of_a_refused_body_is_read_where_it_can_be(
    content: str, named: str | None
) -> None:
    assert named_refund_id(content) == named
    assert named_transaction_id(content.replace("refund_id", "transaction_id")) in (
        named,
        "payment-1",
    )


# What the DLQ keeps of a body with a card number


@pytest.mark.parametrize(
    "changes",
    [
        {"requested_by": f"é {VISA}"},
        {"note": "4111 1111 1111 1111 exp 12/27"},
        {"metadata": {"k": "4111\u200d1111\u200d1111\u200d1111"}},
        {"metadata": {VISA: "v", "other": "7"}},
        {"line_items": [{"sku": VISA, "quantity": 1, "amount_minor": 1}]},
        {"user_id": "4111-1111-1111-1111"},
        {"refund_id": "4111-1111-1111-1111"},
        {"note": "４１１１１１１１１１１１１１１１", "requested_by": VISA},
    ],
    ids=str,
)
def test_every_text_with_a_card_number_is_masked_and_nothing_else(changes: dict[str, Any]) -> None:
    sent = body(amount_minor=4111, metadata={"order": "A-1001"}) | changes
    for escaped in (True, False):
        kept = json.loads(masked_body(json.dumps(sent, ensure_ascii=escaped)))

        assert refused(json.dumps(sent)).code is ErrorCode.CARD_NUMBER
        for name in set(sent) - set(changes):
            assert kept[name] == sent[name]
        text = json.dumps([kept[name] for name in changes], ensure_ascii=False)
        assert not has_card_number(text.replace('"', " "))
        assert "4111" not in text


def test_an_id_of_sixteen_digits_is_not_masked_beside_a_card_number() -> None:
    kept = json.loads(masked_body(json.dumps(body(refund_id=VISA, note=f"card {VISA}"))))

    assert (kept["refund_id"], kept["note"]) == (VISA, f"card {'*' * 16}")


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
def test_a_bad_body_ends_in_the_dlq_and_its_neighbours_go_through(
    world: World, text: str, code: ErrorCode
) -> None:
    records = [
        world.stack.send(body(refund_id="before", amount_minor=100)),
        world.stack.send(text),
        world.stack.send(body(refund_id="after", amount_minor=200)),
    ]
    results: list[Any] = []

    response = handle_batch(
        records,
        world.queue,
        world.deadline(),
        InlinePool(),
        lambda record, result: results.append(result),
    )

    assert response == {"batchItemFailures": []}
    assert {order.refund_id for order in world.gateway.orders} == {"before", "after"}
    (dead,) = world.stack.dead_letters()
    attributes = dead["MessageAttributes"]
    assert attributes["error_code"]["StringValue"] == code
    assert attributes["error_message"]["StringValue"] == results[1].message
    if code is ErrorCode.CARD_NUMBER:
        assert dead["Body"] == text.replace(VISA, "*" * 16)
        assert attributes["body_sha256"]["StringValue"] == hashlib.sha256(text.encode()).hexdigest()
    else:
        assert dead["Body"] == text
        assert "body_sha256" not in attributes
