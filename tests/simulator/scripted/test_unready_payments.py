"""Payments that are not ready yet, or that the gateway no longer knows."""

from __future__ import annotations

import pytest
from tests.simulator.scripting import (
    HOUR,
    MINUTE,
    attribute,
    paid,
    request,
    request_for_rest,
    status,
    world,
)


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
    made.send(request_for_rest("r2"))
    made.send(request("r3", amount_minor=5000))
    made.run_for(2 * HOUR)
    for refund_id in ("r2", "r3"):
        assert status(made, refund_id) == "REJECTED"
        assert attribute(made, "failure_code", refund_id) == "payment_not_found"
    assert not made.queue.messages
    made.flair.payments["tx1"] = payment
    made.settle()
