"""Paid once at the edges too: new tables, changed settings, gateways that move more than they were
asked to, payments that are not ready, messages that come back late. One scripted history each.

All of them end in ``World.settle``: every invariant is checked at each step and at the end.
"""

from __future__ import annotations

from typing import Any

import pytest
from tests.simulator.sqs import DAY, Message
from tests.simulator.test_rules import (
    HOUR,
    attribute,
    crash_at,
    dice,
    paid,
    posts,
    remaining,
    request,
    script,
    status,
    world,
)
from tests.simulator.world import World

from refunds.gateways.contract import Stage
from refunds.gateways.flair import FlairGateway
from refunds.processing.review import Reasons, Reviewer
from refunds.tables.state import LOOK_UP_FIRST

MINUTE = 60.0


def deliver_again(made: World, **changes: Any) -> Message:
    message = made.send(request(**changes))
    made.run_for(10 * MINUTE)
    return message


def empty_of_all(made: World) -> None:
    made.empty(made.refunds, made.ledger)


def rest(refund_id: str = "r1", **changes: Any) -> dict[str, Any]:
    """A request for whatever is left."""
    return request(refund_id, amount_minor=None, **changes)


# --- tables that forgot ---------------------------------------------------------------------------


@pytest.mark.parametrize("times", [1, 2])
def test_a_message_that_meets_emptied_tables_pays_nothing_twice(times: int) -> None:
    made = world()
    made.send(request())
    made.run_for(MINUTE)
    for _ in range(times):
        made.run_for(2 * DAY)  # the gateway's keys are forgotten by now
        empty_of_all(made)
        deliver_again(made)
    assert (status(made), paid(made)) == ("SUCCEEDED", 1)
    made.settle()
    assert (paid(made), remaining(made)) == (1, 700)


def test_tables_that_forgot_and_a_trail_that_is_gone_too_pay_nothing_twice() -> None:
    made = world()
    made.send(request())
    made.run_for(MINUTE)
    made.run_for(2 * DAY)
    empty_of_all(made)
    made.empty(made.audit)
    deliver_again(made)
    assert (status(made), paid(made), remaining(made)) == ("SUCCEEDED", 1, 700)


def test_a_ledger_begun_for_a_payment_with_refunds_looks_first_however_old_the_stack_is() -> None:
    made = world()
    made.send(request())
    made.run_for(2 * DAY)
    since = made.ledger.items[(LOOK_UP_FIRST,)]
    empty_of_all(made)
    made.ledger.items[(LOOK_UP_FIRST,)] = since
    deliver_again(made)
    assert (paid(made), posts(made)) == (1, 1)


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
    empty_of_all(made)
    deliver_again(made, refund_id="r2", transaction_id="tx1", amount_minor=100)
    made.run_for(60 * DAY)
    made.resend(first)
    made.run_for(10 * MINUTE)
    assert (status(made), paid(made)) == ("SUCCEEDED", 1)
    made.settle()


def lost_row(made: World, refund_id: str = "r1") -> None:
    listeners, made.refunds.on_write = made.refunds.on_write, []
    made.refunds.write((refund_id,), None)
    made.refunds.on_write = listeners
    made.checker.forget()


def test_a_refund_that_ended_and_lost_its_record_is_never_claimed_again() -> None:
    made = world()
    made.flair.stubborn["r1"] = "declined"
    made.send(request())
    made.run_for(10 * MINUTE)
    assert status(made) == "FAILED"
    made.flair.stubborn.clear()
    deliver_again(made, refund_id="r2")  # the customer's refund, made again under another id
    lost_row(made)
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
    lost_row(made)
    deliver_again(made)
    assert (status(made), attribute(made, "version"), posts(made)) == ("PENDING", "2", 1)
    made.flair.fail(made.flair.refunds[0], "bank_refused")
    made.settle()
    assert (status(made), remaining(made)) == ("FAILED", 1000)


def test_the_first_use_of_a_key_is_known_from_the_trail() -> None:
    made = world()
    script(made, network_loses_the_answer=[0, 1])
    made.send(request())
    made.run_for(1)
    made.kernel.fault_rates = {"gateway hides refunds": 1.0, "gateway takes no orders": 1.0}
    made.run_for(HOUR)
    made.tap._source.switch(enabled=False, concurrency=3)  # nobody looks at it for a day
    made.run_for(24 * HOUR)
    assert status(made) == "PROCESSING"
    lost_row(made)
    made.kernel.fault_rates = {"gateway hides refunds": 1.0}
    made.tap._source.switch(enabled=True, concurrency=3)
    deliver_again(made)
    made.reconcile()
    made.run_for(10 * MINUTE)
    assert (status(made), paid(made)) == ("IN_REVIEW", 1)
    assert attribute(made, "failure_code") == "idempotency_key_expired"
    made.settle()


def test_a_forgotten_refund_of_another_amount_holds_what_was_asked() -> None:
    made = world(enforces_balance=False)
    script(made, gateway_pays_another_amount=[1])
    made.send(request())
    made.run_for(MINUTE)
    moved = made.flair.refunds[0].amount
    assert (status(made), moved > 300) == ("IN_REVIEW", True)
    made.run_for(2 * DAY)
    empty_of_all(made)
    made.empty(made.audit)
    deliver_again(made)
    assert (status(made), remaining(made)) == ("IN_REVIEW", 1000 - moved)
    made.settle()


def test_another_request_that_meets_emptied_tables_first_takes_nothing_from_the_refund() -> None:
    made = world()
    made.send(request())
    made.run_for(MINUTE)
    empty_of_all(made)
    deliver_again(made, amount_minor=44)
    assert not made.refunds.items
    deliver_again(made)
    assert (status(made), paid(made), remaining(made)) == ("SUCCEEDED", 1, 700)
    made.settle()


def test_a_forgotten_refund_of_a_payment_that_is_gone_is_not_called_rejected() -> None:
    made = world()
    made.send(request())
    made.run_for(MINUTE)
    empty_of_all(made)
    made.empty(made.audit)
    made.flair.archived.add("tx1")
    deliver_again(made)
    made.run_for(HOUR)
    assert not made.refunds.items  # the message waits for a person, and for the payment
    made.flair.archived.clear()
    made.settle()
    assert (status(made), paid(made)) == ("SUCCEEDED", 1)


def test_a_double_that_failed_reverses_nothing() -> None:
    made = world(enforces_balance=False)
    script(made, gateway_doubles_a_refund=[1], gateway_failed_at_once=[0, 1])
    script(made, network_loses_the_answer=[0, 1])
    made.send(request())
    made.run_for(HOUR)
    assert [each.status for each in made.flair.refunds] == ["succeeded", "failed"]
    assert status(made) == "IN_REVIEW"
    made.run_for(3 * HOUR)
    made.review()
    made.run_for(MINUTE)
    assert (status(made), attribute(made, "gateway_refund_id")) == ("SUCCEEDED", "re_1")
    made.settle()
    assert status(made) == "SUCCEEDED"


# --- settings that changed ------------------------------------------------------------------------


def test_a_stage_that_changed_makes_no_second_key() -> None:
    made = world()
    script(made, network_loses_the_answer=[0, 1])
    made.send(request())
    made.run_for(1)
    made.redeploy(stage=Stage("green"))
    made.settle()
    assert (status(made), paid(made), list(made.flair.keys)) == ("SUCCEEDED", 1, ["r1"])


def test_a_refund_of_another_stage_of_ours_counts_once() -> None:
    made = world()
    made.send(request())
    made.run_for(MINUTE)
    made.redeploy(stage=Stage("green"))
    made.send(rest("r2"))
    made.run_for(MINUTE)
    assert (status(made, "r2"), attribute(made, "amount_minor", "r2")) == ("SUCCEEDED", "700")
    assert attribute(made, "gateway_reference", "r2") == "green.r2"
    made.run_for(DAY)
    # And it is still found when the bank sends it back.
    made.flair.fail(made.flair.refunds[0], "account_closed")
    made.settle()
    assert status(made) == "REVERSED"


def test_another_account_is_reported_and_never_called() -> None:
    made = world()
    script(made, network_loses_the_request=[0, 1])
    made.send(request())
    made.run_for(1)
    accounts = made.services.gateways.accounts
    made.redeploy(accounts=(accounts[0].__class__("flair", "https://other", "key"),))
    made.run_for(2 * HOUR)
    assert (status(made), posts(made)) == ("PROCESSING", 1)
    made.redeploy(accounts=accounts)
    made.settle()
    assert (status(made), paid(made)) == ("SUCCEEDED", 1)


# --- gateways -------------------------------------------------------------------------------------


def test_a_decline_counts_only_when_no_earlier_call_can_arrive(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(FlairGateway, "remembers_declines", False)
    made = world()
    dice(made, lambda least, most: most)
    script(made, network_delays_the_request=[1])  # by more than two minutes
    made.send(request())
    made.run_for(16)
    made.flair.stubborn["r1"] = "declined"
    made.run_for(100)
    assert (status(made), paid(made)) == ("PROCESSING", 0)
    made.flair.stubborn.clear()
    made.flair.keys.clear()
    made.settle()
    assert (status(made), paid(made), remaining(made)) == ("SUCCEEDED", 1, 700)


def test_what_a_gateway_doubled_is_nobody_elses_to_refund() -> None:
    made = world(enforces_balance=False)
    script(made, gateway_doubles_a_refund=[1], network_loses_the_answer=[0, 1])
    made.send(request())
    made.run_for(HOUR)
    assert (status(made), remaining(made)) == ("IN_REVIEW", 400)
    deliver_again(made, refund_id="r2", amount_minor=500)
    assert (status(made, "r2"), paid(made, "r2")) == ("REJECTED", 0)
    made.settle()


def test_a_failed_refund_that_the_gateway_shows_as_paid_stays_in_sight() -> None:
    made = world()
    made.flair.stubborn["r1"] = "declined"
    made.send(request())
    made.run_for(10 * MINUTE)
    assert status(made) == "FAILED"
    made.checker.tampered.add("r1")
    moved = made.flair._create("tx1", "r1", 300, ours=False)
    for _ in range(3):
        made.reconcile()
        made.run_for(HOUR)
    seen = [each for each in made.services.metrics if each.name == "RefundsPaidThoughEnded"]
    assert seen[-1].value == 1
    made.flair.fail(moved, "cancelled")
    made.reconcile()
    made.run_for(2 * HOUR)
    made.reconcile()
    made.run_for(HOUR)
    seen = [each for each in made.services.metrics if each.name == "RefundsPaidThoughEnded"]
    assert seen[-1].value == 0
    assert "open_shard" not in made.refunds.items[("r1",)]


# --- everything that is left ----------------------------------------------------------------------


def test_the_rest_is_counted_at_the_gateway() -> None:
    made = world(10_000)
    made.send(request(amount_minor=1000))
    made.run_for(MINUTE)
    made.flair.refund_by_others("tx1", 5000)
    made.send(rest("r2"))
    made.run_for(MINUTE)
    assert (status(made, "r2"), attribute(made, "amount_minor", "r2")) == ("SUCCEEDED", "4000")
    made.settle()


def test_the_rest_counts_a_second_capture() -> None:
    made = world(5000)
    made.send(request(amount_minor=1000))
    made.run_for(MINUTE)
    made.flair.payments["tx1"].captured = 10_000
    made.send(rest("r2"))
    made.run_for(MINUTE)
    assert (status(made, "r2"), attribute(made, "amount_minor", "r2")) == ("SUCCEEDED", "9000")
    made.settle()


def test_the_rest_counts_what_another_system_did_not_get_through() -> None:
    made = world(1000)
    made.flair.stubborn["other-0"] = "pending"
    made.flair.refund_by_others("tx1", 600)
    made.send(request(amount_minor=100))
    made.run_for(MINUTE)
    made.flair.fail(made.flair.refunds[0], "bank_refused")
    made.send(rest("r2"))
    made.run_for(MINUTE)
    assert (status(made, "r2"), attribute(made, "amount_minor", "r2")) == ("SUCCEEDED", "900")
    made.settle()


@pytest.mark.parametrize(("expected", "ends"), [(600, "SUCCEEDED"), (700, "REJECTED")])
def test_a_sender_that_is_wrong_about_what_is_left_is_told(expected: int, ends: str) -> None:
    made = world()
    made.flair.refund_by_others("tx1", 400)
    made.send(request(expected_refundable_minor=expected))
    made.run_for(MINUTE)
    assert status(made) == ends
    if ends == "REJECTED":
        assert attribute(made, "failure_code") == "refundable_mismatch"
    made.settle()


# --- payments that are not ready, or gone ---------------------------------------------------------


@pytest.mark.parametrize("ready_after", [5 * MINUTE, None])
@pytest.mark.parametrize("unready", ["authorized", "unknown"])
def test_a_payment_that_is_not_ready_is_waited_for_and_not_for_ever(
    unready: str, ready_after: float | None
) -> None:
    made = world()
    payment = made.flair.payments["tx1"]
    if unready == "unknown":
        made.flair.payments.clear()
    else:
        payment.status = "authorized"
    made.send(request())
    made.run_for(ready_after or 5 * MINUTE)
    assert not made.refunds.items
    if ready_after:
        payment.status = "captured"
        made.flair.payments["tx1"] = payment
    made.run_for(45 * MINUTE)
    if ready_after:
        assert (status(made), paid(made)) == ("SUCCEEDED", 1)
    else:
        assert status(made) == "REJECTED"
        assert attribute(made, "failure_code") == (
            "payment_not_found" if unready == "unknown" else "payment_not_captured"
        )
    assert not made.queue.messages
    made.flair.payments["tx1"] = payment
    made.settle()


def test_a_payment_that_the_gateway_no_longer_knows_ends_with_a_code() -> None:
    made = world()
    made.send(request())
    made.run_for(MINUTE)
    payment = made.flair.payments.pop("tx1")
    made.send(rest("r2"))
    made.send(request("r3", amount_minor=5000))
    made.run_for(2 * HOUR)
    for refund_id in ("r2", "r3"):
        assert status(made, refund_id) == "REJECTED"
        assert attribute(made, "failure_code", refund_id) == "payment_not_found"
    assert not made.queue.messages
    made.flair.payments["tx1"] = payment
    made.settle()


# --- what waits -----------------------------------------------------------------------------------


def shown_hourly(made: World, hours: int) -> None:
    for _ in range(hours):
        made.reconcile()
        made.run_for(HOUR)


def test_one_empty_look_up_sends_nobody_to_a_person() -> None:
    made = world()
    made.flair.stubborn["r1"] = "pending"
    made.send(request())
    made.run_for(MINUTE)
    shown_hourly(made, 30)
    made.kernel.fault_rates = {"gateway hides refunds": 1.0}
    shown_hourly(made, 2)
    assert status(made) == "PENDING"
    shown_hourly(made, 25)
    assert status(made) == "IN_REVIEW"
    # The gateway shows it again: that settles it without a person.
    made.kernel.fault_rates = {}
    made.flair.fail(made.flair.refunds[0], "bank_refused")
    shown_hourly(made, 2)
    assert (status(made), remaining(made)) == ("FAILED", 1000)
    assert made.kernel.counts["reviews"] == 0
    made.settle()


def test_the_next_look_at_a_pending_refund_is_put_off() -> None:
    made = world()
    made.flair.stubborn["r1"] = "pending"
    made.send(request())
    made.run_for(10 * MINUTE)
    made.reconcile()
    made.run_for(MINUTE)
    gets = made.kernel.counts["gateway GETs"]
    made.run_for(30)
    made.flair.stubborn.clear()
    made.reconcile()
    made.run_for(MINUTE)
    assert made.kernel.counts["gateway GETs"] - gets == 1  # the sweep's; no look-up so soon
    made.flair.fail(made.flair.refunds[0], "bank_refused")
    made.settle()


def test_a_message_at_the_end_of_its_time_is_found_after_a_crash() -> None:
    made = world()
    made.tap._source.switch(enabled=False, concurrency=3)
    made.send(request())
    made.run_for(7 * DAY - 120)
    crash_at(made, "gateway POST, done")
    made.tap._source.switch(enabled=True, concurrency=3)
    made.run_for(30)
    assert (status(made), paid(made)) == ("PROCESSING", 1)
    assert "open_shard" in made.refunds.items[("r1",)]
    made.run_for(HOUR)  # the message has grown too old by now
    made.settle()
    assert status(made) == "SUCCEEDED"


def test_a_reservation_whose_message_was_archived_is_resumed() -> None:
    made = world(max_receives=1)
    crash_at(made, "dynamodb put Refunds")
    made.send(request())
    made.run_for(HOUR)
    assert (remaining(made), len(made.dlq.messages), dict(made.refunds.items)) == (700, 1, {})
    made.run_for(4 * DAY)
    made.settle()
    assert (status(made), paid(made), remaining(made)) == ("SUCCEEDED", 1, 700)


def test_the_same_request_sent_again_with_another_time_is_the_same_request() -> None:
    made = world()
    made.send(request(requested_at="2026-02-01T10:00:00Z"))
    made.send(request(requested_at="2026-02-01T10:00:05Z"))
    made.settle()
    assert (status(made), paid(made), made.dlq.messages) == ("SUCCEEDED", 1, {})


def test_a_failed_refund_stays_open_until_its_money_is_back() -> None:
    made = world()
    made.flair.stubborn["r1"] = "pending"
    made.send(request())
    made.run_for(MINUTE)
    assert not made.queue.messages  # nobody but the reconciler comes back to it
    made.flair.fail(made.flair.refunds[0], "bank_refused")
    crash_at(made, "dynamodb update Ledger")
    made.run_for(10 * MINUTE)
    made.reconcile()
    made.run_for(10 * MINUTE)
    assert (status(made), remaining(made)) == ("FAILED", 700)
    made.settle()
    assert remaining(made) == 1000


def test_a_decline_of_a_repeated_call_is_nothing_beside_a_pending_refund() -> None:
    made = world()
    made.flair.stubborn["r1"] = "pending"
    script(
        made,
        network_loses_the_answer=[0, 1],
        gateway_hides_a_refund_once=[1],
        gateway_declines_a_replay=[1],
    )
    made.send(request())
    made.run_for(10 * MINUTE)
    assert (status(made), remaining(made)) == ("PENDING", 700)
    made.flair.fail(made.flair.refunds[0], "bank_refused")
    made.settle()


def removed_by_a_hand(made: World, refund_id: str = "r1") -> None:
    """The row goes through the stream: the trail ends with its removal."""
    made.checker.tampered.add(refund_id)
    made.refunds.on_write.remove(made.checker.refund_written)
    made.refunds.write((refund_id,), None)
    made.refunds.on_write.append(made.checker.refund_written)
    made.checker.forget()
    made.run_for(MINUTE)


def test_a_refund_that_had_ended_is_not_called_by_a_later_attempt_either() -> None:
    made = world(enforces_balance=False)
    made.flair.stubborn["r1"] = "declined"
    made.send(request())
    made.run_for(10 * MINUTE)
    made.flair.stubborn.clear()
    deliver_again(made, refund_id="r2", amount_minor=1000)
    removed_by_a_hand(made)
    script(made, gateway_says_503=[1])
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


def corrected(made: World) -> None:
    """r1 failed here, the gateway shows it as paid, and a person corrects it."""
    reasons = Reasons(by="operator:jo", why="the dashboard shows it", evidence="T-1")
    made.functions.invoke(
        "operator",
        lambda env, deadline: Reviewer(env.protocol.refunds, env.protocol.settler).correct(
            "r1", reasons, deadline
        ),
        lambda result: None,
        lambda: None,
    )


def failed_and_paid(made: World) -> None:
    made.flair.stubborn["r1"] = "declined"
    made.send(request())
    made.run_for(10 * MINUTE)
    assert (status(made), remaining(made)) == ("FAILED", 1000)
    made.checker.tampered.add("r1")
    made.flair._create("tx1", "r1", 300, ours=False)


def test_a_correction_that_dies_between_its_writes_is_finished_by_the_reconciler() -> None:
    made = world()
    failed_and_paid(made)
    crash_at(made, "dynamodb update Refunds, done")
    corrected(made)
    made.run_for(MINUTE)
    assert (status(made), remaining(made)) == ("SUCCEEDED", 1000)
    made.run_for(10 * MINUTE)
    made.reconcile()
    made.run_for(10 * MINUTE)
    assert remaining(made) == 700
    assert "open_shard" not in made.refunds.items[("r1",)]
