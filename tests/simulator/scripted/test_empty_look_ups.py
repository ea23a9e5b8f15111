"""A look-up by reference that lags behind the gateway's lists, or stays empty for ever."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import pytest
from tests.simulator.gateway_records import Moved
from tests.simulator.scripted.test_sweep import only_what_is_due
from tests.simulator.scripting import (
    HIDDEN,
    HOUR,
    MINUTE,
    correct,
    crash_at,
    decide,
    deliver_again,
    fail_here_and_pay_there,
    lose_row,
    paid,
    reconcile_hourly,
    remaining,
    request,
    script_faults,
    status,
    world,
)
from tests.simulator.sqs import DAY
from tests.simulator.world import World

from refunds.domain.refund import Status

EMPTY_LOOK_UPS = {"gateway hides refunds": 1.0}


def paid_and_sent_back(*, doubled: bool = False) -> World:
    """r1 is paid, and the bank sends it back. ``doubled``: the gateway made a second one, which
    stays paid."""
    made = world()
    script_faults(made, gateway_doubles_a_refund=[doubled])
    made.send(request())
    made.run_for(MINUTE)
    made.flair.fail(made.flair.refunds[0], "account_closed")
    return made


def test_a_reversal_that_no_look_up_ever_shows_is_seen_in_the_payments_list() -> None:
    made = paid_and_sent_back()
    made.kernel.fault_rates = EMPTY_LOOK_UPS
    reconcile_hourly(made, 1)
    assert (status(made), remaining(made)) == ("REVERSED", 1000)
    made.settle()


def test_a_reversal_that_only_the_accounts_list_shows_has_an_alarm_until_it_is_recorded() -> None:
    made = paid_and_sent_back()
    made.kernel.fault_rates = HIDDEN
    made.reconcile()
    with only_what_is_due():
        made.run_for(DAY)
        for _ in range(2):
            reconcile_hourly(made, 4)
            assert (status(made), made.watch.board.on("SweepErrors")) == ("SUCCEEDED", True)
        made.kernel.fault_rates = EMPTY_LOOK_UPS
        reconcile_hourly(made, 2)
    assert (status(made), remaining(made)) == ("REVERSED", 1000)
    made.settle()


@pytest.mark.parametrize("hidden", [EMPTY_LOOK_UPS, HIDDEN])
def test_a_double_that_no_look_up_shows_keeps_its_refund_from_being_reversed(
    hidden: dict[str, float],
) -> None:
    made = paid_and_sent_back(doubled=True)
    made.kernel.fault_rates = hidden
    reconcile_hourly(made, 2)
    assert (status(made), remaining(made)) == ("SUCCEEDED", 700)


def test_a_row_that_cant_be_read_may_be_the_double() -> None:
    made = paid_and_sent_back(doubled=True)
    made.kernel.fault_rates = EMPTY_LOOK_UPS
    shown, double = made.flair._shown, made.flair.refunds[1]

    def unreadable(moved: Moved) -> dict[str, Any]:
        return shown(moved) | ({"amount": "much"} if moved is double else {})

    with patch.object(made.flair, "_shown", unreadable):
        reconcile_hourly(made, 2)
    assert (status(made), remaining(made)) == ("SUCCEEDED", 700)


def test_what_is_paid_there_stays_in_sight_although_no_look_up_shows_it() -> None:
    made = world()
    fail_here_and_pay_there(made)
    made.kernel.fault_rates = EMPTY_LOOK_UPS
    reconcile_hourly(made, 1)
    with only_what_is_due():
        for _ in range(12):
            assert "seen_paid_at" in made.refunds.items[("r1",)]
            reconcile_hourly(made, 1)


def test_a_review_ends_when_only_the_payments_list_shows_the_refund() -> None:
    made = in_review_and_paid()
    made.kernel.fault_rates = EMPTY_LOOK_UPS
    reconcile_hourly(made, 2)
    assert (status(made), paid(made)) == ("SUCCEEDED", 1)
    made.settle()
    assert made.kernel.counts["reviews"] == 0


def in_review_and_paid() -> World:
    made = world()
    script_faults(made, network_loses_the_answer=[0, 1])
    made.send(request())
    made.run_for(1)
    made.kernel.fault_rates = HIDDEN | {"gateway takes no orders": 1.0}
    made.run_for(25 * HOUR)
    made.reconcile()
    made.run_for(10 * MINUTE)
    assert (status(made), paid(made)) == ("IN_REVIEW", 1)
    return made


def test_a_person_is_told_what_the_payments_list_shows() -> None:
    made = in_review_and_paid()
    made.kernel.fault_rates = EMPTY_LOOK_UPS
    decide(made, Status.FAILED)
    made.run_for(10 * MINUTE)
    review = made.refunds.items[("r1",)]["review"]["M"]
    assert review["against_gateway"] == {"S": "true"}
    assert remaining(made) == 700  # what has moved is not given back


def test_an_old_reversal_is_seen_although_the_first_look_shows_nothing() -> None:
    made = world()
    made.send(request())
    made.run_for(MINUTE)
    lose_row(made)
    made.flair.fail(made.flair.refunds[0], "account_closed")
    made.run_for(200 * DAY)
    deliver_again(made)
    made.kernel.fault_rates = HIDDEN
    reconcile_hourly(made, 2)
    assert status(made) == "SUCCEEDED"
    made.kernel.fault_rates = {}
    reconcile_hourly(made, 2)
    assert (status(made), remaining(made)) == ("REVERSED", 1000)
    made.settle()


def test_an_old_refund_that_the_gateway_no_longer_shows_is_closed_within_a_day() -> None:
    made = world()
    made.send(request())
    made.run_for(MINUTE)
    lose_row(made)
    made.run_for(200 * DAY)
    deliver_again(made)
    made.kernel.fault_rates = HIDDEN
    reconcile_hourly(made, 24)
    assert status(made) == "SUCCEEDED"
    assert "open_shard" not in made.refunds.items[("r1",)]


def test_a_corrected_refund_that_is_sent_back_gives_its_money_back_for_good() -> None:
    made = world()
    fail_here_and_pay_there(made)
    crash_at(made, "dynamodb update Refunds, done")
    correct(made)
    made.run_for(10 * MINUTE)
    webhook_before(made, "dynamodb update Ledger")
    reconcile_hourly(made, 3)
    assert (status(made), remaining(made)) == ("REVERSED", 1000)
    assert made.ledger.items[("tx1",)]["r#r1"] == {"N": "0"}


def webhook_before(made: World, name: str) -> None:
    """The bank sends r1 back and a webhook says so, before the next such step."""
    step, done = made.kernel.step, list[bool]()

    def late(each: str, seconds: float, of: str = "") -> None:
        if each == name and not done:
            done.append(True)
            made.flair.fail(made.flair.refunds[-1], "account_closed")
            made.functions.invoke(
                "reconcile",
                lambda env, deadline: env.reconcile_refunds.handle({"look_at": "r1"}, deadline),
                lambda result: None,
                lambda: None,
            )
            made.kernel.pause(20)
        step(each, seconds, of)

    setattr(made.kernel, "step", late)  # noqa: B010  # to a method's place
