"""What only Stripe has, against its scripted server: Connect, and the bank's number."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from tests.conformance.calls import FAR, accepted, id_for, order, refund, seconds
from tests.conformance.harness import Case
from tests.conformance.stripe import StripeHarness

from refunds.gateways.contract import GatewayStatus, Payment
from refunds.gateways.stripe_objects import FORMATS


@pytest.fixture(scope="module")
def stripe() -> Iterator[StripeHarness]:
    with StripeHarness() as harness:
        yield harness


@pytest.mark.parametrize("body_format", FORMATS.values())
def test_every_body_format_pays_once(stripe: StripeHarness, body_format: int) -> None:
    gateway, paid = stripe.gateway(), stripe.new_payment()
    asked = replace(order(gateway, paid), format=body_format)
    first, again = (
        accepted(gateway.create_refund(asked, seconds(5), not_after=FAR)) for _ in range(2)
    )

    assert first == again
    assert stripe.paid_out_minor(paid) == 2_500


def test_a_direct_charge_is_refunded_and_found_by_the_id_with_its_account(
    stripe: StripeHarness,
) -> None:
    gateway, paid = stripe.gateway(), stripe.new_payment()
    direct = f"acct_9-{paid}"
    before = gateway.get_payment(direct, seconds(5))
    made = accepted(refund(gateway, direct))
    found = gateway.find_refunds(id_for(direct), direct, seconds(5))

    assert isinstance(before, Payment)
    assert (before.transaction_id, before.captured_minor) == (direct, 10_000)
    assert made.transaction_id == direct
    assert found == (made,)
    assert stripe.paid_out_minor(paid) == 2_500


def test_the_banks_number_is_there_once_the_refund_has_succeeded(stripe: StripeHarness) -> None:
    gateway, paid = stripe.gateway(), stripe.new_payment()
    stripe.script(Case.PENDING, paid)
    pending = accepted(refund(gateway, paid))
    stripe.settle(pending.gateway_refund_id, GatewayStatus.SUCCEEDED)
    (settled,) = gateway.find_refunds(id_for(paid), paid, seconds(5))

    assert pending.trace is None
    assert settled.trace is not None
    assert settled.trace.isdigit()
