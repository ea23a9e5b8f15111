"""A few random histories with limits at each test run; `make simulate` plays many more."""

from __future__ import annotations

from collections import Counter

import pytest
from tests.simulator.limit_histories import run_limits
from tests.simulator.mutants import MUTANTS
from tests.simulator.mutation import hunt


def run_histories(seeds: range) -> Counter[str]:
    counts: Counter[str] = Counter()
    for seed in seeds:
        outcome = run_limits(seed)
        assert outcome.violation is None, f"run_limits({seed}): {outcome.violation}"
        counts.update(outcome.counts)
    return counts


def test_some_random_histories_with_limits_hold_every_invariant() -> None:
    assert run_histories(range(5))["movements of money"] > 0


@pytest.mark.long
def test_random_histories_with_limits_hold_every_invariant() -> None:
    counts = run_histories(range(40))
    for name in (
        "approved",
        "approval expired",
        "shares given back",
        "counters that began a day",
        "over user_day",
        "refused to decide: NotAllowedError",
        "fault crash",
    ):
        assert counts[name] > 0, f"40 histories without {name}"


def test_a_seed_replays_exactly() -> None:
    first, again = run_limits(7, trace=True), run_limits(7, trace=True)
    assert first.trace == again.trace
    assert len(first.trace) > 5


def test_histories_with_limits_see_that_what_waits_is_not_alarmed() -> None:
    name = "the age of what waits for approval is not reported"
    caught = hunt(next(each for each in MUTANTS if each.name == name), first_seed=1, most=20)
    assert caught is not None
    assert caught.violation is not None
    assert caught.violation.invariant == "I9"
