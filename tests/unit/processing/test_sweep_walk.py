"""A walk counts a day as read only when every refund of the day was handled."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from tests.support.builders import NOW

from refunds.domain.clock import rfc3339
from refunds.domain.refund import SWEEP_BACK
from refunds.processing.sweep_walk import PageRead, Walk, day_of

TODAY = day_of(NOW)
OLDEST = TODAY - 180


def at(days_ago: int, hour: int = 12) -> datetime:
    return NOW.replace(hour=hour) - timedelta(days=days_ago)


def page(*created: datetime, last: bool = False, handled: bool = True) -> PageRead:
    return PageRead(NOW, len(created), created, None if last else "next", handled=handled)


def in_the_middle_of(day: int, *, whole: bool = True, dated: bool = True) -> Walk:
    return Walk(rfc3339(at(180)), cursor="c", day=day, since=rfc3339(NOW), whole=whole, dated=dated)


def test_a_gateway_whose_clock_is_ahead_at_midnight_does_not_spoil_the_newest_day() -> None:
    before_midnight = NOW.replace(hour=23, minute=59)
    walk = Walk.from_top(before_midnight)
    moved = walk.after(page(before_midnight + timedelta(minutes=2), before_midnight))

    assert moved.whole
    assert moved.day == TODAY + 1


@pytest.mark.parametrize(
    ("whole", "dated", "days"),
    [
        (True, True, range(OLDEST, TODAY + 1)),
        (True, False, range(OLDEST, TODAY + 1)),
        # Of the day in whose middle it began it knows only a part.
        (False, True, range(OLDEST, TODAY)),
        (False, False, range(0)),
    ],
)
def test_at_the_lists_end_the_days_below_count_as_read(
    whole: bool, dated: bool, days: range
) -> None:
    walk = in_the_middle_of(TODAY, whole=whole, dated=dated)

    assert walk.days_read_at_end(page(last=True), OLDEST) == days


def test_a_walk_that_is_nowhere_yet_has_read_no_day_at_the_lists_end() -> None:
    walk = Walk(rfc3339(at(180)), cursor="c")

    assert walk.days_read_at_end(page(at(3), last=True), OLDEST) == range(0)


def test_a_last_page_with_a_newer_refund_was_not_the_lists_end() -> None:
    walk = in_the_middle_of(TODAY - 5)

    assert walk.days_read_at_end(page(at(5), last=True), OLDEST)
    assert not walk.days_read_at_end(page(at(4), last=True), OLDEST)


@pytest.mark.parametrize("failing", [1, 2], ids=["the page that shows it first", "the one after"])
def test_an_older_day_that_begins_on_a_page_that_was_not_handled_is_not_read(failing: int) -> None:
    """Both pages still have refunds of the newer day, so the walk stays there."""
    walk = in_the_middle_of(TODAY)
    for number in (1, 2):
        walk = walk.after(page(at(0), at(1), handled=number != failing))
    assert walk.day == TODAY
    older = walk.after(page(at(1)))
    oldest = older.after(page(at(2)))

    assert (older.day, older.whole) == (TODAY - 1, False)
    assert TODAY - 1 not in older.days_read(oldest)


def test_an_older_day_that_begins_on_a_handled_page_is_read_from_there() -> None:
    walk = in_the_middle_of(TODAY).after(page(at(0), at(1)))
    older = walk.after(page(at(1)))

    assert list(walk.days_read(older)) == [TODAY]
    assert list(older.days_read(older.after(page(at(2))))) == [TODAY - 1]


def test_a_day_of_whose_middle_it_began_does_not_count_and_the_empty_days_below_do() -> None:
    walk = in_the_middle_of(TODAY, whole=False)

    assert list(walk.days_read(walk.after(page(at(4))))) == [TODAY - 3, TODAY - 2, TODAY - 1]


def test_a_page_that_was_not_handled_spoils_its_own_day_only() -> None:
    walk = in_the_middle_of(TODAY).after(page(at(0), handled=False))
    older = walk.after(page(at(1)))
    assert list(walk.days_read(older)) == []

    assert list(older.days_read(older.after(page(at(2))))) == [TODAY - 1]


def test_an_empty_page_says_nothing_about_dates() -> None:
    assert in_the_middle_of(TODAY).after(page()).dated
    undated = PageRead(NOW, 1, [], "next", handled=True)
    assert not in_the_middle_of(TODAY).after(undated).dated


def test_a_page_that_was_read_ends_the_failures_and_tries_before_it() -> None:
    walk = replace(in_the_middle_of(TODAY), failures=2, tries=1)
    moved = walk.after(page(at(0)))

    assert (moved.failures, moved.tries) == (0, 0)


def test_a_walk_that_began_where_nobody_knows_does_not_count_for_its_first_day() -> None:
    walk = Walk(rfc3339(at(180)), cursor="c").after(page(at(3)))
    older = walk.after(page(at(4)))

    assert (walk.day, walk.whole) == (TODAY - 3, False)
    assert list(walk.days_read(older)) == []
    assert list(older.days_read(older.after(page(at(5))))) == [TODAY - 4]


def test_no_day_below_counts_after_an_older_refund_that_was_not_handled() -> None:
    walk = in_the_middle_of(TODAY).after(page(at(0), at(1), handled=False))

    assert list(walk.days_read(walk.after(page(at(4))))) == []


def test_a_newer_refund_than_the_walk_is_at_spoils_its_day() -> None:
    assert not in_the_middle_of(TODAY - 1).after(page(at(0))).whole


def test_a_walk_from_today_has_no_bound() -> None:
    """The day is not over: refunds may still be made."""
    assert Walk.from_day(TODAY, NOW) == Walk.from_top(NOW)
    assert Walk.from_top(NOW).created_from == rfc3339(NOW - SWEEP_BACK)
    assert Walk.from_day(TODAY - 1, NOW).created_before == rfc3339(NOW.replace(hour=0, minute=0))
