"""The circuit breaker's rules and its state in the table: when it opens, and how it closes."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from tests.support.builders import NOW
from tests.support.world import World

from refunds.domain.intake import (
    FAILURE_WINDOW,
    MAX_HISTORY,
    OPEN_AFTER_FAILED_PAYMENTS,
    OPEN_AT_LEAST,
    PROBE_AFTER_FAILED_PAYMENTS,
    STEP_AT_LEAST,
    BreakerState,
    Intake,
    after_probe,
    desired_mapping,
    forget_failures,
    may_probe,
    open_breaker,
    pause_intake,
    record_failures,
    resume_intake,
    should_probe,
)
from refunds.tables.state import Control

MOST = 10


# --- The rules ------------------------------------------------------------------------------------


def failing(number: int) -> list[str]:
    return [f"payment-{each}" for each in range(number)]


def breaker_that_is_open(**changes: Any) -> Intake:
    return open_breaker(Intake(**changes), "ProcessRefund:7", "HTTP 503", NOW)


def test_one_payment_that_always_fails_raises_no_doubt() -> None:
    intake = Intake()
    for _ in range(1000):
        after = record_failures(intake, ["payment-1"], NOW)
        assert not should_probe(intake, after, NOW)
        intake = after
    assert intake.failing == ("payment-1",)


def test_doubt_comes_with_five_payments_and_with_each_doubling() -> None:
    intake, doubts = Intake(), []
    for number in range(1, 50):
        after = record_failures(intake, failing(number), NOW)
        if should_probe(intake, after, NOW):
            doubts.append(number)
        intake = after
    assert doubts == [
        PROBE_AFTER_FAILED_PAYMENTS,
        2 * PROBE_AFTER_FAILED_PAYMENTS,
        4 * PROBE_AFTER_FAILED_PAYMENTS,
        8 * PROBE_AFTER_FAILED_PAYMENTS,
    ]


def test_failures_are_counted_together_for_ten_minutes_only() -> None:
    intake = record_failures(Intake(), failing(4), NOW)
    later = record_failures(intake, ["another"], NOW + FAILURE_WINDOW)
    assert later.failing == ("another",)
    assert not should_probe(intake, later, NOW + FAILURE_WINDOW)


def test_what_is_kept_of_failures_is_bounded() -> None:
    assert len(record_failures(Intake(), failing(5000), NOW).failing) == OPEN_AFTER_FAILED_PAYMENTS


def test_an_open_breaker_counts_nothing() -> None:
    intake = breaker_that_is_open()
    assert record_failures(intake, failing(3), NOW) == intake


def test_opening_twice_is_opening_once() -> None:
    intake = breaker_that_is_open()
    assert open_breaker(intake, "another", "other", NOW + timedelta(hours=1)) == intake


def test_a_gateway_that_is_down_is_not_asked_at_once() -> None:
    intake = breaker_that_is_open()
    assert not may_probe(intake, NOW + OPEN_AT_LEAST - timedelta(seconds=1))
    assert may_probe(intake, NOW + OPEN_AT_LEAST)
    assert not may_probe(Intake(), NOW)


def test_recovery_is_gradual() -> None:
    intake, now, concurrencies = breaker_that_is_open(), NOW, []
    for _ in range(10):
        concurrencies.append(desired_mapping(intake, 100))
        now += timedelta(minutes=5)
        intake = after_probe(intake, None, 100, "ReconcileRefunds:1", now)
    assert [each.concurrency for each in concurrencies if each.enabled][:5] == [2, 8, 32, 100, 100]
    assert not concurrencies[0].enabled
    assert intake.breaker is BreakerState.CLOSED


@pytest.mark.parametrize("most", [2, 3, 10, 1000])
def test_recovery_ends_closed_whatever_the_most_is(most: int) -> None:
    intake, now = breaker_that_is_open(), NOW
    for _ in range(10):
        now += STEP_AT_LEAST
        intake = after_probe(intake, None, most, "me", now)
        assert 2 <= desired_mapping(intake, most).concurrency <= most
    assert intake.breaker is BreakerState.CLOSED
    assert intake.concurrency is None


def test_recovery_ends_with_the_step_that_reaches_the_most() -> None:
    now = NOW + OPEN_AT_LEAST
    intake = after_probe(breaker_that_is_open(), None, 8, "me", now)
    assert intake.history[-1]["what"] == "breaker recovering, 2 batches at once"
    closed = after_probe(intake, None, 8, "me", now + STEP_AT_LEAST)
    assert closed.breaker is BreakerState.CLOSED
    assert closed.history[-1]["what"] == "breaker closed"


def test_a_step_of_the_recovery_takes_its_time() -> None:
    intake = after_probe(breaker_that_is_open(), None, MOST, "me", NOW + OPEN_AT_LEAST)
    at = NOW + OPEN_AT_LEAST + STEP_AT_LEAST - timedelta(seconds=1)
    assert after_probe(intake, None, MOST, "me", at) == intake


def test_recovery_waits_while_refunds_fail_and_goes_back_when_the_gateway_does() -> None:
    now = NOW + OPEN_AT_LEAST
    intake = after_probe(breaker_that_is_open(), None, MOST, "me", now)
    doubted = record_failures(intake, failing(2), now)
    assert after_probe(doubted, None, MOST, "me", now + STEP_AT_LEAST) == doubted
    again = after_probe(doubted, "HTTP 503", MOST, "me", now + STEP_AT_LEAST)
    assert again.breaker is BreakerState.OPEN
    assert again.failing == ()


def test_neither_switch_moves_the_other() -> None:
    held = pause_intake(breaker_that_is_open(), "jo", "maintenance", NOW)
    closed = held
    for minutes in range(5, 60, 5):
        closed = after_probe(closed, None, MOST, "me", NOW + timedelta(minutes=minutes))
    assert closed.breaker is BreakerState.CLOSED
    assert not desired_mapping(closed, MOST).enabled
    free = resume_intake(held, "jo", "done", NOW)
    assert free.breaker is BreakerState.OPEN
    assert not desired_mapping(free, MOST).enabled


def test_who_paused_first_stays_named() -> None:
    intake = pause_intake(Intake(), "jo", "maintenance", NOW)
    assert pause_intake(intake, "sam", "me too", NOW) == intake
    assert (intake.paused_by, intake.paused_why) == ("jo", "maintenance")
    assert resume_intake(Intake(), "jo", "why not", NOW) == Intake()


def test_the_history_says_who_and_why_and_is_bounded() -> None:
    intake = Intake()
    for number in range(MAX_HISTORY):
        intake = resume_intake(
            pause_intake(intake, "jo", f"{number}", NOW), "sam", "x" * 10_000, NOW
        )
    assert len(intake.history) == MAX_HISTORY
    assert intake.history[-2]["by"] == "jo"
    assert intake.history[-2]["what"] == "paused"
    assert len(intake.history[-1]["why"]) == 256
    assert "on_behalf_of" not in intake.history[-1]
    held = pause_intake(intake, "jo", "why", NOW, on_behalf_of="the shop")
    assert held.history[-1]["on_behalf_of"] == held.paused_on_behalf_of == "the shop"


def test_what_is_stored_is_plain() -> None:
    item = pause_intake(record_failures(Intake(), ["p"], NOW), "jo", "why", NOW).item()
    assert type(item["breaker"]) is str
    assert item["failing"] == ["p"]
    assert [type(change) for change in item["history"]] == [dict]
    assert type(item["history"]) is list


def test_a_state_is_read_as_it_was_stored() -> None:
    full = pause_intake(record_failures(breaker_that_is_open(version=3), [], NOW), "jo", "why", NOW)
    recovering = record_failures(
        after_probe(full, None, MOST, "me", NOW + OPEN_AT_LEAST), ["p"], NOW
    )
    for intake in (Intake(), full, recovering):
        assert Intake.from_item(intake.item()) == intake
    assert Intake.from_item({}) == Intake()


# --- The state in the table -----------------------------------------------------------------------


def test_racing_functions_lose_no_change(world: World) -> None:
    other = Control(world.stack.clients.dynamodb, world.stack.ledger_table)
    meddled = False

    def step(intake: Intake) -> Intake:
        nonlocal meddled
        if not meddled:
            meddled = True
            other.change_intake(lambda there: pause_intake(there, "jo", "why", NOW))
        return open_breaker(intake, "me", "HTTP 503", NOW)

    world.control.change_intake(step)
    intake = world.control.intake()
    assert intake.paused
    assert intake.breaker is BreakerState.OPEN
    assert intake.version == 2


def test_a_change_that_changes_nothing_writes_nothing(world: World) -> None:
    there = world.stack.items(world.stack.ledger_table)
    world.control.change_intake(forget_failures)
    assert world.stack.items(world.stack.ledger_table) == there
