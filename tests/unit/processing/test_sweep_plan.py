"""What the sweep reads next, by the state alone."""

from __future__ import annotations

from datetime import timedelta

from tests.support.builders import NOW

from refunds.domain.clock import rfc3339
from refunds.processing.settler import SWEEP_BACK
from refunds.processing.sweep_plan import SweepState
from refunds.processing.sweep_walk import PageRead, Walk, day_of

OLDEST = day_of(NOW - SWEEP_BACK)


def at_oldest_day() -> tuple[SweepState, Walk]:
    walk = Walk(rfc3339(NOW - SWEEP_BACK), cursor="c", day=OLDEST, since=rfc3339(NOW))
    return SweepState(NOW - SWEEP_BACK, walks=(walk,)), walk


def test_a_walk_goes_on_through_the_oldest_day_to_its_end() -> None:
    state, walk = at_oldest_day()
    begins = NOW - SWEEP_BACK
    state = state.after(walk, PageRead(NOW, 1, [begins], "next", handled=True), NOW)
    (walk,) = state.walks
    assert OLDEST not in state.seen

    day_before = PageRead(NOW, 1, [begins - timedelta(days=1)], "next", handled=True)
    state = state.after(walk, day_before, NOW)
    assert state.walks == ()
    assert OLDEST in state.seen


def test_an_oldest_day_that_could_not_be_handled_is_not_read_again_at_once() -> None:
    state, walk = at_oldest_day()
    newer = Walk(walk.created_from, cursor="n", day=OLDEST + 9, since=rfc3339(NOW))
    failing = PageRead(NOW, 1, [NOW - SWEEP_BACK], None, handled=False)
    state = SweepState(state.began, walks=(walk, newer)).after(walk, failing, NOW)
    assert OLDEST in state.tried

    read = PageRead(NOW, 1, [NOW - SWEEP_BACK + timedelta(days=9)], "next", handled=True)
    assert OLDEST in state.after(newer, read, NOW).tried


def test_the_oldest_day_stays_read_and_the_day_before_it_is_forgotten() -> None:
    state, walk = at_oldest_day()
    read = {OLDEST - 1: NOW, OLDEST: NOW}
    page = PageRead(NOW, 1, [NOW - SWEEP_BACK], "next", handled=True)

    assert SweepState(state.began, None, read, (walk,)).after(walk, page, NOW).seen == {OLDEST: NOW}


def test_a_page_that_is_tried_again_has_not_failed() -> None:
    state, walk = at_oldest_day()
    (tried,) = state.after_try(walk).walks

    assert (tried.failures, tried.tries) == (0, 1)
    assert tried.cursor == walk.cursor


def test_what_was_read_by_a_clock_a_little_ahead_is_not_seen_in_the_future() -> None:
    ahead = SweepState(NOW + timedelta(minutes=1))

    assert ahead.unseen(NOW) == {"recent": timedelta(0), "older": timedelta(0)}
    assert ahead.behind(NOW) == timedelta(0)


def test_a_walk_that_is_nowhere_yet_leaves_no_day_behind() -> None:
    walk = Walk(rfc3339(NOW - SWEEP_BACK), cursor="c")
    page = PageRead(NOW, 1, [NOW - timedelta(days=3)], "next", handled=True)

    assert SweepState(NOW, walks=(walk,)).after(walk, page, NOW).tried == {}


def test_two_walks_of_which_one_is_a_day_behind_the_other_both_go_on() -> None:
    walks = tuple(
        Walk(rfc3339(NOW - SWEEP_BACK), cursor="c", day=day, since=rfc3339(NOW))
        for day in (OLDEST + 5, OLDEST + 6)
    )
    planned = SweepState(NOW - SWEEP_BACK, walks=walks).planned(NOW, 0, any_day=False)

    assert {walk.day for walk in planned.walks} == {OLDEST + 5, OLDEST + 6}
