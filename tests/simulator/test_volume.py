"""Whatever waits gets its turn within its bound, however much waits beside it (I9)."""

from __future__ import annotations

import pytest
from tests.simulator.mutation import Mutant, Patch, alive
from tests.simulator.volume import Volume, play_volume

STARVING = {
    "the sweep has no time of its own": (
        "a late reversal",
        Patch("processing.reconciler:Reconciler.run", "total_seconds * SWEEP_SHARE", "0"),
    ),
    "what became due last is taken first": (
        "a look at an open refund",
        Patch(
            "processing.open_refunds:_oldest",
            "key=lambda due: due.check_at)",
            "key=lambda due: due.check_at, reverse=True)",
        ),
    ),
}
"""Faults that let somebody starve: who, and the change."""


def test_many_open_refunds_a_slow_gateway_a_long_list_and_dead_letters_all_have_their_turn() -> (
    None
):
    waits = play_volume(Volume())
    assert list(waits.faults()) == []
    # The reconciler can't look at all of them in one run.
    assert waits.look_seconds > 3000
    assert not waits.overdue_alarm


@pytest.mark.long
@pytest.mark.parametrize("fault", STARVING)
def test_who_starves_is_noticed(fault: str) -> None:
    who, patch = STARVING[fault]
    with alive(Mutant(fault, (patch,))):
        found = list(play_volume(Volume(dead_letters=0)).faults())
    assert any(each.startswith(who) for each in found), found


@pytest.mark.long
def test_more_than_can_be_settled_in_time_is_alarmed() -> None:
    """More than fits into two hours: the wait is longer, and a person knows."""
    waits = play_volume(
        Volume(refunds=350, gateway_seconds=14.0, threads=1, dead_letters=0, hours=4.5)
    )
    assert waits.look_seconds > 2 * 3600
    assert waits.overdue_alarm
