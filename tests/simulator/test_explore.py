"""The smallest worlds, whole; and that the explorer finds what is wrong."""

from __future__ import annotations

import pytest
from tests.simulator.explore import WORLDS, Small, explore
from tests.simulator.mutants import MUTANTS
from tests.simulator.mutation import alive

SMALLEST = (WORLDS[0], WORLDS[1], WORLDS[3], WORLDS[4])
SECONDS = 300.0


def marked(small: Small) -> object:
    several_thousand_states = small.name == "two deliveries, one fault"
    marks = [pytest.mark.long] if several_thousand_states else []
    return pytest.param(small, marks=marks, id=small.name)


@pytest.mark.parametrize("small", [marked(each) for each in SMALLEST])
def test_every_schedule_of_a_smallest_world_holds(small: object) -> None:
    found = explore(small, SECONDS)  # type: ignore[arg-type]
    assert found.violation is None, f"{found.violation}: decisions {found.script}"
    assert found.left == 0
    assert found.states > 10


@pytest.mark.parametrize("name", ["claim after the call", "nothing shown means failed"])
def test_the_explorer_finds_a_fault_of_the_protocol(name: str) -> None:
    mutant = next(each for each in MUTANTS if each.name == name)
    with alive(mutant):
        found = explore(SMALLEST[1], SECONDS)
    assert found.violation is not None
    assert found.trace
