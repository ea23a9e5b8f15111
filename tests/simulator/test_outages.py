"""Rule 13: a gateway that is down for a day."""

from __future__ import annotations

import pytest
from tests.simulator.mutants import MUTANTS
from tests.simulator.mutation import hunt
from tests.simulator.outages import OUTAGE_SECONDS, run_outage


@pytest.mark.parametrize(
    "seed", [1, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(2, 5))]
)
def test_a_day_of_outage_ends_with_every_request_settled_once(seed: int) -> None:
    outcome = run_outage(seed)

    assert outcome.violation is None
    assert OUTAGE_SECONDS == 24 * 3600
    assert outcome.counts["movements of money"] == outcome.counts["messages"] > 40
    assert outcome.counts["messages to the DLQ"] == 0
    assert outcome.counts["mapping disabled"] >= 1
    # They waited untouched: a message that is tried for a day is delivered 30 times.
    assert outcome.counts["deliveries"] < 5 * outcome.counts["messages"]


@pytest.mark.long
def test_the_same_seed_is_the_same_day() -> None:
    one, other = run_outage(3, trace=True), run_outage(3, trace=True)
    assert one.trace == other.trace


@pytest.mark.long
@pytest.mark.parametrize(
    "mutant", [each for each in MUTANTS if each.play is run_outage], ids=lambda each: each.name
)
def test_a_breaker_that_is_broken_is_noticed(mutant: object) -> None:
    outcome = hunt(mutant, 1, 30)  # type: ignore[arg-type]
    assert outcome is not None
    assert outcome.violation is not None
    assert outcome.violation.invariant == "rule 13"
