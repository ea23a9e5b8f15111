"""A payment can have five thousand refunds: nothing goes through all of them for each of them."""

from __future__ import annotations

from collections import Counter
from typing import Any

from refunds_ops.commands.audit_show import _by_refund


def test_a_payments_entries_are_sorted_into_its_refunds_in_one_pass() -> None:
    read = Counter[str]()

    class Entry(dict[str, Any]):
        def __getitem__(self, name: str) -> Any:
            read[name] += 1
            return super().__getitem__(name)

    entries = [
        Entry(refund_id=f"r{number}", version=version) for number in range(5) for version in (1, 2)
    ]
    assert [len(story) for story in _by_refund(entries)] == [2] * 5
    assert read["refund_id"] == len(entries)
