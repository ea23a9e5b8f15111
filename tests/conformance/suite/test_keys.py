"""Every adapter: a secret key that changes or is missing."""

from __future__ import annotations

import pytest
from tests.conformance.calls import (
    READINGS,
    accepted,
    refund,
    seconds,
)
from tests.conformance.harness import RIGHT_KEY, Harness, Key

from refunds.gateways.contract import (
    GatewayMisconfiguredError,
    GatewayUnavailableError,
    Misconfiguration,
    Misconfigured,
    Retryable,
)


def test_a_key_that_was_changed_is_asked_for_again(harness: Harness) -> None:
    key = Key("sk_of_yesterday", RIGHT_KEY)
    gateway, paid = harness.gateway(key=key), harness.new_payment()

    assert refund(gateway, paid) == Misconfigured(Misconfiguration.KEY_REFUSED)
    assert key.forgotten == 1
    accepted(refund(gateway, paid))


def test_a_question_with_a_key_that_was_changed_is_asked_again(harness: Harness) -> None:
    key = Key("sk_of_yesterday", RIGHT_KEY)
    gateway, paid = harness.gateway(key=key), harness.new_payment()

    with pytest.raises(GatewayMisconfiguredError):
        gateway.get_payment(paid, seconds(5))
    assert gateway.get_payment(paid, seconds(5)) is not None


def test_without_a_key_nothing_is_sent(harness: Harness) -> None:
    gateway = harness.gateway(key=Key(ConnectionError("no secret today")))
    paid = harness.new_payment()

    assert isinstance(refund(gateway, paid), Retryable)
    assert harness.refund_calls(paid) == 0
    for reading in READINGS.values():
        with pytest.raises(GatewayUnavailableError):
            reading(gateway, paid, seconds(5))
