"""A review that the gateway may still answer: asked about less often, and never forgotten."""

from __future__ import annotations

from tests.simulator.scripting import (
    HOUR,
    MINUTE,
    attribute,
    reconcile_hourly,
    remaining,
    request,
    status,
    world,
)
from tests.simulator.world import World

HIDDEN = {"gateway hides refunds": 1.0}


def old_review(days: int = 4) -> World:
    """The gateway said pending, then hid the refund, and nobody has decided for days."""
    made = world()
    made.kernel.trace = None
    made.flair.stubborn["r1"] = "pending"
    made.send(request())
    made.run_for(MINUTE)
    made.kernel.fault_rates = HIDDEN
    reconcile_hourly(made, 27)
    assert status(made) == "IN_REVIEW"
    for _ in range(4 * days):
        made.reconcile()
        made.run_for(6 * HOUR)
    return made


def show_it_again(made: World) -> None:
    made.kernel.fault_rates = {}
    made.flair.fail(made.flair.refunds[0], "bank_refused")


def hours_until_settled(made: World, at_most: int) -> int:
    for hours in range(at_most + 1):
        if status(made) != "IN_REVIEW":
            assert (status(made), remaining(made)) == ("FAILED", 1000)
            return hours
        reconcile_hourly(made, 1)
    raise AssertionError(f"still in review after {at_most} hours")


def test_the_gateway_is_asked_less_often_and_its_answer_still_counts() -> None:
    made = old_review()
    asked = set()
    for _ in range(24):
        reconcile_hourly(made, 1)
        asked.add(attribute(made, "asked_at"))
    assert len(asked) in (5, 6)  # not 24
    show_it_again(made)
    assert hours_until_settled(made, 6) > 0
    made.settle()


def test_a_day_of_outage_costs_a_review_an_hour_and_not_a_turn() -> None:
    made = old_review(10)
    made.kernel.fault_rates = {"gateway says 503": 1.0}
    asked_at = attribute(made, "asked_at")
    reconcile_hourly(made, 24)
    assert (status(made), attribute(made, "asked_at")) == ("IN_REVIEW", asked_at)
    show_it_again(made)
    assert hours_until_settled(made, 2) > 0
    made.settle()


def test_a_webhook_asks_at_once() -> None:
    made = old_review()
    reconcile_hourly(made, 1)
    show_it_again(made)
    made.functions.invoke(
        "reconcile",
        lambda env, deadline: env.reconcile_refunds.handle({"look_at": "r1"}, deadline),
        lambda result: None,
        lambda: None,
    )
    made.run_for(MINUTE)
    assert (status(made), remaining(made)) == ("FAILED", 1000)
    made.settle()


def test_a_clock_that_was_days_ahead_does_not_silence_the_questions() -> None:
    made = old_review()
    item = made.refunds.items[("r1",)]
    made.refunds.write(("r1",), item | {"asked_at": {"S": "2027-01-01T00:00:00.000000Z"}})
    show_it_again(made)
    assert hours_until_settled(made, 1) > 0
    made.settle()
