"""The ledgers of a batch are read at once, when it begins: what changes before they are used."""

from __future__ import annotations

from typing import Any

import pytest
from tests.simulator.scripting import (
    HOUR,
    MINUTE,
    crash_at,
    paid,
    posts,
    remaining,
    request,
    script_faults,
    status,
    world,
)
from tests.simulator.sqs import event_record
from tests.simulator.world import World

from refunds.tables.ledger import LedgerTable

BATCH_READ = "dynamodb batch get Ledger"


def deliver_together(made: World, *requests: dict[str, Any]) -> None:
    """The requests come in one batch, in an environment of their own."""
    made.source.enabled = False
    for each in requests:
        made.send(each)
    made.run_for(2)
    batch = made.sqs.receive(made.queue, len(requests))
    assert len(batch) == len(requests)
    event = {"Records": [event_record(message) for message in batch]}
    made.functions.invoke(
        "process",
        lambda env, deadline: env.process_refund.handle(event, deadline),
        lambda result: None,  # the messages come back, and are dropped
        lambda: None,
    )
    made.source.enabled = True


def hold_after_next_read(made: World, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """The batch that reads its ledgers next goes on so much later, with what it has read."""
    read_many = LedgerTable.read_many
    waits = [seconds]

    def slow(table: LedgerTable, transaction_ids: set[str]) -> Any:
        read = read_many(table, transaction_ids)
        if waits:
            made.kernel.pause(waits.pop())
        return read

    monkeypatch.setattr(LedgerTable, "read_many", slow)


def statuses(made: World, *refund_ids: str) -> list[str]:
    return sorted(status(made, each) for each in refund_ids)


def test_two_refunds_of_one_payment_in_a_batch_share_what_is_left_of_an_old_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = world()
    made.send(request("r0"))
    made.run_for(MINUTE)
    hold_after_next_read(made, monkeypatch, 20)
    deliver_together(made, request("r1"), request("r2"))
    made.run_for(1)
    made.send(request("r3"))  # 400 are left, the batch has read 700
    made.run_for(10)
    assert (status(made, "r3"), remaining(made)) == ("SUCCEEDED", 400)
    made.run_for(20)
    assert statuses(made, "r1", "r2") == ["REJECTED", "SUCCEEDED"]
    assert remaining(made) == 100
    assert made.kernel.counts["deliveries"] == 2  # r0 and r3: the batch did not have to come back
    made.settle()
    assert sum(paid(made, each) for each in ("r0", "r1", "r2", "r3")) == 3


def test_a_batch_that_has_read_no_ledger_looks_first_once_another_has_begun_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = world()
    hold_after_next_read(made, monkeypatch, 20)
    deliver_together(made, request("r1"), request("r2"))
    made.run_for(1)
    made.send(request("r3"))
    made.run_for(10)
    assert status(made, "r3") == "SUCCEEDED"
    gets = made.kernel.counts["gateway GETs"]
    made.run_for(20)
    assert statuses(made, "r1", "r2") == ["SUCCEEDED", "SUCCEEDED"]
    # The payment shows a refund: it and its list are read, and each refund is looked up.
    assert made.kernel.counts["gateway GETs"] - gets >= 6
    assert (posts(made), remaining(made)) == (3, 100)
    made.settle()


@pytest.mark.parametrize("earlier", [["r0"], []])
def test_a_refund_that_another_delivery_has_paid_since_the_read_is_not_reserved_again(
    monkeypatch: pytest.MonkeyPatch, earlier: list[str]
) -> None:
    made = world(2000)
    for each in earlier:
        made.send(request(each))
    made.run_for(MINUTE)
    hold_after_next_read(made, monkeypatch, 20)
    deliver_together(made, request("r1"), request("r2"))
    made.run_for(1)
    made.send(request("r1"))
    made.run_for(10)
    assert status(made) == "SUCCEEDED"
    made.run_for(20)
    assert statuses(made, "r1", "r2") == ["SUCCEEDED", "SUCCEEDED"]
    assert (paid(made), paid(made, "r2")) == (1, 1)
    assert remaining(made) == 2000 - 300 * (2 + len(earlier))
    made.settle()


@pytest.mark.parametrize("step", [BATCH_READ, BATCH_READ + ", done"])
def test_a_crash_around_the_batchs_read_loses_nothing(step: str) -> None:
    made = world()
    crash_at(made, step)
    deliver_together(made, request("r1"), request("r2"))
    made.run_for(HOUR)
    assert made.kernel.counts["crash " + step] == 1
    assert statuses(made, "r1", "r2") == ["SUCCEEDED", "SUCCEEDED"]
    assert (posts(made), remaining(made)) == (2, 400)
    made.settle()


def test_ledgers_that_were_not_processed_are_read_one_by_one() -> None:
    made = world()
    made.pay("tx2", 1000)
    made.send(request("r0"))
    made.run_for(MINUTE)
    script_faults(made, dynamodb_leaves_keys_out=[1, 1])
    made.kernel.steps = []
    deliver_together(made, request("r1"), request("r2", transaction_id="tx2"))
    made.run_for(10)
    assert made.kernel.steps.count("dynamodb get Ledger") == 3  # the marker, and one for each
    assert statuses(made, "r1", "r2") == ["SUCCEEDED", "SUCCEEDED"]
    assert (posts(made), remaining(made)) == (3, 400)
    made.settle()


def test_a_release_that_may_not_read_its_ledgers_at_once_goes_on_and_raises_the_alarm() -> None:
    made = world()
    made.services.wire.denied[BATCH_READ] = "AccessDeniedException"
    deliver_together(made, request("r1"), request("r2"))
    made.run_for(10)
    assert statuses(made, "r1", "r2") == ["SUCCEEDED", "SUCCEEDED"]
    assert "MisconfiguredPermissionDenied" in {each.name for each in made.services.metrics}
    made.services.wire.denied.clear()
    made.settle()


def test_each_refund_of_a_batch_has_its_own_payments_ledger() -> None:
    made = world()
    made.pay("tx2", 500, currency="EUR")
    made.send(request("r0"))
    made.run_for(MINUTE)
    deliver_together(
        made,
        *(request(f"r{number}", amount_minor=200) for number in (1, 2)),
        request("r3", transaction_id="tx2", currency="EUR"),
    )
    made.run_for(10)
    assert statuses(made, "r1", "r2", "r3") == ["SUCCEEDED"] * 3
    assert remaining(made) == 300
    made.settle()
