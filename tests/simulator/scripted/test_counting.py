"""What is left of a payment: what is moved, or may be, is never left for others."""

from __future__ import annotations

import pytest
from tests.simulator.scripting import (
    HOUR,
    MINUTE,
    attribute,
    choose_the_first,
    choose_the_last,
    correct,
    crash_at,
    deliver_again,
    fail_here_and_pay_there,
    fix_random,
    paid,
    posts,
    reconcile_hourly,
    remaining,
    request,
    request_for_rest,
    script_faults,
    status,
    world,
)
from tests.simulator.sqs import DAY
from tests.simulator.world import World


def held(made: World, refund_id: str = "r1") -> int:
    return int(made.ledger.items[("tx1",)]["r#" + refund_id]["N"])


def holds_and_never_moved(made: World) -> None:
    """r1 holds 300, and each of its calls is answered with 503."""
    made.kernel.fault_rates = {"gateway takes no orders": 1.0}
    made.send(request())
    made.run_for(MINUTE)
    made.kernel.fault_rates = {}
    made.tap._source.switch(enabled=True, concurrency=3)
    assert (status(made), held(made), paid(made)) == ("PROCESSING", 300, 0)


def test_what_a_list_does_not_show_is_not_taken_for_a_reservation_that_never_moved() -> None:
    made = world(enforces_balance=False)
    holds_and_never_moved(made)
    made.flair.refund_by_others("tx1", 500)
    script_faults(made, **{"gateway's_list_lags": [1]})
    made.send(request_for_rest("r2"))
    made.run_for(HOUR)
    assert (status(made, "r2"), attribute(made, "amount_minor", "r2")) == ("SUCCEEDED", "200")
    made.settle()
    assert (status(made), remaining(made)) == ("SUCCEEDED", 0)


def test_what_is_paid_during_a_count_does_not_hide_a_row_that_cannot_be_read() -> None:
    made = world(enforces_balance=False)
    made.flair.refund_by_others("tx1", 500)
    fix_random(made, lambda _, most: most - 15)
    script_faults(made, gateway_slow=[1])
    made.send(request())
    made.run_for(5)
    # r2 reads the payment, r1 is paid and looked up, and r2 reads the list.
    script_faults(
        made, **{"stall at gateway GET, done": [1], "gateway's row can't be read": [0, 1]}
    )
    choose_the_last(made)
    made.send(request_for_rest("r2"))
    made.run_for(HOUR)
    assert (status(made, "r2"), attribute(made, "amount_minor", "r2")) == ("SUCCEEDED", "200")


def test_what_was_sent_back_does_not_hide_a_row_that_cannot_be_read() -> None:
    made = world(enforces_balance=False)
    made.send(request())
    made.run_for(MINUTE)
    made.flair.fail(made.flair.refunds[0], "account_closed")
    made.flair.refund_by_others("tx1", 500)
    script_faults(made, **{"gateway's row can't be read": [1]})
    choose_the_first(made)
    made.send(request_for_rest("r2"))
    made.run_for(10 * MINUTE)
    made.reconcile()
    made.run_for(10 * MINUTE)
    assert attribute(made, "amount_minor", "r2") == "200"
    assert (status(made), remaining(made)) == ("REVERSED", 300)


@pytest.mark.parametrize("amount_minor", [1000, None])
def test_a_ledger_that_was_lost_alone_holds_what_is_under_way(amount_minor: int | None) -> None:
    made = world(enforces_balance=False)
    holds_and_never_moved(made)
    made.empty(made.ledger)
    made.send(request("r2", amount_minor=amount_minor))
    made.run_for(10 * MINUTE)
    assert (held(made), remaining(made) + paid(made, "r2") * 700) == (300, 700)
    assert status(made, "r2") == ("REJECTED" if amount_minor else "SUCCEEDED")
    made.settle()
    # Its reservation is back, so it goes on by itself.
    assert (status(made), paid(made), made.kernel.counts["reviews"]) == ("SUCCEEDED", 1, 0)
    assert sum(each.amount for each in made.flair.refunds) <= 1000


def test_a_ledger_begun_for_another_refund_does_not_hide_that_this_one_was_paid() -> None:
    made = world(new_tables=True)
    made.send(request())
    made.run_for(2 * DAY)  # the gateway's keys are forgotten
    made.empty(made.refunds, made.ledger, made.audit)
    made.send(request("r2", amount_minor=100))
    made.run_for(MINUTE)
    made.kernel.script["gateway hides refunds"] = [True] * 3
    made.send(request())
    made.run_for(HOUR)
    assert (status(made), paid(made), paid(made, "r2")) == ("IN_REVIEW", 1, 1)


def test_an_adopted_refund_is_never_called_for() -> None:
    made = world()
    made.send(request())
    made.run_for(MINUTE)
    made.run_for(2 * 24 * HOUR)
    made.empty(made.refunds, made.ledger, made.audit)
    # The payment's list shows it, and from then on nothing does.
    made.kernel.fault_rates = {"gateway hides refunds": 1.0}
    deliver_again(made)
    made.run_for(2 * HOUR)
    assert (status(made), paid(made), posts(made)) == ("IN_REVIEW", 1, 1)
    made.kernel.fault_rates = {}
    reconcile_hourly(made, 2)
    assert (status(made), made.kernel.counts["reviews"]) == ("SUCCEEDED", 0)
    made.settle()


def correct_before_the_release(made: World, *, crash: bool = False) -> None:
    """r1 fails here, and a person corrects it before its money is released. ``crash``: whoever
    releases it then stops."""
    made.flair.stubborn["r1"] = "declined"
    step, corrected = made.kernel.step, list[bool]()

    def slow_release(name: str, seconds: float, of: str = "") -> None:
        if name == "dynamodb update Ledger" and ("r1",) in made.refunds.items and not corrected:
            corrected.append(True)
            made.checker.tampered.add("r1")
            made.flair._create("tx1", "r1", 300, ours=False)
            correct(made)
            made.kernel.pause(20)
            if crash:
                crash_at(made, "dynamodb update Ledger, done")
        step(name, seconds, of)

    made.send(request())
    setattr(made.kernel, "step", slow_release)  # noqa: B010  # to a method's place
    made.run_for(10 * MINUTE)
    assert corrected


def test_a_late_release_takes_nothing_from_a_correction() -> None:
    made = world()
    correct_before_the_release(made)
    assert (status(made), held(made), remaining(made)) == ("SUCCEEDED", 300, 700)


def test_a_late_release_that_dies_takes_nothing_from_a_correction() -> None:
    made = world()
    correct_before_the_release(made, crash=True)
    reconcile_hourly(made, 2)
    assert (status(made), held(made), remaining(made)) == ("SUCCEEDED", 300, 700)
    made.settle()


def test_what_is_paid_there_and_ended_here_counts_against_the_payment() -> None:
    made = world()
    fail_here_and_pay_there(made)
    made.reconcile()
    made.run_for(10 * MINUTE)
    assert (status(made), remaining(made)) == ("FAILED", 700)


def test_what_is_paid_there_and_ended_here_counts_though_whoever_found_it_died() -> None:
    made = world()
    fail_here_and_pay_there(made)
    crash_at(made, "dynamodb update Refunds, done")
    made.reconcile()
    made.run_for(10 * MINUTE)
    assert attribute(made, "seen_paid_at")
    reconcile_hourly(made, 3)
    assert (status(made), remaining(made)) == ("FAILED", 700)


def test_what_ended_here_holds_nothing_in_a_ledger_that_was_lost() -> None:
    made = world()
    fail_here_and_pay_there(made)
    made.empty(made.ledger)
    made.send(request("r2"))
    made.run_for(MINUTE)
    made.reconcile()
    made.run_for(10 * MINUTE)
    assert (status(made), held(made), remaining(made)) == ("FAILED", 0, 400)


def test_what_was_sent_back_and_no_list_shows_yet_hides_no_other_systems_money() -> None:
    made = world(enforces_balance=False)
    choose_the_last(made)  # the longest lag
    made.send(request())
    made.run_for(MINUTE)
    made.flair.refund_by_others("tx1", 200)
    made.flair.fail(made.flair.refunds[0], "account_closed")
    made.kernel.fault_rates = {"gateway's list lags": 1.0}
    made.send(request("r2", amount_minor=900))  # does not fit: the payment is counted
    made.run_for(MINUTE)
    assert remaining(made) == 500  # 200 of others', and r1's 300 as long as it counts as paid
    made.kernel.fault_rates = {}
    made.settle()
    assert (status(made), status(made, "r2")) == ("REVERSED", "REJECTED")
    assert remaining(made) == 800


def test_what_no_list_shows_yet_and_was_paid_is_not_counted_twice() -> None:
    made = world()
    choose_the_last(made)
    made.send(request())
    made.run_for(MINUTE)
    made.kernel.fault_rates = {"gateway's list lags": 1.0}
    made.send(request_for_rest("r2"))
    made.run_for(MINUTE)
    assert (status(made, "r2"), remaining(made)) == ("SUCCEEDED", 0)


def test_what_the_list_shows_as_sent_back_leaves_no_doubt_about_others_money() -> None:
    made = world()
    made.send(request())
    made.run_for(MINUTE)
    made.flair.fail(made.flair.refunds[0], "account_closed")
    made.flair.refund_by_others("tx1", 200)
    choose_the_first(made)  # the newest row
    made.kernel.fault_rates = {"gateway's row can't be read": 1.0}
    made.send(request_for_rest("r2"))
    made.run_for(MINUTE)
    assert (attribute(made, "amount_minor", "r2"), remaining(made)) == ("500", 0)
