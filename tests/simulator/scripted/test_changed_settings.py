"""A stage, or a gateway's account, that changed between two attempts."""

from __future__ import annotations

from tests.simulator.restores import back_up, restore
from tests.simulator.scripting import (
    HOUR,
    MINUTE,
    attribute,
    paid,
    posts,
    remaining,
    request,
    request_for_rest,
    script_faults,
    status,
    world,
)
from tests.simulator.sqs import DAY

from refunds.gateways.contract import Stage


def test_a_stage_that_changed_makes_no_second_key() -> None:
    made = world()
    script_faults(made, network_loses_the_answer=[0, 1])
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
    made.send(request_for_rest("r2"))
    made.run_for(MINUTE)
    assert (status(made, "r2"), attribute(made, "amount_minor", "r2")) == ("SUCCEEDED", "700")
    assert attribute(made, "gateway_reference", "r2") == "green.r2"
    made.run_for(DAY)
    # And it is still found when the bank sends it back.
    made.flair.fail(made.flair.refunds[0], "account_closed")
    made.settle()
    assert status(made) == "REVERSED"


def test_a_restore_counts_a_refund_of_another_stage_of_ours_once() -> None:
    made = world()
    made.send(request())
    made.run_for(MINUTE)
    made.redeploy(stage=Stage("green"))
    backup = back_up(made)
    made.empty(made.ledger)
    restore(made, backup)
    made.run_for(MINUTE)
    assert remaining(made) == 700
    made.settle()


def test_another_account_is_reported_and_never_called() -> None:
    made = world()
    script_faults(made, network_loses_the_request=[0, 1])
    made.send(request())
    made.run_for(1)
    accounts = made.services.gateways.accounts
    made.redeploy(accounts=(accounts[0].__class__("flair", "https://other", "key"),))
    made.run_for(2 * HOUR)
    assert (status(made), posts(made)) == ("PROCESSING", 1)
    made.redeploy(accounts=accounts)
    made.settle()
    assert (status(made), paid(made)) == ("SUCCEEDED", 1)


def test_what_began_in_a_stage_that_was_taken_away_is_found_when_the_bank_sends_it_back() -> None:
    made = world()
    made.redeploy(stage=Stage("green"))
    made.send(request())
    made.run_for(MINUTE)
    made.redeploy(stage=Stage())
    made.run_for(HOUR)
    made.flair.fail(made.flair.refunds[0], "account_closed")
    made.reconcile()
    made.run_for(10 * MINUTE)
    assert (status(made), remaining(made)) == ("REVERSED", 1000)
