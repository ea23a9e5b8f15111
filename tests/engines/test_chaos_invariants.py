"""The chaos run's own checks notice what they are there for."""

from __future__ import annotations

from typing import Any

import pytest
from tests.chaos.invariants import compare

REFUND = {"refund_id": "r", "status": "SUCCEEDED", "version": 2}
MOVEMENT = {"reference": "r", "transaction_id": "p", "amount": 100}
ENTRIES = [{"refund_id": "r"}, {"refund_id": "r"}]


def found(**changes: Any) -> list[str]:
    rows: Any = {"refunds": [REFUND], "entries": ENTRIES, "movements": [MOVEMENT]} | changes
    return [each.split()[0] for each in compare({"r": "p"}, 150, **rows)]


def test_a_run_that_went_well_has_no_violation() -> None:
    assert found() == []


@pytest.mark.parametrize(
    ("changes", "invariants"),
    [
        ({"movements": [MOVEMENT, MOVEMENT]}, ["I1", "I2"]),
        ({"movements": [MOVEMENT | {"amount": 151}]}, ["I2"]),
        ({"refunds": [], "entries": []}, ["I3"]),
        ({"refunds": [REFUND | {"status": "PROCESSING"}]}, ["I3"]),
        ({"movements": []}, ["I6"]),
        ({"refunds": [REFUND | {"status": "FAILED"}]}, ["I6"]),
        ({"entries": ENTRIES[:1]}, ["I4"]),
        ({"entries": [*ENTRIES, ENTRIES[0]]}, ["I4"]),
    ],
)
def test_each_violation_is_named(changes: Any, invariants: list[str]) -> None:
    assert found(**changes) == invariants
