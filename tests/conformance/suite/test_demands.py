"""The adapter declares what the protocol demands, and its declarations are true."""

from __future__ import annotations

from datetime import timedelta

from tests.conformance.calls import accepted, look_up, refund, seconds
from tests.conformance.harness import Case, Harness

from refunds.gateways.contract import Accepted, Declined
from refunds.gateways.requirements import unmet_demands

A_LITTLE = timedelta(minutes=10)


def test_it_offers_what_the_protocol_demands(harness: Harness) -> None:
    assert unmet_demands(harness.gateway()) == []
    assert unmet_demands(harness.gateway(stage="twenty-letters-stage")) == []


def test_a_decline_is_remembered_for_its_key_if_that_is_declared(harness: Harness) -> None:
    gateway, paid = harness.gateway(), harness.new_payment()
    harness.script(Case.DECLINED, paid)
    first, again = refund(gateway, paid), refund(gateway, paid)

    if gateway.remembers_declines:
        assert again == first
        assert harness.paid_out_minor(paid) == 0
    else:
        # Then the protocol does not take a decline for proof after an unknown attempt.
        assert isinstance(again, Accepted | Declined)


def test_what_is_made_is_shown_within_the_declared_lag(harness: Harness) -> None:
    gateway, paid = harness.gateway(), harness.new_payment()
    made = accepted(refund(gateway, paid))
    harness.pass_time(gateway.look_up_lag)

    assert [each.gateway_refund_id for each in look_up(gateway, paid)] == [made.gateway_refund_id]
    page = gateway.list_refunds(seconds(5), transaction_id=paid)
    assert [each.gateway_refund_id for each in page.refunds] == [made.gateway_refund_id]


def test_a_key_of_nearly_the_declared_age_still_protects(harness: Harness) -> None:
    gateway, paid = harness.gateway(), harness.new_payment()
    made = accepted(refund(gateway, paid))
    harness.pass_time(gateway.key_lifetime - A_LITTLE)

    assert accepted(refund(gateway, paid)).gateway_refund_id == made.gateway_refund_id
    assert harness.paid_out_minor(paid) == 2_500
