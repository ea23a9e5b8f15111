"""Cutting items out of an answer gives exactly what parsing it gives, whatever is in them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.support.backup_parts import BackedUp

from refunds.backup.run import RESERVED_SECONDS
from refunds.backup.table_scan import PageReader, ReadLimit, Source, _cut, _parse

Wire = dict[str, Any]

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    [
        "}},{",
        '}},{"',
        "}}]",
        '"Items":[{',
        "\\",
        '"',
        "\x85",
        "\u2028\u2029",
        "\n",
        '"}}],"Count":9',
    ]
)
VALUES = st.recursive(
    st.builds(lambda text: {"S": text}, TEXT)
    | st.builds(lambda number: {"N": str(number)}, st.integers())
    | st.sampled_from([{"NULL": True}, {"BOOL": False}, {"B": "AAEC"}, {"SS": ["}},{", "b"]}]),
    lambda inner: (
        st.builds(lambda values: {"L": values}, st.lists(inner, max_size=3))
        | st.builds(lambda values: {"M": values}, st.dictionaries(TEXT, inner, max_size=3))
    ),
    max_leaves=8,
)
ITEMS = st.dictionaries(TEXT, VALUES, min_size=1, max_size=4) | st.builds(
    lambda key, more: {"refund_id": {"S": key}, **more},
    TEXT,
    st.dictionaries(TEXT, VALUES, max_size=3),
)


def answer(items: list[Wire], last_key: Wire | None, *, order: int = 0) -> Wire:
    """A Scan's answer; DynamoDB promises no order of its parts."""
    parts: list[tuple[str, Any]] = [
        ("Count", len(items)),
        ("Items", items),
        ("ScannedCount", len(items)),
        *([("LastEvaluatedKey", last_key)] if last_key else []),
    ]
    return dict(parts[order % 4 :] + parts[: order % 4])


@given(st.lists(ITEMS, max_size=5), st.none() | ITEMS, st.integers(0, 3), st.booleans())
@example([{"a": {"L": [{"M": {"b": {"S": "x"}}}, {"M": {"c": {"S": "y"}}}]}}], None, 0, False)
@example([{"S": {"S": "x"}, "a": {"L": [{"M": {"S": {"S": "x"}}}] * 2}}] * 2, None, 0, False)
@example(
    [{"a": {"S": "x"}, "b": {"M": {"c": {"M": {}}, "d": {"M": {"a": {"S": "x"}}}}}}] * 2,
    None,
    0,
    False,
)
@example([{"a": {"S": "}},{"}}, {"a": {"S": "x"}}], {"k": {"S": '}}],"x":[{'}}, 1, False)
def test_cutting_is_parsing(
    items: list[Wire], last_key: Wire | None, order: int, ascii_only: bool
) -> None:
    told = answer(items, last_key, order=order)
    body = json.dumps(told, separators=(",", ":"), ensure_ascii=ascii_only).encode()
    for read in (_cut(body), _parse(body)):
        if read is None:
            continue  # not sure: it is parsed then
        rest, lines, count = read
        assert count == len(items)
        # str.splitlines, as careless readers do it, finds the same lines.
        for split in (lines.decode().splitlines(), lines.decode().split("\n")[:-1]):
            assert [json.loads(line)["Item"] for line in split] == items
        left = json.loads(rest)
        assert left.get("LastEvaluatedKey") == last_key
        assert not left.get("Items")


def test_usual_refunds_are_cut_not_parsed() -> None:
    item = {"refund_id": {"S": "rf-1"}, "changed_fields": {"L": [{"S": "a"}, {"S": "b"}]}}
    body = json.dumps(answer([item] * 3, item), separators=(",", ":")).encode()
    assert _cut(body) is not None


def test_items_that_begin_differently_are_cut() -> None:
    items = [{"refund_id": {"S": "rf-1"}}, {"status": {"S": "FAILED"}, "refund_id": {"S": "rf-2"}}]
    body = json.dumps(answer(items, None), separators=(",", ":")).encode()
    cut = _cut(body)
    assert cut is not None
    assert cut[1:] == _parse(body)[1:]


def test_items_are_cut_at_their_first_attribute_whatever_is_inside() -> None:
    lists = {"L": [{"M": {"a": {"S": "x"}}}, {"M": {"b": {"M": {}}}}]}
    items = [{"refund_id": {"S": "rf-1"}, "line_items": lists}] * 3
    body = json.dumps(answer(items, None), separators=(",", ":")).encode()
    assert body.count(b'}},{"') > len(items)
    cut = _cut(body)
    assert cut is not None
    assert cut[1:] == _parse(body)[1:]


@pytest.mark.parametrize("line_break", ["\x85", "\u2028", "\u2029"])
def test_a_line_break_of_unicode_does_not_split_an_item(line_break: str) -> None:
    item = {"refund_id": {"S": "r1"}, "text": {"S": f"a{line_break}b"}}
    body = json.dumps(answer([item], None), separators=(",", ":"), ensure_ascii=False).encode()
    cut = _cut(body)
    assert cut is not None
    (line,) = cut[1].decode().splitlines()
    assert json.loads(line) == {"Item": item}


def test_a_page_is_read_on_from_its_key_and_segments_share_the_table(stack: BackedUp) -> None:
    for number in range(40):
        stack.put(stack.refunds, {"refund_id": f"rf-{number}", "text": "é\u2028"})
    reader = PageReader(stack.dynamodb, ReadLimit(0))
    source = Source("refunds", stack.refunds)
    whole = reader.read(source, 0, 1, None)
    halves = [reader.read(source, segment, 2, None) for segment in (0, 1)]
    assert whole.count == 40
    assert sum(half.count for half in halves) == 40
    assert sorted(whole.lines.splitlines()) == sorted(
        line for half in halves for line in half.lines.splitlines()
    )
    after = json.loads(whole.lines.splitlines()[9])["Item"]["refund_id"]
    assert reader.read(source, 0, 1, {"refund_id": after}).count == 30


def test_an_error_stays_an_error(stack: BackedUp) -> None:
    reader = PageReader(stack.dynamodb, ReadLimit(0))
    with pytest.raises(stack.dynamodb.exceptions.ResourceNotFoundException):
        reader.read(Source("refunds", "nowhere"), 0, 1, None)


class Seconds:
    """A monotonic clock that sleeping moves on."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_reading_keeps_to_its_share_of_read_units() -> None:
    seconds = Seconds()
    limit = ReadLimit(1000, monotonic=seconds.monotonic, sleep=seconds.sleep)
    for _ in range(21):
        limit.spend(500)
    assert seconds.now - 100.0 == pytest.approx(10.0)


def test_every_page_is_read_within_the_limit(
    stack: BackedUp, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack.put(stack.refunds, {"refund_id": "rf-1", "text": "x" * 9000})
    spent: list[float] = []
    monkeypatch.setattr(ReadLimit, "spend", lambda _, units: spent.append(units))
    reader = PageReader(stack.dynamodb, ReadLimit(1))
    reader.read(Source("refunds", stack.refunds), 0, 1, None)
    assert len(spent) == 1
    assert spent[0] > 0


def test_a_limit_that_is_too_low_lets_a_run_continue_in_time() -> None:
    seconds = Seconds()
    limit = ReadLimit(1, monotonic=seconds.monotonic, sleep=seconds.sleep)
    for _ in range(4):
        began = seconds.now
        limit.spend(256)
        assert seconds.now - began <= RESERVED_SECONDS / 2


def test_without_a_limit_nobody_waits() -> None:
    seconds = Seconds()
    limit = ReadLimit(0, monotonic=seconds.monotonic, sleep=seconds.sleep)
    limit.spend(1e9)
    limit.spend(1e9)
    assert seconds.now == 100.0
