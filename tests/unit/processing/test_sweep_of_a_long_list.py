"""The sweep skips nothing silently, whatever fails and however the list changes meanwhile."""

from __future__ import annotations

import random
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.support.builders import NOW, FakeClock
from tests.support.swept_lists import CrashError, Listed, Sweeping, SweptList, SweptPeriods

from refunds.gateways.contract import GatewayRefund, GatewayUnavailableError
from refunds.processing import reversal_sweep
from refunds.processing.reversal_sweep import ReversalSweep, SweepResult
from refunds.processing.sweep_plan import SweepState
from refunds.processing.sweep_walk import Walk

KINDS = [SweptList, SweptPeriods]


def sweeping(kind: type[SweptList], refunds: int = 400, days: int = 60) -> Sweeping:
    gateway = kind(FakeClock())
    for number in range(refunds):
        gateway.add(NOW - timedelta(days=days) * (number / refunds)).listed_at = NOW
    return Sweeping(gateway)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(8))
def test_what_the_state_says_was_looked_at_was(
    kind: type[SweptList], seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reversal_sweep, "IDLE_PAGES", 2)
    made = sweeping(kind, refunds=200)
    gateway, dice = made.gateway, random.Random(seed)
    gateway.dice, made.kept.dice = dice, dice
    gateway.unavailable, made.table.fails, made.kept.crashes = 0.1, 0.1, 0.1
    # Several days pass at once, so that much is due.
    for _ in range(40):
        with suppress(CrashError):
            made.run(dice.choice([20, 40, 120]))
        made.check_state()
        gateway.clock.advance(seconds=dice.choice([300, 7200, 86_400, 5 * 86_400]))
        for _ in range(dice.randrange(8)):
            # The list may show a refund later than it was made.
            gateway.add(gateway.clock.now() - timedelta(seconds=dice.choice([0, 60, 100_000])))
        if dice.random() < 0.1:
            gateway.expired = gateway.cursors
    gateway.unavailable = made.table.fails = made.kept.crashes = 0.0
    for _ in range(20):
        made.run(240)
        gateway.clock.advance(seconds=300)
    made.check_state()
    assert made.state().behind(gateway.clock.now()) == timedelta(0)
    recent = [row for row in gateway.rows if row.created > gateway.clock.now() - timedelta(days=29)]
    for row in recent:
        assert gateway.clock.now() - max(row.looked_at, row.created) <= timedelta(days=1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_list_that_does_not_date_its_refunds_counts_as_read_at_its_end(
    kind: type[SweptList],
) -> None:
    made = sweeping(kind)
    made.gateway.dated = False
    made.run(40)
    assert made.state().seen == {}
    made.run(240)

    assert made.state().unseen(made.gateway.clock.now())["older"] < timedelta(minutes=5)
    made.check_state()


def test_a_short_list_is_read_in_every_run() -> None:
    made = sweeping(SweptList)
    for _ in range(2):
        result = made.run(240)
        assert (result.pages, result.complete) == (40, True)


def test_a_run_without_time_for_a_page_is_not_complete() -> None:
    made = sweeping(SweptList)
    result = made.run(10)

    assert (result.pages, result.complete) == (0, False)
    made.gateway.rows.clear()
    assert made.run(60).complete


def test_a_long_list_is_read_a_few_pages_at_a_time_as_long_as_nothing_is_due() -> None:
    made = sweeping(SweptList, refunds=2000)
    result = made.run(240)

    assert (result.pages, result.complete) == (reversal_sweep.IDLE_PAGES, False)


def test_what_is_due_takes_all_the_time_that_is_left() -> None:
    made = sweeping(SweptList, refunds=2000)
    made.run(30)
    made.gateway.clock.advance(days=1)
    result = made.run(240)

    recent_pages, page_that_shows_their_end = 100, 2
    assert result.pages == recent_pages + page_that_shows_their_end + reversal_sweep.IDLE_PAGES


@pytest.mark.parametrize(("kind", "side_by_side"), [(SweptList, 2), (SweptPeriods, 3)])
def test_parts_of_the_list_are_read_side_by_side_where_it_can_begin_at_any_day(
    kind: type[SweptList], side_by_side: int
) -> None:
    made = sweeping(kind, refunds=2000)
    made.run(20)
    made.gateway.clock.advance(days=1)
    made.run(20)

    assert len(made.state().walks) == side_by_side


def test_walks_follow_each_other_down_a_list_that_begins_at_the_newest_refund() -> None:
    made = sweeping(SweptList, refunds=4000, days=30)
    made.run(20)
    walks: list[int] = []
    for _ in range(4):
        made.gateway.clock.advance(hours=20)
        made.run(150)
        walks.append(len(made.state().walks))

    assert walks == [1, 2, 3, 3]
    made.check_state()


def test_a_gateway_that_turns_pages_away_is_asked_one_at_a_time() -> None:
    made = sweeping(SweptPeriods, refunds=2000)
    made.run(20)
    made.gateway.clock.advance(days=1)
    made.gateway.unavailable = 1.0
    asked = len(made.gateway.asked)
    result = made.run(240)

    assert len(made.gateway.asked) - asked == 3 + 1
    assert result.failed == 4


def test_a_list_that_does_not_go_on_is_a_failure_and_not_an_end() -> None:
    made = sweeping(SweptList)
    page = made.gateway.list_refunds

    def stuck(deadline, *, created_from, cursor=None):  # type: ignore[no-untyped-def]
        shown = page(deadline, created_from=created_from, cursor=cursor)
        return shown if cursor is None else type(shown)(shown.refunds, cursor)

    made.gateway.list_refunds = stuck  # type: ignore[method-assign,assignment]
    result = made.run(240)

    assert (result.pages, result.failed, result.complete) == (1, 1, False)


def test_a_list_that_is_not_newest_first_never_counts_as_read_in_time() -> None:
    made = sweeping(SweptList)
    made.run(240)
    page = made.gateway.list_refunds

    def shuffled(deadline, *, created_from, cursor=None):  # type: ignore[no-untyped-def]
        shown = page(deadline, created_from=created_from, cursor=cursor)
        return type(shown)(
            (*shown.refunds, made.gateway._shown(made.gateway.rows[-1])), shown.next_cursor
        )

    made.gateway.list_refunds = shuffled  # type: ignore[method-assign,assignment]
    made.gateway.clock.advance(days=3)
    made.run(240)

    assert made.state().behind(made.gateway.clock.now()) >= timedelta(days=1)


def test_the_state_of_the_release_before_is_continued() -> None:
    """Format 1: ``created_from``, ``cursor`` and ``failures``."""
    made = sweeping(SweptList)
    made.run(30)
    (walk,) = made.state().walks
    made.kept.item = {
        "transaction_id": "#sweep#flair",
        "created_from": walk.created_from,
        "cursor": walk.cursor,
        "failures": 1,
    }
    asked = len(made.gateway.asked)
    result = made.run(240)

    assert made.gateway.asked[asked] == walk.cursor
    assert result.complete
    # It was in the middle of a day, and of the days before that it knows nothing.
    made.check_state()
    newest = made.gateway.rows[-1].created.toordinal()
    assert newest not in made.state().seen


def test_the_state_of_the_release_before_is_kept_until_a_page_was_read() -> None:
    made = sweeping(SweptList)
    made.kept.item = {"created_from": Walk.from_top(NOW).created_from, "cursor": "c", "failures": 0}
    made.gateway.unavailable = 1.0
    made.run(240)

    assert [walk.cursor for walk in made.state().walks] == ["c"]


def test_the_release_before_that_between_two_passes_is_continued() -> None:
    made = sweeping(SweptList)
    began = made.gateway.clock.now() - timedelta(days=3)
    made.kept.item = {
        "created_from": Walk.from_top(began).created_from,
        "cursor": None,
        "failures": 0,
    }

    assert made.state().began == began
    assert made.run(240).complete


def test_another_account_has_another_list() -> None:
    made = sweeping(SweptList)
    made.run(30)
    assert made.state().walks
    made.gateway.account = "https://other.example"

    assert made.state() == SweepState(made.gateway.clock.now(), "https://other.example", {}, ())


def test_the_state_is_stored_as_it_is() -> None:
    made = sweeping(SweptPeriods, refunds=2000)
    made.run(20)
    made.gateway.clock.advance(days=1)
    made.run(30)
    state = made.state()

    assert len(state.walks) == 3
    now = made.gateway.clock.now()
    assert SweepState.from_item(state.item(), state.account or "", now) == state


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wrong", [datetime(1, 1, 1, tzinfo=UTC), NOW - timedelta(days=140)])
def test_a_refund_with_a_wrong_date_does_not_pass_for_the_end_of_the_list(
    kind: type[SweptList], wrong: datetime
) -> None:
    made = sweeping(kind, refunds=300, days=150)
    gateway = made.gateway
    bad, shown = gateway.rows[-5], gateway._shown

    def dated(row: Listed) -> GatewayRefund:
        return replace(shown(row), created_at=wrong) if row is bad else shown(row)

    gateway._shown = dated  # type: ignore[method-assign]
    for _ in range(10):
        result = made.run(200)
        made.check_state()
        gateway.clock.advance(days=2)

    everything_was_read = made.longest_unseen() < timedelta(days=20)
    assert everything_was_read or result.behind_seconds
    if wrong.year == 1:
        assert everything_was_read


def test_a_page_that_always_fails_keeps_no_other_day_waiting() -> None:
    made = sweeping(SweptPeriods, refunds=300, days=30)
    made.pages_at_once = 4
    gateway = made.gateway
    gateway.page_size = 2
    bad_day = (NOW - timedelta(days=20)).date()
    list_refunds = gateway.list_refunds

    def poisoned(deadline, **asked):  # type: ignore[no-untyped-def]
        page = list_refunds(deadline, **asked)
        if any(each.created_at and each.created_at.date() == bad_day for each in page.refunds):
            raise GatewayUnavailableError("HTTP 500")
        return page

    gateway.list_refunds = poisoned  # type: ignore[method-assign]
    for _ in range(2 * 48):
        result = made.run(60)
        gateway.clock.advance(seconds=1740)
    now = gateway.clock.now()
    for row in gateway.rows:
        if row.created > now - timedelta(days=29) and row.created.date() != bad_day:
            assert now - max(row.looked_at, row.created) < timedelta(hours=25)
    assert result.behind_seconds
    assert result.failed


@pytest.mark.parametrize(
    ("behind", "of_both"), [((None, 0), None), ((0, None), None), ((None, 7), 7), ((0, 0), 0)]
)
def test_what_is_unknown_of_one_gateway_is_not_hidden_by_another(
    behind: tuple[int | None, ...], of_both: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = sweeping(SweptList)
    results = iter([SweepResult(behind_seconds=each) for each in behind])
    monkeypatch.setattr(ReversalSweep, "_sweep", lambda self, gateway, turn: next(results))
    made.gateways = [made.gateway] * 2

    assert made.run().behind_seconds == of_both


def test_the_results_of_two_gateways_are_added() -> None:
    one = SweepResult(1, 2, 3, 4, 5, True, 60, {"recent": 7})
    other = SweepResult(10, 20, 30, 40, 50, False, 30, {"recent": 5, "older": 9})
    both = SweepResult(11, 22, 33, 44, 55, False, 60, {"recent": 7, "older": 9})

    assert one.plus(other) == other.plus(one) == both
    just_read = SweepResult(unseen_seconds={"recent": 0})
    assert SweepResult().plus(just_read) == just_read.plus(SweepResult()) == just_read


def test_each_gateways_list_has_an_equal_share_of_the_time() -> None:
    made = sweeping(SweptList, refunds=2000)
    lists = [made.gateway, SweptList(made.gateway.clock, name="acme", rows=made.gateway.rows)]
    made.gateways, made.kept.item = lists, {"format": 0}  # Every day of both is due.
    for each in lists:
        each.page_seconds = 4.0
    made.run(240)

    assert [len(each.asked) for each in lists] == [30, 27]


@pytest.mark.parametrize(
    "damage", [{"began": "yesterday"}, {"walks": [{"day": "x"}]}, {"seen": 5}, {"format": 99}]
)
def test_a_state_that_cant_be_read_counts_as_nothing_read(damage: dict[str, Any]) -> None:
    made = sweeping(SweptList)
    made.run(240)
    made.kept.item = {**made.kept.item, **damage}
    late = made.state().behind(made.gateway.clock.now())
    result = made.run(240)

    assert late > timedelta(days=100)
    assert (result.pages, result.failed, result.behind_seconds) == (40, 0, 0)
