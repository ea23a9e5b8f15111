"""The automatic stop: once the day's total is above StopAboveMinor, until a person resumes."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest
from tests.support.builders import NOW
from tests.support.world import World

from refunds.breaker.kill_switch import KillSwitch, StoppedError
from refunds.domain.intake import Intake, pause_intake, resume_intake, stop_intake, stop_level_minor
from refunds.tables.state import ContendedError

LATER = NOW + timedelta(hours=1)
TOMORROW = NOW + timedelta(days=1)


def at(intake: Intake, total_minor: int, now: datetime = NOW, currency: str = "EUR") -> Intake:
    return stop_intake(intake, currency, total_minor, above_minor=1000, by="f:1", now=now)


def level(intake: Intake, now: datetime = NOW, currency: str = "EUR") -> int:
    return stop_level_minor(intake, currency, above_minor=1000, now=now)


# --- The rules ------------------------------------------------------------------------------------


def test_a_total_at_the_level_flows_and_one_above_it_stops() -> None:
    assert at(Intake(), 1000) == Intake()
    held = at(Intake(), 1001)
    assert (held.paused, held.flows, held.paused_by) == (True, False, "f:1")
    assert held.paused_why == (
        "StopAboveMinor: refunds of 2026-11-23 come to 10.01 EUR, above 10.00 EUR"
    )
    assert held.history[-1]["what"] == "paused"


def test_a_resume_raises_the_level_by_a_step_above_what_was_seen_last() -> None:
    held = at(at(Intake(), 1001), 1600)
    free = resume_intake(held, "ada", "a sale, TICKET-1", LATER)
    assert not free.paused
    assert level(free) == 2600
    assert at(free, 2600) == free
    again = at(free, 2601)
    assert again.paused
    assert level(resume_intake(again, "ada", "still", LATER)) == 3601


def test_the_next_day_begins_at_the_parameter() -> None:
    free = resume_intake(at(Intake(), 1600), "ada", "a sale", LATER)
    assert level(free, TOMORROW) == 1000
    assert at(free, 1001, TOMORROW).paused


def test_each_currency_has_its_own_level() -> None:
    free = resume_intake(at(Intake(), 1600), "ada", "a sale", LATER)
    assert level(free, currency="USD") == 1000
    both = at(free, 1001, currency="USD")
    assert both.paused
    assert (level(both), level(both, currency="USD")) == (2600, 1000)


def test_a_persons_pause_stays_theirs_and_its_resume_raises_no_level() -> None:
    held = at(pause_intake(Intake(), "ada", "maintenance", NOW), 1600)
    assert (held.paused_by, held.paused_why) == ("ada", "maintenance")
    free = resume_intake(held, "ada", "over", LATER)
    assert level(free) == 1000
    assert str(at(free, 1600).paused_why).startswith("StopAboveMinor")


def test_a_resume_of_a_pause_without_a_stop_raises_nothing() -> None:
    free = resume_intake(at(Intake(), 1600), "ada", "a sale", LATER)
    again = resume_intake(pause_intake(free, "ada", "maintenance", LATER), "ada", "over", LATER)
    assert level(again) == 2600


def test_a_state_without_stops_is_stored_as_before() -> None:
    assert "stops" not in Intake().item()
    held = at(Intake(), 1600)
    assert Intake.from_item(held.item()) == held


# --- The switch -----------------------------------------------------------------------------------


@dataclass
class Switched:
    world: World
    announced: list[Intake] = field(default_factory=list)

    def switch(self) -> KillSwitch:
        return KillSwitch(
            control=self.world.control,
            clock=self.world.clock,
            stop_above={"EUR": 1000},
            by="ProcessRefund:7",
            announce=self.announced.append,
        )


def test_the_switch_pauses_once_and_stops_every_request_above_the_level(world: World) -> None:
    made = Switched(world)
    for total_minor in (1001, 1300):
        with pytest.raises(StoppedError, match="StopAboveMinor"):
            made.switch()("EUR", total_minor)
    held = world.control.intake()
    assert held.paused_by == "ProcessRefund:7"
    assert held.stops["EUR"]["total_minor"] == 1300
    assert len(made.announced) == 1
    assert len(held.history) == 1


def test_after_a_resume_what_was_put_back_goes_on(world: World) -> None:
    made = Switched(world)
    with pytest.raises(StoppedError):
        made.switch()("EUR", 1300)
    world.control.change_intake(lambda intake: resume_intake(intake, "ada", "a sale", NOW))
    made.switch()("EUR", 1300)
    made.switch()("EUR", 2300)
    assert not world.control.intake().paused
    with pytest.raises(StoppedError):
        made.switch()("EUR", 2301)


def test_a_currency_without_a_level_stops_at_once(world: World) -> None:
    with pytest.raises(StoppedError):
        Switched(world).switch()("JPY", 1)


def test_many_stopping_at_once_stop_all_the_same(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def contended(step: object) -> None:
        raise ContendedError("#intake")

    monkeypatch.setattr(world.control, "change_intake", contended)
    with pytest.raises(StoppedError):
        Switched(world).switch()("EUR", 1001)
