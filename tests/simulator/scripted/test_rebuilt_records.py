"""Records that are rebuilt from the trail: the same money, the same chain, the same call."""

from __future__ import annotations

import json

import pytest
from tests.simulator.scripting import (
    HIDDEN,
    HOUR,
    MINUTE,
    attribute,
    crash_at,
    decide,
    deliver_again,
    empty_tables,
    fail_here_and_pay_there,
    lose_row,
    paid,
    reconcile_hourly,
    remaining,
    remove_by_hand,
    request,
    request_for_rest,
    script_faults,
    status,
    world,
)
from tests.simulator.sqs import DAY
from tests.simulator.world import World

from refunds.domain.refund import Status
from refunds.gateways import flair
from refunds.gateways.contract import RefundOrder
from refunds.gateways.flair import FlairGateway


def latest_hash(made: World) -> str:
    """The hash of the trail's last entry, and of r1 if it is the only refund."""
    return str(made.audit.items[max(made.audit.items)]["entry_hash"]["S"])


def previous_hashes(made: World) -> list[str | None]:
    """Of each entry of the trail, in the order of r1's versions."""
    entries = [entry for _, entry in sorted(made.audit.items.items())]
    return [entry["previous_hash"].get("S") for entry in entries]


@pytest.mark.parametrize("fault", ["gateway_pays_another_amount", "gateway_doubles_a_refund"])
def test_what_the_gateway_kept_is_not_given_back_by_a_rebuilt_record(fault: str) -> None:
    made = world(enforces_balance=False)
    script_faults(made, **{fault: [1]}, network_loses_the_answer=[0, 1])
    made.send(request())
    made.run_for(HOUR)
    moved = sum(each.amount for each in made.flair.refunds)
    decide(made, Status.FAILED)
    made.run_for(MINUTE)
    assert (status(made), remaining(made)) == ("FAILED", 1000 - moved)
    made.run_for(DAY)
    empty_tables(made)
    deliver_again(made)
    assert (status(made), remaining(made)) == ("FAILED", 1000 - moved)


def test_a_rebuilt_record_sends_the_same_bytes_for_its_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def body_2(order: RefundOrder) -> bytes:
        return json.dumps(json.loads(flair._body_1(order)) | {"note": "the second format"}).encode()

    monkeypatch.setattr(FlairGateway, "body_format", 2)
    monkeypatch.setattr(flair, "_BODIES", {1: flair._body_1, 2: body_2})
    made = world()
    script_faults(made, network_loses_the_answer=[0, 1])
    made.send(request())
    made.run_for(2)
    assert (status(made), paid(made)) == ("PROCESSING", 1)
    lose_row(made)
    script_faults(made, gateway_hides_a_refund_once=[1])
    made.run_for(HOUR)
    assert (status(made), paid(made)) == ("SUCCEEDED", 1)
    made.settle()


@pytest.mark.parametrize("ended", ["REJECTED", "FAILED"])
def test_a_rejection_continues_a_chain_that_ends_with_a_removal(ended: str) -> None:
    made = world()
    made.flair.stubborn["r1"] = "declined"
    made.send(request(amount_minor=5000 if ended == "REJECTED" else 300))
    made.run_for(10 * MINUTE)
    assert status(made) == ended
    remove_by_hand(made)
    version, last = len(made.audit.items), latest_hash(made)
    empty_tables(made)
    made.flair.payments["tx1"].status = "disputed"
    deliver_again(made, amount_minor=5000 if ended == "REJECTED" else 300)
    assert status(made) == "REJECTED"
    assert attribute(made, "version") == str(version + 1)
    assert attribute(made, "previous_hash") == last
    made.settle()
    assert len(made.audit.items) == version + 1


def test_what_may_have_been_paid_before_its_removal_is_for_a_person_not_rejected() -> None:
    made = world()
    made.send(request())
    made.run_for(MINUTE)
    remove_by_hand(made)
    version, last = len(made.audit.items), latest_hash(made)
    empty_tables(made)
    made.flair.archived.add("tx1")
    made.kernel.fault_rates = HIDDEN
    deliver_again(made)
    made.run_for(HOUR)
    assert status(made) == "IN_REVIEW"
    assert attribute(made, "failure_code") == "record_lost"
    assert previous_hashes(made)[version:][:1] == [last]
    made.flair.archived.clear()
    made.kernel.fault_rates = {}
    made.settle()
    assert (status(made), paid(made)) == ("SUCCEEDED", 1)


@pytest.mark.parametrize("ended", [False, True])
def test_the_archiver_continues_a_chain_that_ends_with_a_removal(ended: bool) -> None:
    made = world(max_receives=1)
    crash_at(made, "gateway POST")
    made.send(request())
    made.run_for(HOUR)
    assert (status(made), remaining(made), len(made.dlq.messages)) == ("PROCESSING", 700, 1)
    remove_by_hand(made)
    version, last = len(made.audit.items), latest_hash(made)
    if ended:
        key = max(made.audit.items)
        made.audit.items[key] = {**made.audit.items[key], "status": {"S": "FAILED"}}
    made.run_for(4 * DAY)
    made.reconcile()
    made.run_for(10 * MINUTE)
    assert previous_hashes(made)[version:][:1] == [last]
    made.reconcile()
    made.run_for(10 * MINUTE)
    # It began four days ago, or had ended: either way it is not called for again.
    assert (status(made), paid(made)) == ("IN_REVIEW", 0)


def test_a_lost_record_is_not_rebuilt_for_another_request_of_its_id() -> None:
    made = world()
    made.send(request())
    made.run_for(MINUTE)
    lose_row(made)
    made.send(request(user_id="u2"))
    made.run_for(MINUTE)
    (refused,) = made.dlq.messages.values()
    assert refused.attributes["error_code"]["StringValue"] == "idempotency_conflict"
    assert made.refunds.items == {}
    made.send(request())
    made.run_for(MINUTE)
    assert (status(made), attribute(made, "user_id"), paid(made)) == ("SUCCEEDED", "u1", 1)


@pytest.mark.parametrize("paid_there", [False, True])
def test_what_all_that_is_left_came_to_is_known_after_a_removal(paid_there: bool) -> None:
    made = world()
    made.flair.stubborn["r1"] = "declined"
    made.send(request_for_rest())
    made.run_for(10 * MINUTE)
    assert status(made) == "FAILED"
    remove_by_hand(made)
    if paid_there:
        made.flair._create("tx1", "r1", 1000, ours=False)
    made.send(request_for_rest())
    made.run_for(10 * MINUTE)
    assert attribute(made, "amount_minor") == "1000"
    assert status(made) == ("SUCCEEDED" if paid_there else "IN_REVIEW")
    assert remaining(made) == (0 if paid_there else 1000)


@pytest.mark.parametrize("hidden", [False, True])
def test_what_had_ended_and_was_paid_after_all_holds_its_money_again(hidden: bool) -> None:
    made = world()
    fail_here_and_pay_there(made)
    remove_by_hand(made)
    made.kernel.fault_rates = HIDDEN if hidden else {}
    deliver_again(made)
    assert status(made) == ("IN_REVIEW" if hidden else "SUCCEEDED")
    made.kernel.fault_rates = {}
    reconcile_hourly(made, 3)
    assert (status(made), remaining(made)) == ("SUCCEEDED", 700)
    made.settle()
