"""The list of faults that live says why each does no harm, and is of today's code."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.simulator.mutate import known_survivors

SURVIVORS = known_survivors()


@pytest.mark.parametrize("key", SURVIVORS)
def test_a_listed_survivor_is_a_line_of_its_file_and_has_a_reason(key: str) -> None:
    path, _, change = key.partition(": ")
    was, arrow, _ = change.partition(" -> ")
    lines = [line.strip() for line in Path(path).read_text().splitlines()]
    assert arrow
    assert was in lines
    assert SURVIVORS[key]
