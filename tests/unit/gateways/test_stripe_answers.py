"""Stripe's answer to a refund: its status, and what a refusal says of the money."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.support.builders import NOW
from tests.support.stripe_script import (
    OTHER_MODE,
    Key,
    Script,
    a_refund,
    create,
    gateway,
    refusal,
    soon,
    unlike_stripe,
)

from refunds.gateways.contract import (
    REFERENCE_KEY,
    Accepted,
    Answer,
    Declined,
    GatewayStatus,
    GatewayUnavailableError,
    KeyReused,
    KeyTooOld,
    Misconfiguration,
    Misconfigured,
    RefundOrder,
    Retryable,
    Unknown,
)
from refunds.gateways.http import HttpResponse

# What becomes of a refund


@pytest.mark.parametrize(
    ("status", "told", "code"),
    [
        ("succeeded", GatewayStatus.SUCCEEDED, None),
        ("pending", GatewayStatus.PENDING, None),
        ("requires_action", GatewayStatus.PENDING, None),
        (None, GatewayStatus.PENDING, None),
        ("of_a_later_version", GatewayStatus.PENDING, None),
        ("failed", GatewayStatus.FAILED, "failed"),
        ("canceled", GatewayStatus.FAILED, "canceled"),
    ],
)
def test_a_status_is_final_only_if_it_is_surely_so(
    status: str | None, told: GatewayStatus, code: str | None
) -> None:
    answer = create(Script((200, a_refund(status=status))))

    assert isinstance(answer, Accepted)
    assert (answer.refund.status, answer.refund.failure_code) == (told, code)


@pytest.mark.parametrize(
    ("details", "trace"),
    [
        (
            {
                "type": "card",
                "card": {
                    "type": "refund",
                    "reference": "74312345678901234567890",
                    "reference_status": "available",
                    "reference_type": "acquirer_reference_number",
                },
            },
            "74312345678901234567890",
        ),
        ({"type": "card", "card": {"type": "refund", "reference_status": "pending"}}, None),
        ({"type": "eu_bank_transfer", "eu_bank_transfer": {"reference": "RF18-539"}}, "RF18-539"),
        ({"type": "card", "card": {"type": "refund", "reference": "Jenny Rosen"}}, None),
        ({"type": "klarna", "klarna": {}}, None),
        ({"type": "klarna"}, None),
    ],
)
def test_the_banks_number_is_kept_once_there_is_one(
    details: dict[str, Any], trace: str | None
) -> None:
    answer = create(Script((200, a_refund(destination_details=details))))

    assert isinstance(answer, Accepted)
    assert answer.refund.trace == trace


@pytest.mark.parametrize("details", [None, {}, {"type": "card", "card": {"reference": None}}])
def test_a_banks_number_that_cant_be_read_keeps_no_refund_from_us(details: Any) -> None:
    answer = create(Script(unlike_stripe(200, a_refund(destination_details=details))))

    assert isinstance(answer, Accepted)
    assert answer.refund.trace is None


def test_a_refund_that_waits_for_our_balance_says_so() -> None:
    waiting = a_refund(status="pending", pending_reason="insufficient_funds")
    answer = create(Script((200, waiting)))

    assert isinstance(answer, Accepted)
    assert answer.refund.status is GatewayStatus.PENDING
    assert answer.refund.pending_reason == "insufficient_funds"


def test_a_failed_refund_has_stripes_reason() -> None:
    shown = a_refund(status="failed", failure_reason="lost_or_stolen_card")
    answer = create(Script((200, shown)))

    assert isinstance(answer, Accepted)
    assert answer.refund.failure_code == "lost_or_stolen_card"


@pytest.mark.parametrize(
    "shown",
    [
        a_refund(amount="2500"),
        a_refund(amount=25.0),
        a_refund(amount=0),
        a_refund(amount=None),
        a_refund(currency=None),
        a_refund(currency="isk", amount=250),
        a_refund(id=None),
        a_refund(metadata={REFERENCE_KEY: 1}),
        {"object": "refund"},
        {},
        [],
        None,
        "<html>Bad day</html>",
        "",
        7,
    ],
    ids=str,
)
def test_a_refund_that_cant_be_read_may_have_been_made(shown: Any) -> None:
    assert isinstance(create(Script(unlike_stripe(200, shown))), Unknown)


# What a refusal says of the money


@pytest.mark.parametrize(
    ("status", "content", "answer"),
    [
        (401, refusal(), Misconfigured(Misconfiguration.KEY_REFUSED)),
        (401, refusal(code="api_key_expired"), Misconfigured(Misconfiguration.KEY_REFUSED)),
        (403, refusal(), Misconfigured(Misconfiguration.PERMISSION_MISSING)),
        (429, refusal(code="rate_limit"), Retryable("HTTP 429: too many requests")),
        (429, refusal(code="lock_timeout"), Retryable("HTTP 429: too many requests")),
        (400, refusal(code="rate_limit"), Retryable("HTTP 400: too many requests")),
        (400, refusal(type="idempotency_error"), KeyReused()),
        (
            400,
            refusal(code="livemode_mismatch"),
            Misconfigured(Misconfiguration.KEY_OF_WRONG_MODE),
        ),
        (
            404,
            refusal(code="resource_missing", message=OTHER_MODE),
            Misconfigured(Misconfiguration.KEY_OF_WRONG_MODE),
        ),
        (
            400,
            refusal(code="insufficient_funds"),
            Declined("insufficient_funds", "Dear Jenny", insufficient_funds=True),
        ),
        (
            409,
            refusal(type="idempotency_error", code="idempotency_key_in_use"),
            Unknown("HTTP 409 idempotency_key_in_use"),
        ),
        (
            400,
            refusal(type="idempotency_error", code="idempotency_key_in_use"),
            Unknown("HTTP 400 idempotency_key_in_use"),
        ),
        (409, refusal(), Unknown("HTTP 409 None")),
        (404, refusal(), Unknown("HTTP 404: nothing is known of this address")),
        (404, refusal(code="resource_missing"), Declined("resource_missing", "Dear Jenny")),
        (400, refusal(code="charge_disputed"), Declined("charge_disputed", "Dear Jenny")),
        (400, refusal(), Declined("invalid_request_error", "Dear Jenny")),
        (
            402,
            refusal(type="card_error", code="expired_or_canceled_card"),
            Declined("expired_or_canceled_card", "Dear Jenny"),
        ),
        (
            400,
            refusal(code="charge_already_refunded"),
            Declined("charge_already_refunded", "Dear Jenny", over_balance=True),
        ),
        (
            400,
            refusal(param="amount"),
            Declined("invalid_request_error", "Dear Jenny", over_balance=True),
        ),
        (
            400,
            refusal(param="amount", code="parameter_invalid_integer"),
            Declined("parameter_invalid_integer", "Dear Jenny"),
        ),
        (500, refusal(type="api_error"), Unknown("HTTP 500")),
        (503, refusal(type="api_error"), Unknown("HTTP 503")),
        (418, refusal(), Unknown("HTTP 418 None")),
        (400, "<html>Bad Request</html>", Unknown("HTTP 400")),
        (429, "slow down", Unknown("HTTP 429")),
        (302, "", Unknown("HTTP 302")),
    ],
)
def test_a_refusal_is_taken_for_what_it_proves(status: int, content: Any, answer: Answer) -> None:
    assert create(Script((status, content))) == answer


@pytest.mark.parametrize(
    ("status", "content", "reason"),
    [
        (402, {"error": "no"}, "the answer can't be read: AttributeError"),
        (404, {"error": {"message": "no type"}}, "HTTP 404"),
    ],
)
def test_a_refusal_that_is_not_stripes_proves_nothing(
    status: int, content: Any, reason: str
) -> None:
    assert create(Script(unlike_stripe(status, content))) == Unknown(reason)


def test_a_code_that_is_no_code_is_not_told() -> None:
    answer = create(Script((409, refusal(code="Jenny Rosen, 4242424242424242"))))

    assert answer == Unknown("HTTP 409 (a code that is not shown)")


def test_how_long_to_wait_is_stripes_to_say() -> None:
    told = HttpResponse(429, {"retry-after": "7"}, json.dumps(refusal()).encode())
    answer = create(Script(told))

    assert isinstance(answer, Retryable)
    assert answer.retry_after_seconds == 7


@pytest.mark.parametrize("status", [401, 403])
def test_a_key_that_is_not_taken_is_asked_for_anew(status: int) -> None:
    key = Key()
    create(Script((status, refusal())), key=key)
    with pytest.raises(GatewayUnavailableError):
        gateway(Script((status, refusal())), key=key).get_payment("ch_1", soon())

    assert key.forgotten == 2


def test_a_key_that_may_be_forgotten_by_now_is_not_sent() -> None:
    script = Script()
    order = RefundOrder("refund-1", "pi_1", 2500, "USD", "other", reference="refund-1")

    assert gateway(script).create_refund(order, soon(), not_after=NOW) == KeyTooOld()
    assert script.asked == []
