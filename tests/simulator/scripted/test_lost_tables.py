"""Tables that were emptied, or lost a row: what was paid is not paid again."""

from __future__ import annotations

import pytest
from tests.simulator.scripting import (
    HIDDEN,
    HOUR,
    MINUTE,
    attribute,
    crash_at,
    deliver_again,
    empty_tables,
    fix_random,
    lose_row,
    paid,
    posts,
    remaining,
    remove_by_hand,
    request,
    request_for_rest,
    script_faults,
    status,
    world,
)
from tests.simulator.sqs import DAY

from refunds.gateways.contract import Stage
from refunds.tables.state import LOOK_UP_FIRST


@pytest.mark.parametrize("times", [1, 2])
def test_a_message_that_meets_emptied_tables_pays_nothing_twice(times: int) -> None:
    made = world()
    made.send(request())
    made.run_for(MINUTE)
    for _ in range(times):
        made.run_for(2 * DAY)  # the gateway's keys are forgotten by now
        empty_tables(made)
        deliver_again(made)
    assert (status(made), paid(made)) == ("SUCCEEDED", 1)
    made.settle()
    assert (paid(made), remaining(made)) == (1, 700)


def test_tables_that_forgot_and_a_trail_that_is_gone_too_pay_nothing_twice() -> None:
    made = world()
    made.send(request())
    made.run_for(MINUTE)
    made.run_for(2 * DAY)
    empty_tables(made)
    made.empty(made.audit)
    deliver_again(made)
    assert (status(made), paid(made), remaining(made)) == ("SUCCEEDED", 1, 700)


def test_a_refund_that_the_bank_sent_back_is_not_paid_again_by_tables_that_forgot() -> None:
    made = world()
    made.send(request())
    made.run_for(MINUTE)
    made.flair.fail(made.flair.refunds[0], "account_closed")
    made.reconcile()
    made.run_for(10 * MINUTE)
    assert status(made) == "REVERSED"
    made.run_for(2 * DAY)  # The gateway has forgotten the key.
    empty_tables(made)
    made.empty(made.audit)
    script_faults(made, gateway_hides_a_refund_once=[1])
    deliver_again(made)
    made.run_for(2 * HOUR)
    made.reconcile()
    made.run_for(HOUR)
    assert (status(made), paid(made)) == ("FAILED", 1)


def test_a_ledger_begun_for_a_payment_with_refunds_looks_first_however_old_the_stack_is() -> None:
    made = world()
    made.send(request())
    made.run_for(2 * DAY)
    since = made.ledger.items[(LOOK_UP_FIRST,)]
    empty_tables(made)
    made.ledger.items[(LOOK_UP_FIRST,)] = since
    deliver_again(made)
    assert (paid(made), posts(made)) == (1, 1)


def test_a_ledger_begun_for_another_refund_looks_first_however_old_the_stack_is() -> None:
    made = world()
    made.send(request())
    made.run_for(2 * DAY)  # the gateway's keys are forgotten
    since = made.ledger.items[(LOOK_UP_FIRST,)]
    empty_tables(made)
    made.ledger.items[(LOOK_UP_FIRST,)] = since
    deliver_again(made, refund_id="r2", amount_minor=100)
    deliver_again(made)
    assert (status(made), paid(made), paid(made, "r2")) == ("SUCCEEDED", 1, 1)
    made.settle()


def test_a_payment_that_still_holds_a_forgotten_refund_knows_that_it_was_paid() -> None:
    made = world()
    made.send(request())
    made.run_for(2 * DAY)
    made.empty(made.refunds, made.audit)
    script_faults(made, gateway_hides_a_refund_once=[1])
    deliver_again(made)
    made.run_for(HOUR)
    assert paid(made) == 1
    made.settle()
    assert (status(made), remaining(made)) == ("SUCCEEDED", 700)


@pytest.mark.parametrize("amount_minor", [300, 1000])
def test_what_another_stage_paid_is_not_paid_again_by_tables_that_forgot(amount_minor: int) -> None:
    made = world(new_tables=True)
    made.redeploy(stage=Stage("green"))
    made.send(request(amount_minor=amount_minor))
    made.run_for(2 * DAY)
    made.empty(made.refunds, made.ledger, made.audit)
    made.redeploy(stage=Stage())
    deliver_again(made, amount_minor=amount_minor)
    made.run_for(HOUR)
    # A person decides, or the message fails too often: it is never called rejected.
    assert [item["status"]["S"] for item in made.refunds.items.values()] in (["IN_REVIEW"], [])
    assert paid(made) == 1


def test_a_new_stack_looks_first_for_as_long_as_messages_come_back_by_themselves() -> None:
    made = world(new_tables=True)
    made.send(request())
    made.run_for(MINUTE)
    made.pay("tx2", 1000)
    gets = made.kernel.counts["gateway GETs"]
    made.send(request("r2", transaction_id="tx2"))
    made.run_for(MINUTE)
    assert made.kernel.counts["gateway GETs"] - gets == 3  # payment, list, look-up
    made.run_for(29 * DAY)
    made.pay("tx3", 1000)
    gets = made.kernel.counts["gateway GETs"]
    made.send(request("r3", transaction_id="tx3"))
    made.run_for(MINUTE)
    assert made.kernel.counts["gateway GETs"] - gets == 1  # and one POST: two calls
    made.settle()


def test_what_is_resent_from_the_archive_is_looked_up_whenever_it_comes() -> None:
    made = world()
    first = made.send(request())
    made.run_for(2 * DAY)
    empty_tables(made)
    deliver_again(made, refund_id="r2", transaction_id="tx1", amount_minor=100)
    made.run_for(60 * DAY)
    made.resend(first)
    made.run_for(10 * MINUTE)
    assert (status(made), paid(made)) == ("SUCCEEDED", 1)
    made.settle()


def test_a_refund_that_ended_and_lost_its_record_is_never_claimed_again() -> None:
    made = world()
    made.flair.stubborn["r1"] = "declined"
    made.send(request())
    made.run_for(10 * MINUTE)
    assert status(made) == "FAILED"
    made.flair.stubborn.clear()
    deliver_again(made, refund_id="r2")  # the customer's refund, made again under another id
    lose_row(made)
    deliver_again(made)
    assert (status(made), paid(made), paid(made, "r2")) == ("FAILED", 0, 1)
    assert attribute(made, "version") == "2"
    made.settle()


def test_a_pending_refund_that_lost_its_record_goes_on_where_its_trail_ends() -> None:
    made = world()
    made.flair.stubborn["r1"] = "pending"
    made.send(request())
    made.run_for(10 * MINUTE)
    assert status(made) == "PENDING"
    lose_row(made)
    deliver_again(made)
    assert (status(made), attribute(made, "version"), posts(made)) == ("PENDING", "2", 1)
    made.flair.fail(made.flair.refunds[0], "bank_refused")
    made.settle()
    assert (status(made), remaining(made)) == ("FAILED", 1000)


def test_the_first_use_of_a_key_is_known_from_the_trail() -> None:
    made = world()
    script_faults(made, network_loses_the_answer=[0, 1])
    made.send(request())
    made.run_for(1)
    made.kernel.fault_rates = HIDDEN | {"gateway takes no orders": 1.0}
    made.run_for(HOUR)
    made.tap._source.switch(enabled=False, concurrency=3)  # nobody looks at it for a day
    made.run_for(24 * HOUR)
    assert status(made) == "PROCESSING"
    lose_row(made)
    made.kernel.fault_rates = HIDDEN
    made.tap._source.switch(enabled=True, concurrency=3)
    deliver_again(made)
    made.reconcile()
    made.run_for(10 * MINUTE)
    assert (status(made), paid(made)) == ("IN_REVIEW", 1)
    assert attribute(made, "failure_code") == "idempotency_key_expired"
    made.settle()


def test_a_forgotten_refund_of_another_amount_holds_what_was_asked() -> None:
    made = world(enforces_balance=False)
    script_faults(made, gateway_pays_another_amount=[1])
    made.send(request())
    made.run_for(MINUTE)
    moved = made.flair.refunds[0].amount
    assert (status(made), moved > 300) == ("IN_REVIEW", True)
    made.run_for(2 * DAY)
    empty_tables(made)
    made.empty(made.audit)
    deliver_again(made)
    assert (status(made), remaining(made)) == ("IN_REVIEW", 1000 - moved)
    made.settle()


def test_another_request_that_meets_emptied_tables_first_takes_nothing_from_the_refund() -> None:
    made = world()
    made.send(request())
    made.run_for(MINUTE)
    empty_tables(made)
    deliver_again(made, amount_minor=44)
    assert not made.refunds.items
    deliver_again(made)
    assert (status(made), paid(made), remaining(made)) == ("SUCCEEDED", 1, 700)
    made.settle()


def test_a_forgotten_refund_of_a_payment_that_is_gone_is_not_called_rejected() -> None:
    made = world()
    made.send(request())
    made.run_for(MINUTE)
    empty_tables(made)
    made.empty(made.audit)
    made.flair.archived.add("tx1")
    deliver_again(made)
    made.run_for(HOUR)
    assert not made.refunds.items  # the message waits for a person, and for the payment
    made.flair.archived.clear()
    made.settle()
    assert (status(made), paid(made)) == ("SUCCEEDED", 1)


def test_a_refund_that_had_ended_is_not_called_by_a_later_attempt_either() -> None:
    made = world(enforces_balance=False)
    made.flair.stubborn["r1"] = "declined"
    made.send(request())
    made.run_for(10 * MINUTE)
    made.flair.stubborn.clear()
    deliver_again(made, refund_id="r2", amount_minor=1000)
    remove_by_hand(made)
    script_faults(made, gateway_says_503=[1])
    made.send(request())
    made.run_for(HOUR)
    made.reconcile()
    made.run_for(HOUR)
    assert (status(made), paid(made), paid(made, "r2")) == ("IN_REVIEW", 0, 1)
    assert attribute(made, "failure_code") == "record_lost"


def test_a_refund_whose_ledger_was_lost_is_not_called_over_what_others_hold() -> None:
    made = world(enforces_balance=False)
    made.kernel.fault_rates = {"gateway takes no orders": 1.0}
    made.send(request())
    made.run_for(MINUTE)
    made.empty(made.ledger)
    made.kernel.fault_rates = {}
    made.tap._source.switch(enabled=True, concurrency=3)
    made.send(request("r2", amount_minor=1000))
    made.run_for(2 * HOUR)
    made.reconcile()
    made.run_for(HOUR)
    assert paid(made) + paid(made, "r2") == 1


def test_a_reversal_that_the_sweep_no_longer_reads_is_seen_when_its_record_comes_back() -> None:
    made = world()
    made.send(request())
    made.run_for(MINUTE)
    lose_row(made)
    made.flair.fail(made.flair.refunds[0], "account_closed")
    made.run_for(200 * DAY)
    deliver_again(made)
    assert status(made) == "SUCCEEDED"
    made.reconcile()
    made.run_for(10 * MINUTE)
    assert (status(made), remaining(made)) == ("REVERSED", 1000)
    made.settle()


def test_an_old_refund_whose_record_comes_back_is_closed_when_it_was_not_sent_back() -> None:
    made = world()
    made.send(request())
    made.run_for(MINUTE)
    lose_row(made)
    made.run_for(200 * DAY)
    deliver_again(made)
    made.reconcile()
    made.run_for(10 * MINUTE)
    assert (status(made), remaining(made)) == ("SUCCEEDED", 700)
    made.settle()


def test_a_call_on_its_way_when_all_was_lost_does_not_pay_its_request_twice() -> None:
    """It was for all that was left; claimed again, its request is for what is left by then."""
    made = world()
    fix_random(made, lambda least, most: most)
    script_faults(made, network_delays_the_request=[1])
    made.send(request_for_rest())
    made.run_for(MINUTE / 6)
    made.empty(made.refunds, made.ledger, made.audit)
    crash_at(made, "gateway POST")
    made.send(request("r2"))
    made.run_for(MINUTE / 12)
    crash_at(made, "gateway POST")
    made.run_for(5 * MINUTE)
    assert (attribute(made, "amount_minor"), made.flair.of("r1")[0].amount) == ("700", 1000)
    made.run_for(HOUR)
    assert (status(made), status(made, "r2")) == ("IN_REVIEW", "FAILED")
    assert (paid(made), paid(made, "r2")) == (1, 0)


def test_another_request_of_a_forgotten_refunds_id_holds_nothing() -> None:
    made = world()
    made.send(request())
    made.run_for(MINUTE)
    empty_tables(made)
    made.kernel.fault_rates = HIDDEN
    deliver_again(made, amount_minor=500)
    assert not any("r#r1 None to 500" in line for line in made.kernel.trace or [])
    [refused] = made.dlq.messages.values()
    assert refused.attributes["error_code"]["StringValue"] == "idempotency_conflict"


def test_a_released_refund_that_is_forgotten_comes_back_with_its_amount() -> None:
    made = world()
    made.flair.stubborn["r1"] = "declined"
    made.send(request())
    made.run_for(MINUTE)
    assert (status(made), remaining(made)) == ("FAILED", 1000)
    made.empty(made.refunds, made.audit)
    deliver_again(made)
    assert (status(made), attribute(made, "amount_minor")) == ("IN_REVIEW", "300")
    assert (paid(made), remaining(made)) == (0, 1000)
