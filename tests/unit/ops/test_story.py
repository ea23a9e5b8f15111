"""What one audit entry says in words."""

from __future__ import annotations

from typing import Any

import pytest

from refunds_ops.story import sentence, tell_customer, what_follows


def entry(event: str, previous: str, status: str, **details: Any) -> dict[str, Any]:
    return {
        "event": event,
        "previous_status": previous,
        "status": status,
        "requested_by": "agent:anna",
        "transaction_id": "payment-1",
        "details": {"amount_minor": 2500, "currency": "USD", "gateway": "flair", **details},
    }


RESTORED = {"by": "arn:aws:iam::1:user/jo", "why": "TICKET-10", "source": "backup 2"}


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (
            entry("refund.succeeded", "PROCESSING", "SUCCEEDED", changed_fields=["status"]),
            "25.00 USD was paid back through flair.",
        ),
        (
            entry(
                "refund.restored",
                "SUCCEEDED",
                "SUCCEEDED",
                restored=RESTORED,
                changed_fields=["processed_by", "restored"],
            ),
            "Its record was restored from backup 2 by jo: TICKET-10.",
        ),
        (
            entry(
                "refund.succeeded",
                "SUCCEEDED",
                "SUCCEEDED",
                gateway_trace="7431",
                changed_fields=["gateway_trace"],
            ),
            "The bank's number for it is 7431.",
        ),
        (
            entry(
                "refund.pending", "PENDING", "PENDING", changed_fields=["gateway_refund_id", "x"]
            ),
            "Its record was updated: gateway_refund_id, x.",
        ),
        (
            entry(
                "refund.in_review",
                "IN_REVIEW",
                "SUCCEEDED",
                changed_fields=["review"],
                review={"by": "jo", "why": "paid", "evidence": "re_1"},
            ),
            "25.00 USD was paid back through flair. Decided by jo: paid (re_1).",
        ),
        (
            entry(
                "refund.failed",
                "IN_REVIEW",
                "FAILED",
                changed_fields=["review"],
                review={"by": "jo", "why": "no", "evidence": "T-1"},
                failure_code="gateway_forgot",
            ),
            "Recorded as not paid. The reserved money is free again. Decided by jo: no (T-1).",
        ),
        (
            entry(
                "refund.failed",
                "PROCESSING",
                "FAILED",
                failure_code="card_declined",
                failure_message="The card was declined.",
            ),
            "flair did not pay it: card_declined: The card was declined. "
            "The reserved money is free again.",
        ),
        (
            entry(
                "refund.failed",
                "IN_REVIEW",
                "FAILED",
                changed_fields=["kept_minor", "review"],
                review={"by": "jo", "why": "no", "evidence": "T-1"},
                kept_minor=2500,
            ),
            "Recorded as not paid, although the gateway has moved 25.00 USD of the payment. "
            "Decided by jo: no (T-1).",
        ),
    ],
)
def test_money_that_did_not_move_again_is_not_said_to_have(
    told: dict[str, Any], words: str
) -> None:
    assert sentence(told) == words


@pytest.mark.parametrize("seen", [{"seen_paid_at": "2026-11-23"}, {"kept_minor": 1}])
def test_no_customer_is_promised_another_way_while_the_gateway_shows_this_one_as_paid(
    seen: dict[str, Any],
) -> None:
    failed = {"refund_id": "r1", "status": "FAILED"}
    assert "another" in tell_customer(failed)
    assert "another" not in tell_customer(failed | seen)
    assert (what_follows(failed), "refunds correct" in what_follows(failed | seen)) == ("", True)
