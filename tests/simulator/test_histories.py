"""A few random histories at each test run, that they can be replayed, and that mutants can be made.

`make simulate` runs many more, `make mutants` hunts each mutant.
"""

from __future__ import annotations

import pytest
from tests.simulator.histories import run_history
from tests.simulator.mutants import MUTANTS
from tests.simulator.mutation import Mutant, alive, hunt
from tests.simulator.report import about
from tests.simulator.scripts import histories


def run_histories(seeds: range) -> dict[str, int]:
    counts: dict[str, int] = {}
    for seed in seeds:
        outcome = run_history(seed)
        assert outcome.violation is None, f"make simulate SEED={seed}: {outcome.violation}"
        for name, count in outcome.counts.items():
            counts[name] = counts.get(name, 0) + count
    return counts


def test_some_random_histories_hold_every_invariant() -> None:
    assert run_histories(range(25))["movements of money"] > 0


@pytest.mark.long
def test_random_histories_hold_every_invariant() -> None:
    counts = run_histories(range(25, 175))
    for name in ("fault crash", "takeovers", "movements of money", "reviews", "status REVERSED"):
        assert counts[name] > 0, f"150 histories without {name}"


@pytest.mark.parametrize("seed", range(5))
def test_a_seed_replays_exactly(seed: int) -> None:
    first, again = run_history(seed, trace=True), run_history(seed, trace=True)
    assert len(first.trace) > 5
    assert first.trace == again.trace
    assert first.counts == again.counts == run_history(seed).counts


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_every_mutant_still_finds_its_place_in_the_code(mutant: Mutant) -> None:
    with alive(mutant):
        pass


def test_every_scripted_history_that_a_mutant_names_is_there() -> None:
    named = {mutant.caught_by for mutant in MUTANTS if mutant.caught_by}
    assert named <= {name for name, _ in histories()}


def test_a_mutant_is_caught_and_its_history_is_short_and_replays() -> None:
    mutant = next(each for each in MUTANTS if each.name == "release on timeout")
    outcome = hunt(mutant, 1)
    assert outcome is not None
    with alive(mutant):
        again = run_history(outcome.seed, trace=True)
    assert str(again.violation) == str(outcome.violation)
    assert again.violation is not None
    lines = about(again.violation.subject, again.trace)
    assert 1 < len(lines) <= 61
    assert "VIOLATION" in lines[-1]
    assert run_history(outcome.seed).violation is None
