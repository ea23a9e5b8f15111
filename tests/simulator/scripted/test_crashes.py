"""A crash, or an answer of DynamoDB that is lost, at every step of one refund."""

from __future__ import annotations

import pytest
from tests.simulator.scripting import (
    HOUR,
    crash_at,
    paid,
    remaining,
    request,
    status,
    world,
)


def steps_of_one_refund() -> list[tuple[str, int]]:
    """Every step of I/O from the message to its audit entries, and the how-manieth it is."""
    made = world()
    made.kernel.steps = []
    made.send(request())
    made.run_for(60)
    seen: dict[str, int] = {}
    places = []
    for step in made.kernel.steps:
        seen[step] = seen.get(step, 0) + 1
        places.append((step, seen[step]))
    return places


@pytest.mark.parametrize(("step", "nth"), steps_of_one_refund())
def test_a_crash_at_any_step_pays_once(step: str, nth: int) -> None:
    made = world()
    crash_at(made, step, nth)
    made.send(request())
    made.run_for(30 * 60)
    made.settle()
    assert made.kernel.counts["crash " + step] == 1
    assert (status(made), paid(made), remaining(made)) == ("SUCCEEDED", 1, 700)


@pytest.mark.parametrize("attempts", [1, 3])
@pytest.mark.parametrize("fault", ["answer lost", "applied late", "throttled"])
@pytest.mark.parametrize("nth", range(10))
def test_a_lost_answer_of_dynamodb_at_any_step_pays_once(
    fault: str, nth: int, attempts: int
) -> None:
    made = world(attempts=attempts)
    made.kernel.script["dynamodb " + fault] = [False] * nth + [True]
    made.send(request())
    made.run_for(HOUR)
    made.settle()
    assert (status(made), paid(made), remaining(made)) == ("SUCCEEDED", 1, 700)
