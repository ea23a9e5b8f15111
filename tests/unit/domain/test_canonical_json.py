"""Canonical JSON: the fast path makes RFC 8785's bytes, or leaves the value to the library."""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import Any

import pytest
import rfc8785
from hypothesis import example, given
from hypothesis import strategies as st

from refunds.domain.canonical_json import MAX_DEPTH, MAX_INTEGER, canonical_json
from refunds.domain.refund import Status


class Number(IntEnum):
    ONE = 1
    LARGE = MAX_INTEGER + 1


class Text(str):
    """A subclass with a text of its own."""

    __slots__ = ()

    def __str__(self) -> str:
        return "something else"

    __repr__ = __str__


class Word(StrEnum):
    KEY = "key"


class Amount(int):
    """A subclass with digits of its own."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "1.50"

    def __int__(self) -> int:
        return 7


class Fields(dict[Any, Any]):
    """A subclass with items of its own."""


# Every plane, half a surrogate pair, and whatever one of the two encoders might escape.
CHARACTERS = st.characters(exclude_categories=()) | st.sampled_from(
    '\x00\x08\t\n\x0b\x0c\r\x1f "\\/\x7f\x80\x85\u2028\u2029\ud800\udfff\ue000\uffff\U0001f600'
)
TEXTS = st.text(CHARACTERS, max_size=8)
INTEGERS = st.integers() | st.sampled_from(
    [sign * (2**53 + step) for sign in (1, -1) for step in (-2, -1, 0, 1)]
)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    INTEGERS,
    st.floats(),
    TEXTS,
    TEXTS.map(Text),
    INTEGERS.map(Amount),
    st.sampled_from([*Number, *Word, *Status]),
    st.binary(max_size=2),
    st.decimals(max_value=3),
)
KEYS = st.one_of(TEXTS, TEXTS.map(Text), INTEGERS, st.none(), st.booleans(), st.just(Word.KEY))


def containers(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    lists = st.lists(values, max_size=4)
    fields = st.dictionaries(TEXTS, values, max_size=4)
    odd = st.dictionaries(KEYS, values, max_size=2)
    return st.one_of(lists, lists.map(tuple), fields, fields, odd, fields.map(Fields))


VALUES = st.recursive(LEAVES, containers, max_leaves=12)


def outcome(encode: Any, value: Any) -> Any:
    """The bytes, or how the value was refused."""
    try:
        return encode(value)
    except Exception as exc:
        return type(exc), str(exc)


@given(VALUES)
@example({"\U0001f600": 1, "\ufb33": 2, "€": 3, "\r": 4, "ö": 5, "1": 6, "\x80": 7})
@example({"a": "\x7f\u2028\u2029\x85</script>\x00\x1f\b\f"})
@example({"a": "\ud800"})
@example({"\ud800": "a"})
@example([MAX_INTEGER, -MAX_INTEGER])
@example([MAX_INTEGER + 1])
@example([-MAX_INTEGER - 1])
@example([True, False, None, Number.ONE, Number.LARGE])
@example([0.0, -0.0, 1e21, 1.0, 5e-324])
@example([float("nan")])
@example({1: "a", "1": "b"})
@example({None: 1})
@example({"a": 1, Text("a "): 2, Word.KEY: 3})
@example([Amount(3), Text("abc"), Word.KEY, Status.SUCCEEDED])
@example({"a": (1, 2), "b": Fields(c=1)})
def test_every_value_has_the_librarys_bytes_or_its_refusal(value: Any) -> None:
    assert outcome(canonical_json, value) == outcome(rfc8785.dumps, value)


def test_values_nested_past_the_limit_are_the_librarys() -> None:
    value: Any = "x"
    for _ in range(MAX_DEPTH + 3):
        value = {"a": [value]}
    assert canonical_json(value) == rfc8785.dumps(value)

    circular: list[Any] = []
    circular.append(circular)
    with pytest.raises(RecursionError):
        canonical_json(circular)


@pytest.fixture
def without_library(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(value: Any) -> bytes:
        raise AssertionError(f"left to the library: {value!r}")

    monkeypatch.setattr("refunds.domain.canonical_json.rfc8785.dumps", refuse)


@pytest.mark.usefixtures("without_library")
@pytest.mark.parametrize("integer", [MAX_INTEGER, -MAX_INTEGER])
def test_the_largest_integers_are_encoded_without_the_library(integer: int) -> None:
    assert canonical_json(integer) == str(integer).encode()
    with pytest.raises(AssertionError, match="left to the library"):
        canonical_json(integer * 2)


@pytest.mark.usefixtures("without_library")
def test_values_as_deep_as_the_limit_are_encoded_without_the_library() -> None:
    value: list[Any] = []
    for _ in range(MAX_DEPTH - 1):
        value = [value]
    assert canonical_json(value) == b"[" * MAX_DEPTH + b"]" * MAX_DEPTH
    with pytest.raises(AssertionError, match="left to the library"):
        canonical_json([value])


@pytest.mark.usefixtures("without_library")
def test_entries_are_encoded_without_the_library() -> None:
    entry = {
        "refund_id": "r1",
        "version": 2,
        "previous_hash": None,
        "details": {"note": "é 😀 \u2028", "approvals": [{"by": "anna", "final": True}]},
    }
    assert (
        canonical_json(entry)
        == (
            '{"details":{"approvals":[{"by":"anna","final":true}],"note":"é 😀 \u2028"},'
            '"previous_hash":null,"refund_id":"r1","version":2}'
        ).encode()
    )
