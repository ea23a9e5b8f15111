"""A few histories at the edges at each test run; `make simulate` plays many."""

from __future__ import annotations

import pytest
from tests.simulator.walls import WALLS_EVERY, play, run_walls


def test_some_histories_at_the_edges_hold_every_invariant() -> None:
    for seed in range(20):
        outcome = run_walls(seed)
        assert outcome.violation is None, f"run_walls({seed}): {outcome.violation}"


@pytest.mark.parametrize("seed", [4, 5])
def test_a_history_at_the_edges_replays_exactly(seed: int) -> None:
    first, again = run_walls(seed, trace=True), run_walls(seed, trace=True)
    assert len(first.trace) > 5
    assert first.trace == again.trace


def test_each_few_seeds_play_at_the_edges() -> None:
    played = [any(name.startswith("wall") for name in play(seed).counts) for seed in range(1, 9)]
    assert played.count(True) == 8 // WALLS_EVERY
