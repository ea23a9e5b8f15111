"""One refund id used for two payments. The first one's record is lost, and the gateway's account
has changed: neither payment's trail nor that account knows of both."""

from __future__ import annotations

from tests.simulator.scripting import (
    HOUR,
    MINUTE,
    attribute,
    choose_the_last,
    deliver_again,
    empty_tables,
    paid,
    remaining,
    request,
    request_for_rest,
    script_faults,
    status,
    world,
)
from tests.simulator.walls import ELSEWHERE
from tests.simulator.world import World

from refunds.gateways.contract import Stage


def test_an_id_of_two_payments_is_not_paid_twice_and_a_person_hears_of_it() -> None:
    made = world()
    made.send(request())
    made.run_for(MINUTE)
    empty_tables(made)
    _use_the_id_for_another_payment_at_another_account(made)
    again = made.send(request())
    made.run_for(HOUR)
    assert paid(made) == 1
    assert again.gone is not None
    [refused] = made.dlq.messages.values()
    assert (
        "(SUCCEEDED), whose record was lost" in refused.attributes["error_message"]["StringValue"]
    )
    made.settle()


def test_what_a_lost_record_held_stays_held_though_its_id_has_another_record() -> None:
    made = world()
    made.send(request())
    made.run_for(MINUTE)
    made.empty(made.refunds)
    _use_the_id_for_another_payment_at_another_account(made)
    deliver_again(made)
    made.settle()  # and its refused message goes to the archive
    assert not made.dlq.messages
    assert made.ledger.items[("tx1",)]["r#r1"] == {"N": "300"}


def test_a_ledger_that_begins_again_holds_what_is_under_way_though_its_id_has_another_record() -> (
    None
):
    made = world()
    made.kernel.fault_rates = {"gateway takes no orders": 1.0}
    made.send(request())
    made.run_for(10 * MINUTE)
    assert status(made) == "PROCESSING"
    made.kernel.fault_rates = {}
    made.queue.messages.clear()  # and its message is in the archive
    empty_tables(made)
    _use_the_id_for_another_payment_at_another_account(made)
    made.send(request_for_rest("r2"))
    made.run_for(10 * MINUTE)
    assert (status(made, "r2"), attribute(made, "amount_minor", "r2")) == ("SUCCEEDED", "700")
    made.settle()
    assert (paid(made), paid(made, "r2")) == (0, 1)


def _use_the_id_for_another_payment_at_another_account(made: World) -> None:
    accounts = made.services.gateways.accounts
    made.redeploy(accounts=(accounts[0]._replace(url=ELSEWHERE),))
    made.send(request(transaction_id="tx2"))
    made.run_for(HOUR)
    assert (status(made), attribute(made, "transaction_id")) == ("REJECTED", "tx2")
    made.redeploy(accounts=accounts)


def test_an_id_that_another_payment_was_refunded_with_is_not_rejected() -> None:
    made = world()
    made.pay("tx2", 200)
    made.send(request())
    made.run_for(MINUTE)
    made.empty(made.refunds)
    made.send(request(transaction_id="tx2"))  # more than it has
    made.run_for(MINUTE)
    [refused] = made.dlq.messages.values()
    assert refused.attributes["error_code"]["StringValue"] == "idempotency_conflict"
    assert ("r1",) not in made.refunds.items
    deliver_again(made)
    assert (status(made), attribute(made, "transaction_id")) == ("SUCCEEDED", "tx1")
    made.settle()


def test_what_only_the_gateway_knows_stays_held_though_its_id_has_another_record() -> None:
    made = _world_that_knows_another_payments_refund()
    deliver_again(made)
    assert made.ledger.items[("tx1",)]["r#r1"] == {"N": "300"}
    assert (remaining(made), paid(made)) == (700, 1)


def test_an_id_of_two_payments_and_two_stages_pays_each_of_them_once() -> None:
    """Refunds and ledger lost the first. Its trail is its payment's, its reference its stage's."""
    made = world()
    made.pay("tx2", 1000)
    made.send(request())
    made.run_for(MINUTE)
    empty_tables(made)
    made.redeploy(stage=Stage("green"))
    made.send(request(transaction_id="tx2"))
    made.run_for(HOUR)
    assert [moved.reference for moved in made.flair.of("r1")] == ["r1", "green.r1"]
    deliver_again(made)
    deliver_again(made, transaction_id="tx2")
    made.settle()
    moved_for = sorted(moved.transaction_id for moved in made.flair.of("r1"))
    assert moved_for == ["tx1", "tx2"]


def test_what_only_the_gateway_knows_stays_held_though_its_list_lags_after_the_count() -> None:
    made = _world_that_knows_another_payments_refund()
    made.kernel.fault_rates = {"gateway hides refunds": 1.0}
    script_faults(made, **{"gateway's list lags": [0, 1]})
    deliver_again(made)
    assert made.ledger.items[("tx1",)]["r#r1"] == {"N": "300"}
    assert (remaining(made), paid(made)) == (700, 1)


def test_what_only_the_look_up_still_shows_stays_held() -> None:
    made = _world_that_knows_another_payments_refund()
    deliver_again(made)
    made.kernel.fault_rates = {"gateway's list lags": 1.0}
    deliver_again(made)
    assert made.ledger.items[("tx1",)]["r#r1"] == {"N": "300"}
    assert (remaining(made), paid(made)) == (700, 1)


def _world_that_knows_another_payments_refund() -> World:
    """tx1 was refunded, everything but the gateway has forgotten it, and tx2's request has its id.
    From here on a list that lags is more than an hour behind."""
    made = world(enforces_balance=False)
    made.pay("tx2", 1000)
    made.send(request())
    made.run_for(MINUTE)
    empty_tables(made)
    made.empty(made.audit)
    made.send(request(transaction_id="tx2"))
    made.run_for(10 * MINUTE)
    assert attribute(made, "transaction_id") == "tx2"
    choose_the_last(made)
    return made
