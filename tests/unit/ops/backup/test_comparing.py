"""Comparing a table with its backup: what is a difference, and what is none."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from tests.support.builders import NOW

from refunds.domain.clock import rfc3339
from refunds_ops.backup.drill import _written_since
from refunds_ops.backup.tables import MAX_LISTED_KEYS, compare


def item(number: int, **more: Any) -> dict[str, Any]:
    return {"refund_id": {"S": f"rf-{number}"}, **more}


def test_differences_are_named_in_any_order_of_rows() -> None:
    ours = [item(number) for number in range(50)]
    theirs = [item(7, a={"S": "changed"}), *(item(n) for n in range(1, 50) if n != 7), item(99)]
    found = compare("refunds", lambda: iter(ours), lambda: iter(reversed(theirs)))
    assert (found.lacking, found.different, found.unexpected) == (["rf-0"], ["rf-7"], ["rf-99"])
    assert compare("refunds", lambda: iter(ours), lambda: iter(reversed(ours))).none


def test_rows_written_since_are_no_differences() -> None:
    ours, theirs = [item(1), item(2)], [item(1, at={"S": "later"}), item(2), item(3, at={"S": "x"})]
    found = compare(
        "refunds", lambda: iter(ours), lambda: iter(theirs), since=lambda each: "at" in each
    )
    assert found.none
    assert found.since == 2


@pytest.mark.long
def test_memory_stays_flat_however_many_rows_differ() -> None:
    def rows(text: str) -> Iterator[dict[str, Any]]:
        return (item(number, a={"S": text}) for number in range(20_000))

    tracemalloc.start()
    found = compare("refunds", lambda: rows("ours"), lambda: rows("theirs"))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found.different) == MAX_LISTED_KEYS
    assert peak < 5_000_000  # 20,000 keys and hashes in memory would be 6 MB more


def test_a_drill_allows_for_clocks_that_differ() -> None:
    written_since = _written_since("refunds", rfc3339(NOW))
    for seconds, may_differ in ((-299, True), (-301, False), (1, True)):
        row = {"updated_at": {"S": rfc3339(NOW + timedelta(seconds=seconds))}}
        assert written_since(row) is may_differ


def test_sets_have_no_order_and_a_double_is_a_difference() -> None:
    one, other = item(1, s={"SS": ["a", "b"]}), item(1, s={"SS": ["b", "a"]})
    assert compare("refunds", lambda: iter([one]), lambda: iter([other])).none
    assert not compare("refunds", lambda: iter([one]), lambda: iter([one, one])).none
