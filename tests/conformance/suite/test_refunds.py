"""Every adapter: its facts, payments, and what becomes of a refund."""

from __future__ import annotations

from datetime import timedelta

import pytest
from tests.conformance.calls import (
    CLOCK,
    accepted,
    id_for,
    look_up,
    order,
    refund,
    seconds,
    whole_list,
)
from tests.conformance.harness import RIGHT_KEY, Case, Harness

from refunds.gateways.contract import (
    Declined,
    GatewayRefund,
    GatewayStatus,
    KeyReused,
    KeyTooOld,
    Payment,
    PaymentStatus,
)
from refunds.gateways.registry import ADAPTERS


def test_its_facts_are_declared(harness: Harness) -> None:
    gateway = harness.gateway(timeout_seconds=3.5)

    assert gateway.name in ADAPTERS
    assert gateway.key_lifetime >= timedelta(hours=1)
    assert isinstance(gateway.remembers_declines, bool)
    assert isinstance(gateway.can_reverse, bool)
    assert gateway.account
    assert RIGHT_KEY not in gateway.account
    assert gateway.body_format >= 1
    assert gateway.timeout_seconds == 3.5


# Payments


def test_a_payment_is_shown_as_it_is(harness: Harness) -> None:
    gateway, paid = harness.gateway(), harness.new_payment(10_000, "EUR")
    refund(gateway, paid, 2_500, "EUR")
    harness.refund_by_others(paid, 1_000)

    assert gateway.get_payment(paid, seconds(5)) == Payment(
        paid, PaymentStatus.CAPTURED, "EUR", captured_minor=10_000, refunded_minor=3_500
    )


@pytest.mark.parametrize("status", [PaymentStatus.DISPUTED, PaymentStatus.VOIDED])
def test_money_that_cant_be_refunded_is_known_before_it_is_tried(
    harness: Harness, status: PaymentStatus
) -> None:
    shown = harness.gateway().get_payment(harness.new_payment(status=status), seconds(5))

    assert shown is not None
    # Not every API tells a voided payment from one that was not captured yet.
    assert shown.status is not PaymentStatus.CAPTURED


def test_a_payment_that_is_not_there_is_none(harness: Harness) -> None:
    unknown = harness.new_payment() + "x"

    assert harness.gateway().get_payment(unknown, seconds(5)) is None


# What becomes of a refund


def test_a_refund_moves_its_money_once(harness: Harness) -> None:
    gateway, paid = harness.gateway(), harness.new_payment()
    first, again = refund(gateway, paid), refund(gateway, paid)

    made = accepted(first)
    assert accepted(again).gateway_refund_id == made.gateway_refund_id
    assert made == GatewayRefund(
        made.gateway_refund_id,
        paid,
        id_for(paid),
        2_500,
        "USD",
        GatewayStatus.SUCCEEDED,
        gateway_reference=id_for(paid),
        trace=made.trace,  # not every gateway has one
    )
    assert harness.paid_out_minor(paid) == 2_500


def test_a_payment_is_refunded_in_parts_to_its_last_cent_and_no_further(harness: Harness) -> None:
    gateway, paid = harness.gateway(), harness.new_payment(10_000)
    for number, amount in enumerate((3_333, 6_666, 1)):
        accepted(refund(gateway, paid, amount, refund_id=f"{paid}-{number}"))
    too_much = refund(gateway, paid, 1, refund_id=f"{paid}-more")

    assert isinstance(too_much, Declined)
    assert too_much.over_balance
    assert harness.paid_out_minor(paid) == 10_000


def test_more_than_what_others_left_is_declined_as_that(harness: Harness) -> None:
    gateway, paid = harness.gateway(), harness.new_payment(10_000)
    harness.refund_by_others(paid, 9_000)
    answer = refund(gateway, paid, 2_500)

    assert isinstance(answer, Declined)
    assert answer.over_balance
    assert harness.paid_out_minor(paid) == 9_000


def test_a_key_with_another_body_is_told_from_a_replay(harness: Harness) -> None:
    gateway, paid = harness.gateway(), harness.new_payment()
    accepted(refund(gateway, paid, 2_500))

    assert refund(gateway, paid, 2_600) == KeyReused()
    assert harness.paid_out_minor(paid) == 2_500


def test_a_key_that_may_be_forgotten_is_not_sent(harness: Harness) -> None:
    gateway, paid = harness.gateway(), harness.new_payment()
    answer = gateway.create_refund(order(gateway, paid), seconds(5), not_after=CLOCK.now())

    assert answer == KeyTooOld()
    assert harness.refund_calls(paid) == 0


def test_a_pending_refund_is_pending_until_it_is_settled(harness: Harness) -> None:
    gateway, paid = harness.gateway(), harness.new_payment()
    harness.script(Case.PENDING, paid)
    made = accepted(refund(gateway, paid))
    assert made.status is GatewayStatus.PENDING
    assert harness.paid_out_minor(paid) == 0

    harness.settle(made.gateway_refund_id, GatewayStatus.SUCCEEDED)
    (found,) = look_up(gateway, paid)
    assert found.status is GatewayStatus.SUCCEEDED
    assert found.gateway_refund_id == made.gateway_refund_id


def test_a_pending_refund_that_fails_says_why(harness: Harness) -> None:
    gateway, paid = harness.gateway(), harness.new_payment()
    harness.script(Case.PENDING, paid)
    harness.settle(accepted(refund(gateway, paid)).gateway_refund_id, GatewayStatus.FAILED)

    (found,) = look_up(gateway, paid)
    assert found.status is GatewayStatus.FAILED
    assert found.failure_code


def test_a_refund_that_fails_at_once_has_failed(harness: Harness) -> None:
    gateway, paid = harness.gateway(), harness.new_payment()
    harness.script(Case.FAILS_AT_ONCE, paid)
    made = accepted(refund(gateway, paid))

    assert made.status is GatewayStatus.FAILED
    assert made.failure_code == "bank_says_no"
    assert harness.paid_out_minor(paid) == 0


def test_a_paid_refund_that_the_bank_sends_back_is_shown_as_failed(harness: Harness) -> None:
    gateway, paid = harness.gateway(), harness.new_payment()
    if not gateway.can_reverse:
        pytest.skip(f"{gateway.name} never takes it back")
    made = accepted(refund(gateway, paid))
    harness.settle(made.gateway_refund_id, GatewayStatus.FAILED)

    (listed,) = whole_list(gateway, transaction_id=paid)
    assert (listed.gateway_refund_id, listed.refund_id) == (made.gateway_refund_id, id_for(paid))
    assert listed.status is GatewayStatus.FAILED
    assert harness.paid_out_minor(paid) == 0


def test_a_decline_is_for_good_and_moves_nothing(harness: Harness) -> None:
    gateway, paid = harness.gateway(), harness.new_payment()
    harness.script(Case.DECLINED, paid)
    answer = refund(gateway, paid)

    assert isinstance(answer, Declined)
    assert answer.code == "bank_says_no"
    assert not answer.over_balance
    assert look_up(gateway, paid) == []
    assert harness.paid_out_minor(paid) == 0


def test_a_refund_of_a_disputed_payment_is_declined(harness: Harness) -> None:
    paid = harness.new_payment(status=PaymentStatus.DISPUTED)
    answer = refund(harness.gateway(), paid)

    assert isinstance(answer, Declined)
    assert harness.paid_out_minor(paid) == 0


def test_a_refund_of_no_payment_is_declined(harness: Harness) -> None:
    assert isinstance(refund(harness.gateway(), harness.new_payment() + "x"), Declined)
