"""Payments at Stripe: what they are worth, and the disputes that bar a refund."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from tests.support.stripe_script import (
    OTHER_MODE,
    Key,
    Script,
    a_charge,
    a_dispute,
    a_list,
    an_intent,
    gateway,
    refusal,
    soon,
    unlike_stripe,
)

from refunds.gateways.contract import (
    GatewayMisconfiguredError,
    GatewayUnavailableError,
    Misconfiguration,
    PaymentStatus,
)


@pytest.mark.parametrize(
    ("shown", "status", "captured"),
    [
        (an_intent(), PaymentStatus.CAPTURED, 10_000),
        (an_intent(status="requires_capture"), PaymentStatus.CAPTURED, 10_000),
        (
            an_intent(
                status="requires_capture", latest_charge=a_charge(captured=False, amount_captured=0)
            ),
            PaymentStatus.AUTHORIZED,
            0,
        ),
        (an_intent(status="processing"), PaymentStatus.AUTHORIZED, 10_000),
        (an_intent(status="canceled", latest_charge=None), PaymentStatus.VOIDED, 0),
        (
            an_intent(status="requires_payment_method", latest_charge=None),
            PaymentStatus.AUTHORIZED,
            0,
        ),
        (an_intent(latest_charge=None), PaymentStatus.AUTHORIZED, 0),
        (
            an_intent(latest_charge=a_charge(amount_captured=6_000)),
            PaymentStatus.CAPTURED,
            6_000,
        ),
    ],
)
def test_a_payment_intent_is_worth_what_its_charge_captured(
    shown: dict[str, Any], status: PaymentStatus, captured: int
) -> None:
    payment = gateway(Script((200, shown))).get_payment("pi_1", soon())

    assert payment is not None
    assert (payment.status, payment.captured_minor) == (status, captured)
    assert payment.refunded_minor == (2_500 if shown["latest_charge"] else 0)


def test_without_a_key_a_payment_is_not_asked_for() -> None:
    class NoKey(Key):
        def get(self) -> str:
            raise TimeoutError

    script = Script()
    with pytest.raises(GatewayUnavailableError, match="no gateway key: TimeoutError"):
        gateway(script, key=NoKey()).get_payment("pi_1", soon())
    assert script.asked == []


def test_statuses_of_a_later_version_bar_a_refund() -> None:
    intent = gateway(Script(unlike_stripe(200, an_intent(status="of_a_later_version"))))
    disputes = a_list(a_dispute(status="of_a_later_version", amount=4_000), url="/v1/disputes")
    disputed = gateway(
        Script(
            (200, an_intent(latest_charge=a_charge(disputed=True))), unlike_stripe(200, disputes)
        )
    )

    unknown, held = (each.get_payment("pi_1", soon()) for each in (intent, disputed))
    assert unknown is not None
    assert unknown.status is PaymentStatus.AUTHORIZED
    assert held is not None
    assert held.disputed_minor == 4_000


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({}, PaymentStatus.CAPTURED),
        ({"amount_captured": 1, "amount_refunded": 0}, PaymentStatus.CAPTURED),
        ({"captured": False, "amount_captured": 0}, PaymentStatus.AUTHORIZED),
        ({"status": "pending"}, PaymentStatus.AUTHORIZED),
        ({"status": "failed"}, PaymentStatus.VOIDED),
    ],
)
def test_a_charge_is_captured_only_if_it_succeeded_and_was(
    changes: dict[str, Any], status: PaymentStatus
) -> None:
    payment = gateway(Script((200, a_charge(**changes)))).get_payment("ch_1", soon())

    assert payment is not None
    assert payment.status is status


@pytest.mark.parametrize(
    ("disputes", "refundable"),
    [
        (["won"], True),
        (["warning_needs_response"], True),
        (["warning_closed", "won"], True),
        (["needs_response"], False),
        (["under_review"], False),
        (["lost"], False),
        (["won", "lost"], False),
        (["prevented"], False),
        ([], False),
    ],
)
def test_a_dispute_bars_a_refund_while_the_bank_may_have_the_money(
    disputes: list[str], refundable: bool
) -> None:
    listed = a_list(
        *(a_dispute(status=status, amount=10_000) for status in disputes), url="/v1/disputes"
    )
    script = Script((200, an_intent(latest_charge=a_charge(disputed=True))), (200, listed))
    payment = gateway(script).get_payment("pi_1", soon())

    assert payment is not None
    assert (payment.status is PaymentStatus.CAPTURED) == refundable
    assert parse_qs(urlsplit(script.asked[1][1]).query)["charge"] == ["ch_1"]


@pytest.mark.parametrize(
    ("disputes", "disputed", "status"),
    [
        ([("needs_response", 4_000, "usd")], 4_000, PaymentStatus.CAPTURED),
        ([("lost", 4_000, "usd"), ("won", 3_000, "usd")], 4_000, PaymentStatus.CAPTURED),
        ([("prevented", 4_000, "usd")], 4_000, PaymentStatus.CAPTURED),
        ([("lost", 4_000, "usd"), ("under_review", 6_000, "usd")], 10_000, PaymentStatus.DISPUTED),
        ([("lost", 12_000, "usd")], 10_000, PaymentStatus.DISPUTED),
        ([("lost", 4_000, "eur")], 10_000, PaymentStatus.DISPUTED),
        ([("won", 10_000, "eur")], 0, PaymentStatus.CAPTURED),
    ],
)
def test_a_partial_dispute_bars_only_its_own_amount(
    disputes: list[tuple[str, int, str]], disputed: int, status: PaymentStatus
) -> None:
    listed = a_list(
        *(
            a_dispute(status=state, amount=amount, currency=currency)
            for state, amount, currency in disputes
        ),
        url="/v1/disputes",
    )
    script = Script((200, an_intent(latest_charge=a_charge(disputed=True))), (200, listed))
    payment = gateway(script).get_payment("pi_1", soon())

    assert payment is not None
    assert (payment.disputed_minor, payment.status) == (disputed, status)
    assert payment.refundable_minor == max(0, 10_000 - 2_500 - disputed)


def test_between_two_captures_what_is_captured_can_be_refunded() -> None:
    charge = a_charge(captured=False, amount_captured=700, amount_refunded=0)
    shown = an_intent(status="requires_capture", latest_charge=charge)
    payment = gateway(Script((200, shown))).get_payment("pi_1", soon())

    assert payment is not None
    assert (payment.status, payment.captured_minor) == (PaymentStatus.CAPTURED, 700)


@pytest.mark.parametrize(
    "shown",
    [
        an_intent(id="pi_2"),
        an_intent(latest_charge="ch_1"),
        an_intent(latest_charge=a_charge(amount_captured=-1)),
        an_intent(currency=None),
        {},
        [],
        "<html>",
    ],
    ids=str,
)
def test_a_payment_that_cant_be_read_is_not_guessed_at(shown: Any) -> None:
    with pytest.raises(GatewayUnavailableError):
        gateway(Script(unlike_stripe(200, shown))).get_payment("pi_1", soon())


def test_a_payment_of_the_other_mode_is_our_misconfiguration_not_a_missing_payment() -> None:
    shown = refusal(code="resource_missing", message=OTHER_MODE)
    with pytest.raises(GatewayMisconfiguredError) as caught:
        gateway(Script((404, shown))).get_payment("pi_1", soon())

    assert caught.value.reason is Misconfiguration.KEY_OF_WRONG_MODE


def test_only_stripes_own_404_says_that_there_is_no_payment() -> None:
    missing = gateway(Script((404, refusal(code="resource_missing"))))
    assert missing.get_payment("pi_1", soon()) is None

    for content in (refusal(), "<html>Not Found</html>", {"error": {"code": "resource_missing"}}):
        with pytest.raises(GatewayUnavailableError):
            gateway(Script(unlike_stripe(404, content))).get_payment("pi_1", soon())
