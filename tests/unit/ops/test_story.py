"""What one audit entry says in words."""

from __future__ import annotations

from typing import Any

import pytest

from refunds_ops.story import sentence


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
    ],
)
def test_money_that_did_not_move_again_is_not_said_to_have(
    told: dict[str, Any], words: str
) -> None:
    assert sentence(told) == words
