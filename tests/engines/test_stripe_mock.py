"""The Stripe adapter against Stripe's own mock: what is sent is what Stripe's specification allows,
and what that specification answers can be read.

stripe-mock keeps nothing; what becomes of refunds is tested in tests/conformance.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from tests.support.engines import servers
from tests.support.engines.fixtures import started

from refunds.domain.clock import Deadline, SystemClock
from refunds.gateways.contract import (
    Accepted,
    Answer,
    GatewayStatus,
    GatewayUnavailableError,
    Misconfiguration,
    Misconfigured,
    RefundOrder,
    Stage,
)
from refunds.gateways.http import PooledTransport
from refunds.gateways.stripe import StripeGateway
from refunds.gateways.stripe_objects import FORMATS, Disputes

CLOCK = SystemClock()


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with started(servers.stripe_mock, tmp_path_factory) as url:
        yield url


class Key:
    def __init__(self, value: str) -> None:
        self._value = value

    def get(self) -> str:
        return self._value

    def forget(self) -> None:
        """It stays."""


def gateway(url: str, key: str = "sk_test_123", stage: str = "") -> StripeGateway:
    return StripeGateway(
        base_url=url,
        api_key=Key(key),
        transport=PooledTransport(2),
        clock=CLOCK,
        timeout_seconds=10,
        stage=Stage(stage),
    )


def soon() -> Deadline:
    return Deadline.after(CLOCK, 10)


def refund(
    url: str, transaction_id: str, *, amount_minor: int = 2500, reason: str = "other"
) -> Answer:
    order = RefundOrder("refund-1", transaction_id, amount_minor, "USD", reason, "refund-1")
    until = datetime(2100, 1, 1, tzinfo=UTC)
    return gateway(url, stage="dev").create_refund(order, soon(), not_after=until)


@pytest.mark.parametrize("transaction_id", ["pi_123", "ch_123"])
def test_a_payment_as_stripe_specifies_it_can_be_read(url: str, transaction_id: str) -> None:
    payment = gateway(url).get_payment(transaction_id, soon())

    assert payment is not None
    assert (payment.transaction_id, payment.currency) == (transaction_id, "USD")


@pytest.mark.parametrize("transaction_id", ["pi_123", "ch_123"])
@pytest.mark.parametrize(
    "reason",
    [
        "requested_by_customer",
        "order_cancelled",
        "payment_error",
        "duplicate",
        "fraudulent",
        "other",
    ],
)
def test_stripe_takes_what_we_send_for_every_reason(
    url: str, transaction_id: str, reason: str
) -> None:
    answer = refund(url, transaction_id, reason=reason)

    assert isinstance(answer, Accepted), answer
    shown = answer.refund
    told = (shown.transaction_id, shown.amount_minor, shown.currency)
    assert told == (transaction_id, 2500, "USD")
    assert shown.status is GatewayStatus.SUCCEEDED


def test_a_list_as_stripe_specifies_it_can_be_read(url: str) -> None:
    page = gateway(url).list_refunds(soon(), created_from=datetime(2026, 1, 1, tzinfo=UTC))

    assert [refund.amount_minor for refund in page.refunds]
    assert page.next_cursor is None


def test_a_payments_list_is_asked_for_as_stripe_allows(url: str) -> None:
    # The mock shows a refund of another payment, which the adapter must not take for an answer.
    with pytest.raises(GatewayUnavailableError, match="list"):
        gateway(url).find_refunds("refund-1", "pi_123", soon())


def test_a_direct_charge_is_asked_for_as_stripe_allows(url: str) -> None:
    payment = gateway(url).get_payment("acct_123-pi_123", soon())
    answer = refund(url, "acct_123-pi_123")

    assert payment is not None
    assert isinstance(answer, Accepted), answer
    assert answer.refund.transaction_id == "acct_123-pi_123"


@pytest.mark.parametrize("body_format", FORMATS.values())
def test_stripe_takes_the_parameters_of_every_body_format(url: str, body_format: int) -> None:
    order = RefundOrder(
        "refund-1", "pi_123", 2500, "USD", "other", reference="refund-1", format=body_format
    )
    answer = gateway(url).create_refund(order, soon(), not_after=datetime(2100, 1, 1, tzinfo=UTC))

    assert isinstance(answer, Accepted), answer


def test_a_key_that_is_none_is_told_as_such(url: str) -> None:
    order = RefundOrder("refund-1", "pi_123", 2500, "USD", "other", "refund-1")
    answer = gateway(url, key="not-a-key").create_refund(
        order, soon(), not_after=datetime(2100, 1, 1, tzinfo=UTC)
    )

    assert answer == Misconfigured(Misconfiguration.KEY_REFUSED)


def test_disputes_are_asked_for_as_stripe_allows(url: str) -> None:
    stripe = gateway(url)
    shown = stripe._read(soon(), lambda client: client.v1.disputes.list({"charge": "ch_123"}))

    disputes = Disputes.model_validate(shown)
    assert [each.amount for each in disputes.data]
