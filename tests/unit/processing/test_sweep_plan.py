"""What the sweep reads next, by the state alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from tests.support.builders import NOW

from refunds.domain.clock import CLOCK_SKEW, rfc3339
from refunds.domain.refund import SWEEP_BACK
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


# What is stored


TODAY = day_of(NOW)
HOUR = timedelta(hours=1)


def all_seen(ago: timedelta, **changes: Any) -> SweepState:
    """Every day was read so long ago."""
    seen = dict.fromkeys(range(OLDEST, TODAY + 1), NOW - ago)
    return replace(SweepState(NOW - SWEEP_BACK, "account", seen), **changes)


def walk_at(day: int | None, **changes: Any) -> Walk:
    since = "" if day is None else rfc3339(NOW - HOUR)
    return replace(Walk(rfc3339(NOW - SWEEP_BACK), cursor="c", day=day, since=since), **changes)


def test_a_state_is_read_as_it_was_stored() -> None:
    older = {"older_since": rfc3339(NOW - HOUR), "older_whole": False}
    walks = (walk_at(TODAY - 3), walk_at(None, failures=2), walk_at(TODAY, whole=False, **older))
    state = all_seen(HOUR, walks=walks, tried={TODAY - 7: NOW - 2 * HOUR})

    assert SweepState.from_item(state.item(), "account", NOW) == state
    assert "older_since" not in state.item()["walks"][0]


@pytest.mark.parametrize(
    ("stored", "state"),
    [
        ({"format": 99}, SweepState(NOW - SWEEP_BACK, "account")),
        (all_seen(HOUR).item() | {"format": 99}, SweepState(NOW - SWEEP_BACK, "account")),
        ({}, SweepState(NOW, "account")),
        (all_seen(HOUR, account="another").item(), SweepState(NOW, "account")),
        ({"created_from": rfc3339(NOW - SWEEP_BACK - HOUR)}, SweepState(NOW - HOUR, "account")),
        (
            {"created_from": rfc3339(NOW - SWEEP_BACK + HOUR), "cursor": "c"},
            SweepState(NOW, "account", walks=(Walk(rfc3339(NOW - SWEEP_BACK + HOUR), cursor="c"),)),
        ),
    ],
    ids=[
        "unreadable",
        "of another release",
        "nothing",
        "of another account",
        "format 1",
        "format 1 under way",
    ],
)
def test_what_else_is_stored(stored: dict[str, Any], state: SweepState) -> None:
    assert SweepState.from_item(stored, "account", NOW) == state


def test_what_a_clock_far_ahead_has_written_counts_as_nothing() -> None:
    ahead = NOW + CLOCK_SKEW + timedelta(seconds=1)
    wrong = walk_at(TODAY, since=rfc3339(ahead))
    state = all_seen(HOUR, began=ahead, walks=(wrong, walk_at(None), walk_at(TODAY - 1)))
    state = replace(state, seen={**state.seen, TODAY: ahead}, tried={TODAY: ahead})
    read = SweepState.from_item(state.item(), "account", NOW)

    assert read.began == NOW - SWEEP_BACK
    assert set(read.seen) == set(range(OLDEST, TODAY))
    assert read.walks == (walk_at(None), walk_at(TODAY - 1))
    assert read.tried == {}


# What is due


@pytest.mark.parametrize(("age_days", "tier"), [(0, "recent"), (30, "recent"), (31, "older")])
def test_a_day_of_up_to_thirty_days_ago_is_recent(age_days: int, tier: str) -> None:
    state = all_seen(HOUR)
    unseen = replace(state, seen={**state.seen, TODAY - age_days: NOW - 5 * HOUR})

    assert unseen.unseen(NOW) == {"recent": HOUR, "older": HOUR} | {tier: 5 * HOUR}


@pytest.mark.parametrize(
    ("hours", "tried_ago", "is_due"),
    [
        (17.9, None, False),
        (18, None, True),
        (48, None, True),
        (48, timedelta(minutes=44), False),
        (48, timedelta(minutes=45), True),
        (2, timedelta(minutes=45), False),
    ],
)
def test_a_day_is_due_after_three_quarters_of_its_tiers_time(
    hours: float, tried_ago: timedelta | None, is_due: bool
) -> None:
    day = TODAY - 3
    tried = {} if tried_ago is None else {day: NOW - tried_ago}
    state = all_seen(HOUR, tried=tried)
    state = replace(state, seen={**state.seen, day: NOW - timedelta(hours=hours)})
    any_day, from_top = (state.planned(NOW, 2, any_day=each).walks for each in (True, False))

    assert any_day == ((Walk.from_day(day, NOW),) if is_due else ())
    assert from_top == ((Walk.from_top(NOW),) if is_due else ())


def test_the_most_overdue_days_are_read_first_and_no_more_than_fit() -> None:
    state = all_seen(HOUR)
    late = {TODAY - ago: NOW - timedelta(hours=hours) for ago, hours in ((3, 20), (5, 30), (9, 40))}
    state = replace(state, seen={**state.seen, **late})

    assert [walk.day for walk in state.planned(NOW, 2, any_day=True).walks] == [
        TODAY - 9,
        TODAY - 5,
    ]
    assert state.planned(NOW, 0, any_day=True).walks == ()


def test_a_day_that_was_not_handled_counts_as_tried_until_it_is_read_again() -> None:
    walk = walk_at(TODAY - 3, whole=False)
    state = all_seen(2 * HOUR, walks=(walk,))
    page = PageRead(NOW, 1, [NOW - timedelta(days=5)], "next", handled=True)
    after = state.after(walk, page, NOW)
    assert after.tried == {TODAY - 3: NOW}
    assert {day for day, at in after.seen.items() if at == NOW - HOUR} == {TODAY - 4}

    again = walk_at(TODAY - 3)
    read = replace(after, walks=(again,)).after(again, page, NOW)
    assert read.tried == {}
    assert {day for day, at in read.seen.items() if at == NOW - HOUR} == {TODAY - 4, TODAY - 3}


def test_a_walk_whose_page_fails_is_kept_with_its_count_until_it_is_given_up() -> None:
    walk, other = walk_at(TODAY - 3), walk_at(TODAY - 9)
    state = all_seen(HOUR, walks=(other, walk))

    assert state.after_failure(walk).walks == (other, replace(walk, failures=1))
    given_up = state.without(walk, NOW)
    assert (given_up.walks, given_up.tried) == ((other,), {TODAY - 3: NOW})


def test_what_a_clock_a_little_ahead_has_written_counts() -> None:
    ahead = NOW + CLOCK_SKEW - timedelta(seconds=1)
    state = all_seen(HOUR, began=ahead, tried={TODAY: ahead})
    state = replace(state, seen={**state.seen, TODAY: ahead})

    assert SweepState.from_item(state.item(), "account", NOW) == state


def test_at_the_lists_end_all_older_days_have_been_read() -> None:
    walk = walk_at(TODAY - 3)
    state = all_seen(2 * HOUR, walks=(walk,))
    last = PageRead(NOW, 1, [NOW - timedelta(days=4)], None, handled=True)
    after = state.after(walk, last, NOW)

    seen_again = {day for day, at in after.seen.items() if at > NOW - 2 * HOUR}
    assert seen_again == set(range(OLDEST, TODAY - 2))
    assert after.walks == ()


def test_every_day_that_a_walk_has_left_behind_unread_counts_as_tried() -> None:
    walk = walk_at(TODAY - 3, whole=False, older_since=rfc3339(NOW - HOUR), older_whole=False)
    page = PageRead(NOW, 1, [NOW - timedelta(days=6)], "next", handled=True)

    after = all_seen(HOUR, walks=(walk,)).after(walk, page, NOW)
    assert set(after.tried) == {TODAY - 5, TODAY - 4, TODAY - 3}


def test_a_walk_goes_on_for_the_days_before_it_and_not_for_those_of_the_next_walk() -> None:
    behind, ahead = walk_at(OLDEST + 5), walk_at(OLDEST + 6)
    state = all_seen(HOUR, walks=(ahead, behind))
    late = replace(state, seen={**state.seen, OLDEST + 5: NOW - timedelta(days=14)})

    assert late.planned(NOW, 0, any_day=False).walks == (behind,)
