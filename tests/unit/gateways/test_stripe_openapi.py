"""The check of scripted answers sees what is not Stripe's."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.stripe_openapi import NotStripesShapeError, check_answer, check_event
from tests.support.stripe_script import a_charge, a_list, a_refund, an_intent, refusal

from refunds_devkit.sandbox.webhooks import event_of


@pytest.mark.parametrize(
    ("path", "status", "shown", "where"),
    [
        ("/v1/refunds/re_1", 200, {"id": "re_1"}, "required"),
        ("/v1/refunds/re_1", 200, a_refund(amount="1"), "amount"),
        ("/v1/refunds/re_1", 200, a_refund(pending_reason="of_our_invention"), "pending_reason"),
        ("/v1/refunds/re_1", 200, a_refund(arn="7431"), "arn"),
        ("/v1/refunds/re_1", 200, a_charge(), r"\$"),
        ("/v1/refunds", 200, a_list(a_charge()), "data"),
        ("/v1/refunds", 200, a_list(url="/v1/x"), "url"),
        ("/v1/charges/ch_1", 200, a_charge(disputed=None), "disputed"),
        ("/v1/payment_intents/pi_1", 200, an_intent(latest_charge=7), "latest_charge"),
        ("/v1/payment_intents/pi_1", 404, {"error": "no"}, "error"),
        ("/v1/payment_intents/pi_1", 404, refusal(type="wrong_mode"), "type"),
        ("/v1/customers/cus_1", 200, {}, "not an operation"),
    ],
)
def test_an_answer_that_stripe_would_not_give_is_seen(
    path: str, status: int, shown: Any, where: str
) -> None:
    with pytest.raises(NotStripesShapeError, match=where):
        check_answer("GET", path, status, shown)


def test_an_event_that_stripe_would_not_send_is_seen() -> None:
    check_event(event_of(a_refund(), "stripe"))
    for event in (event_of(a_refund(), "flair"), event_of(a_charge(), "stripe")):
        with pytest.raises(NotStripesShapeError):
            check_event(event)
