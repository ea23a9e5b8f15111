"""Gateways that move more than they were asked to, forget a decline, or fail what they doubled."""

from __future__ import annotations

import pytest
from tests.simulator.scripting import (
    HOUR,
    MINUTE,
    attribute,
    choose,
    correct,
    decide,
    deliver_again,
    fix_random,
    paid,
    remaining,
    request,
    script_faults,
    status,
    world,
)
from tests.simulator.sqs import DAY
from tests.simulator.world import World

from refunds.domain.refund import Status
from refunds.gateways.flair import FlairGateway


def test_a_decline_counts_only_when_no_earlier_call_can_arrive(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(FlairGateway, "remembers_declines", False)
    made = world()
    fix_random(made, lambda least, most: most)
    script_faults(made, network_delays_the_request=[1])  # by more than two minutes
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
    script_faults(made, gateway_doubles_a_refund=[1], network_loses_the_answer=[0, 1])
    made.send(request())
    made.run_for(HOUR)
    assert (status(made), remaining(made)) == ("IN_REVIEW", 400)
    deliver_again(made, refund_id="r2", amount_minor=500)
    assert (status(made, "r2"), paid(made, "r2")) == ("REJECTED", 0)
    made.settle()


def seen_paid_in_last_run(made: World) -> float:
    """A run reports it twice: of the open refunds, and of the sweep."""
    name = "RefundsPaidThoughEnded"
    reported = [each.value for each in made.services.metrics if each.name == name]
    return max(reported[-2:])


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
    assert seen_paid_in_last_run(made) == 1
    made.flair.fail(moved, "cancelled")
    made.reconcile()
    made.run_for(2 * HOUR)
    made.reconcile()
    made.run_for(HOUR)
    assert seen_paid_in_last_run(made) == 0
    assert "open_shard" not in made.refunds.items[("r1",)]


def test_a_decision_against_the_gateway_can_be_corrected_though_the_amounts_differ() -> None:
    """Without that, the alarm would stay on for ever."""
    made = world(enforces_balance=False)
    script_faults(made, gateway_doubles_a_refund=[1], network_loses_the_answer=[0, 1])
    made.send(request())
    made.run_for(HOUR)
    decide(made, Status.FAILED)
    for _ in range(3):
        made.reconcile()
        made.run_for(HOUR)
    assert (status(made), remaining(made)) == ("FAILED", 400)
    assert seen_paid_in_last_run(made) == 1
    correct(made)
    made.run_for(MINUTE)
    for _ in range(3):
        made.reconcile()
        made.run_for(HOUR)
    assert (status(made), remaining(made)) == ("SUCCEEDED", 400)
    assert seen_paid_in_last_run(made) == 0
    made.settle()


def test_a_decline_of_a_repeated_call_is_nothing_beside_a_pending_refund() -> None:
    made = world()
    made.flair.stubborn["r1"] = "pending"
    script_faults(
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


def test_a_double_that_failed_reverses_nothing() -> None:
    made = world(enforces_balance=False)
    script_faults(made, gateway_doubles_a_refund=[1], gateway_failed_at_once=[0, 1])
    script_faults(made, network_loses_the_answer=[0, 1])
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


def test_what_is_sent_back_is_no_reversal_while_its_double_is_paid() -> None:
    made = world()
    script_faults(made, gateway_doubles_a_refund=[1])
    made.send(request())
    made.run_for(10 * MINUTE)
    made.flair.fail(made.flair.refunds[0], "account_closed")
    made.reconcile()
    made.run_for(10 * MINUTE)
    assert (status(made), remaining(made)) == ("SUCCEEDED", 700)
    made.flair.fail(made.flair.refunds[1], "account_closed")
    made.run_for(DAY)
    made.settle()
    assert (status(made), remaining(made)) == ("REVERSED", 1000)


@pytest.mark.parametrize("answer", [404, 422])
def test_a_page_of_html_is_no_decline_whatever_its_status_says(answer: int) -> None:
    made = world()
    script_faults(made, network_answers_with_HTML=[0, 1])  # to the call that pays
    choose(made, lambda several: answer if answer in several else several[0])
    made.send(request())
    made.run_for(MINUTE)
    assert any(f"{answer} to POST" in line for line in made.kernel.trace or [])
    made.settle()
    assert (status(made), paid(made), remaining(made)) == ("SUCCEEDED", 1, 700)
