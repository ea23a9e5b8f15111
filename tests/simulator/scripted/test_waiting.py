"""What waits: messages near their end, pending refunds, reservations, corrections."""

from __future__ import annotations

import pytest
from tests.simulator.scripting import (
    HOUR,
    MINUTE,
    correct,
    crash_at,
    fail_here_and_pay_there,
    paid,
    reconcile_hourly,
    remaining,
    request,
    status,
    world,
)
from tests.simulator.sqs import DAY

from refunds.processing.deferral import RESENT


def test_one_empty_look_up_sends_nobody_to_a_person() -> None:
    made = world()
    made.flair.stubborn["r1"] = "pending"
    made.send(request())
    made.run_for(MINUTE)
    reconcile_hourly(made, 30)
    made.kernel.fault_rates = {"gateway hides refunds": 1.0}
    reconcile_hourly(made, 2)
    assert status(made) == "PENDING"
    reconcile_hourly(made, 25)
    assert status(made) == "IN_REVIEW"
    # The gateway shows it again: that settles it without a person.
    made.kernel.fault_rates = {}
    made.flair.fail(made.flair.refunds[0], "bank_refused")
    reconcile_hourly(made, 2)
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


@pytest.mark.parametrize("resent", [None, "yesterday", "9999-12-31T00:00:00Z"])
def test_a_message_at_the_end_of_its_time_is_found_after_a_crash(resent: str | None) -> None:
    made = world()
    made.tap._source.switch(enabled=False, concurrency=3)
    message = made.send(request())
    if resent:
        message.attributes[RESENT] = {"DataType": "String", "StringValue": resent}
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


def test_a_correction_that_dies_between_its_writes_is_finished_by_the_reconciler() -> None:
    made = world()
    fail_here_and_pay_there(made)
    crash_at(made, "dynamodb update Refunds, done")
    correct(made)
    made.run_for(MINUTE)
    assert (status(made), remaining(made)) == ("SUCCEEDED", 1000)
    made.run_for(10 * MINUTE)
    made.reconcile()
    made.run_for(10 * MINUTE)
    assert remaining(made) == 700
    reconcile_hourly(made, 2)
    assert "open_shard" not in made.refunds.items[("r1",)]
