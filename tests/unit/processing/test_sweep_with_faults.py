"""No page, no date and no clock that is wrong keeps other refunds from being looked at."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import pytest
from tests.support.builders import NOW, FakeClock
from tests.support.swept_lists import Listed, Sweeping, SweptList, SweptPeriods

from refunds.domain.clock import rfc3339
from refunds.domain.refund import SWEEP_BACK, Status
from refunds.gateways.contract import GatewayRefund, GatewayUnavailableError
from refunds.processing import reversal_sweep
from refunds.processing.reversal_sweep import MAX_PAGE_TRIES, SAVE_EVERY_SECONDS

KINDS = [SweptList, SweptPeriods]
DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def only_what_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reversal_sweep, "IDLE_PAGES", 0)


def sweeping(kind: type[SweptList], refunds: int = 300, days: int = 30) -> Sweeping:
    gateway = kind(FakeClock())
    for number in range(refunds):
        gateway.add(NOW - timedelta(days=days) * (number / refunds)).listed_at = NOW
    made = Sweeping(gateway, pages_at_once=2)
    made.run()  # Nothing is due yet: it notes when the sweep began.
    return made


def poisoned_rows(made: Sweeping, days: Collection[date]) -> Callable[..., dict[str, Status]]:
    """``statuses`` that fails for each page with a refund of one of the days."""
    statuses = made.table.statuses
    bad = {f"r{row.number}" for row in made.gateway.rows if row.created.date() in days}

    def fails(refund_ids: Any, *, complete: bool) -> dict[str, Status]:
        if bad & set(refund_ids):
            raise RuntimeError("a row that can't be handled")
        return statuses(refund_ids, complete=complete)

    return fails


def poisoned_pages(made: Sweeping, days: Collection[date]) -> Callable[..., Any]:
    """A gateway that can't show any page with a refund of one of the days."""
    list_refunds = made.gateway.list_refunds

    def fails(deadline: Any, **asked: Any) -> Any:
        page = list_refunds(deadline, **asked)
        if any(each.created_at and each.created_at.date() in days for each in page.refunds):
            raise GatewayUnavailableError("HTTP 500")
        return page

    return fails


@pytest.mark.parametrize(
    ("kind", "poison"),
    [(SweptList, "rows"), (SweptPeriods, "rows"), (SweptPeriods, "pages")],
)
def test_as_many_bad_days_as_pages_are_read_at_once_keep_no_other_day_waiting(
    kind: type[SweptList], poison: str
) -> None:
    made = sweeping(kind)
    bad_days = {(NOW - age * DAY).date() for age in (3, 9, 15, 21)}
    if poison == "rows":
        made.table.statuses = poisoned_rows(made, bad_days)  # type: ignore[method-assign]
    else:
        made.gateway.list_refunds = poisoned_pages(made, bad_days)  # type: ignore[method-assign]
    next_to_bad = {each + offset * DAY for each in bad_days for offset in (-1, 0, 1)}
    for _ in range(3 * 96):
        result = made.run(60)
        made.gateway.clock.advance(seconds=840)
    now = made.gateway.clock.now()
    others = [row for row in made.gateway.rows if row.created.date() not in next_to_bad]
    assert len(others) > 100
    for row in others:
        if row.created > now - 29 * DAY:
            assert now - max(row.looked_at, row.created) < timedelta(hours=25), row
    assert result.behind_seconds
    made.check_state()


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_that_fails_at_first_costs_its_day_nothing(kind: type[SweptList]) -> None:
    made = sweeping(kind)
    statuses, fails = made.table.statuses, [True] * (MAX_PAGE_TRIES - 1)

    def sometimes(refund_ids: Any, *, complete: bool) -> dict[str, Status]:
        if len(made.gateway.asked) > 7 and fails:
            fails.pop()
            raise RuntimeError("throttled")
        return statuses(refund_ids, complete=complete)

    made.gateway.clock.advance(days=1)
    made.table.statuses = sometimes  # type: ignore[method-assign]
    result = made.run(240)

    assert (fails, result.failed) == ([], MAX_PAGE_TRIES - 1)
    assert {(NOW - age * DAY).toordinal() for age in range(30)} <= made.state().seen.keys()
    assert made.state().tried == {}
    made.check_state()


def test_a_day_that_could_not_be_handled_is_read_again_within_the_hour() -> None:
    made = sweeping(SweptPeriods)
    made.gateway.clock.advance(days=1)
    bad_day = NOW.date() - 5 * DAY
    statuses = made.table.statuses
    made.table.statuses = poisoned_rows(made, {bad_day})  # type: ignore[method-assign]
    made.run(240)
    assert bad_day.toordinal() not in made.state().seen
    made.table.statuses = statuses  # type: ignore[method-assign]
    made.gateway.clock.advance(minutes=5)
    made.run(240)
    assert bad_day.toordinal() not in made.state().seen
    made.gateway.clock.advance(minutes=45)
    made.run(240)
    assert bad_day.toordinal() in made.state().seen
    assert made.state().tried == {}


@pytest.mark.parametrize("kind", KINDS)
def test_a_clock_that_was_days_ahead_hides_nothing(kind: type[SweptList]) -> None:
    made = sweeping(kind)
    clock, now = made.gateway.clock, NOW + DAY
    clock.set(now + 9 * DAY)
    made.run(15)
    clock.set(now)

    assert made.state().seen == {}
    assert made.state().walks == ()
    assert made.state().unseen(now)["recent"] >= DAY
    made.run(240)
    assert made.state().behind(clock.now()) == timedelta(0)
    made.check_state()


def test_a_clock_ahead_does_not_say_when_the_sweep_began() -> None:
    made = sweeping(SweptPeriods)
    made.run(240)
    made.kept.item = {**made.kept.item, "began": rfc3339(NOW + 9 * DAY)}

    assert made.state().behind(made.gateway.clock.now()) > 100 * DAY


def dated(made: Sweeping, wrong: Callable[[Listed], bool], back: timedelta) -> None:
    """The gateway dates some refunds too early."""
    shown = made.gateway._shown

    def shows(row: Listed) -> GatewayRefund:
        there = shown(row)
        return replace(there, created_at=row.created - back) if wrong(row) else there

    made.gateway._shown = shows  # type: ignore[method-assign]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", range(10))
def test_an_old_date_anywhere_on_a_page_is_not_where_the_list_is(
    kind: type[SweptList], place: int
) -> None:
    """The last place too: the rest of the page says nothing about what comes after it."""
    made = sweeping(kind, refunds=400, days=160)
    stray = len(made.gateway.rows) - 20 - place
    dated(made, lambda row: row is made.gateway.rows[stray], timedelta(days=100))
    made.gateway.clock.advance(days=20)
    for _ in range(4):
        made.run(8)
        made.check_state()
        assert all(
            walk.day is None or walk.day > NOW.toordinal() - 120 for walk in made.state().walks
        )
    made.run(240)
    made.check_state()
    assert made.state().behind(made.gateway.clock.now()) == timedelta(0)


def test_a_list_that_goes_on_beyond_what_was_asked_for_is_read_no_further() -> None:
    """It may begin a few hours too early. A date that is older still counts as none."""

    class NoBound(SweptList):
        def list_refunds(self, deadline: Any, **asked: Any) -> Any:
            return super().list_refunds(deadline, **asked | {"created_from": NOW - 400 * DAY})

    made = Sweeping(NoBound(FakeClock()), pages_at_once=1)
    for number in range(20):
        made.gateway.add(NOW - number * DAY)
    for number in range(1, 401):
        made.gateway.add(NOW - SWEEP_BACK - number * timedelta(hours=1))
    made.kept.item = {"format": 0}  # Nothing is known, so every day is due.
    made.run(240)

    pages_within, pages_until_the_day_before = 2, 2
    assert len(made.gateway.asked) == pages_within + pages_until_the_day_before
    assert made.state().walks == ()


# What fails beside the pages


def test_a_state_that_cant_be_loaded_fails_this_sweep_and_no_other() -> None:
    made = sweeping(SweptList)
    made.gateway.clock.advance(days=1)
    other = SweptList(made.gateway.clock, name="acme")
    made.gateways = [made.gateway, other]
    load = made.kept.sweep

    def fails(gateway: str) -> Any:
        if gateway == "flair":
            raise RuntimeError("throttled")
        return load(gateway)

    made.kept.sweep = fails  # type: ignore[method-assign]
    result = made.run(240)

    assert (result.failed, result.complete, result.behind_seconds) == (1, False, None)
    assert [failure.name for failure in result.failures] == ["RuntimeError"]
    assert other.asked


@pytest.mark.parametrize("failing", [1, 2], ids=["between pages", "at the end"])
def test_a_state_that_cant_be_saved_is_a_failure_and_what_was_read_counts(failing: int) -> None:
    made = sweeping(SweptList, refunds=30)
    made.pages_at_once = 1
    made.gateway.clock.advance(days=1)
    made.gateway.page_seconds = SAVE_EVERY_SECONDS if failing == 1 else 0.0
    save, saved = made.kept.set_sweep, list[str]()

    def fails(gateway: str, item: Any) -> None:
        saved.append(gateway)
        if len(saved) == 1:
            raise RuntimeError("throttled")
        save(gateway, item)

    made.kept.set_sweep = fails  # type: ignore[method-assign]
    result = made.run(240)

    assert result.failed == 1
    assert [failure.name for failure in result.failures] == ["RuntimeError"]
    assert result.pages


def test_the_state_is_saved_every_ten_seconds_and_at_the_end() -> None:
    """A run that is killed reads again what it read since."""
    made = sweeping(SweptList, refunds=120)
    made.pages_at_once = 1
    made.gateway.clock.advance(days=1)
    made.gateway.page_seconds = SAVE_EVERY_SECONDS / 2
    save, pages_at_save = made.kept.set_sweep, list[int]()

    def counted(gateway: str, item: Any) -> None:
        pages_at_save.append(len(made.gateway.asked) - asked)
        save(gateway, item)

    made.kept.set_sweep = counted  # type: ignore[method-assign]
    asked = len(made.gateway.asked)
    assert made.run(240).pages == 12
    assert pages_at_save == [2, 4, 6, 8, 10, 12, 12]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(4))
def test_what_the_state_says_was_looked_at_was_whatever_the_dates(
    kind: type[SweptList], seed: int
) -> None:
    made = sweeping(kind, refunds=300, days=60)
    dice = made.gateway.dice
    dice.seed(seed)
    dated(made, lambda row: row.number % 23 == seed, timedelta(days=20 + 25 * seed))
    made.table.fails, made.gateway.unavailable = 0.2, 0.05
    for _ in range(40):
        made.run(dice.choice([20, 40, 120]))
        made.check_state()
        made.gateway.clock.advance(seconds=dice.choice([300, 7200, 86_400, 3 * 86_400]))
        for _ in range(dice.randrange(8)):
            made.gateway.add(made.gateway.clock.now() - timedelta(seconds=dice.choice([0, 60])))
