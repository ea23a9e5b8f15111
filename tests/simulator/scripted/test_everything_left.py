"""Requests without an amount: what is left is counted at the gateway."""

from __future__ import annotations

import pytest
from tests.simulator.scripting import MINUTE, attribute, request, request_for_rest, status, world


def test_the_rest_is_counted_at_the_gateway() -> None:
    made = world(10_000)
    made.send(request(amount_minor=1000))
    made.run_for(MINUTE)
    made.flair.refund_by_others("tx1", 5000)
    made.send(request_for_rest("r2"))
    made.run_for(MINUTE)
    assert (status(made, "r2"), attribute(made, "amount_minor", "r2")) == ("SUCCEEDED", "4000")
    made.settle()


def test_the_rest_counts_a_second_capture() -> None:
    made = world(5000)
    made.send(request(amount_minor=1000))
    made.run_for(MINUTE)
    made.flair.payments["tx1"].captured = 10_000
    made.send(request_for_rest("r2"))
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
    made.send(request_for_rest("r2"))
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
