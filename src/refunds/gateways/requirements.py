"""What the refund protocol demands of a gateway, checked against what its adapter declares.

An adapter that declares less is not opened. docs/adding-a-gateway.md lists the demands for people;
tests/conformance checks that an adapter's declarations are true.
"""

from __future__ import annotations

from datetime import timedelta

from refunds.gateways.contract import Gateway

MIN_KEY_LIFETIME = timedelta(hours=1)
"""A call that is repeated after a crash or a timeout must still find its key: a lease, a message's
visibility timeout and the margins for clocks come before the repetition."""

LONGEST_REFUND_ID = "r" * 64

MAX_REFERENCE_CHARACTERS = 255


def unmet_demands(gateway: Gateway) -> list[str]:
    """What the protocol needs and the gateway does not offer, in sentences for a person."""
    unmet = []
    if gateway.key_lifetime < MIN_KEY_LIFETIME:
        unmet.append(
            f"it remembers an idempotency key for {gateway.key_lifetime}, less than "
            f"{MIN_KEY_LIFETIME}: a repeated call could pay a second time"
        )
    if gateway.look_up_lag < timedelta(0):
        unmet.append("look_up_lag is negative")
    # A look-up that shows nothing leads to a call with the same key. Only the key keeps that call
    # from paying again while the look-up lags behind.
    elif gateway.key_lifetime - gateway.look_up_lag < MIN_KEY_LIFETIME:
        unmet.append(
            f"its look-ups lag by up to {gateway.look_up_lag} and it remembers a key for "
            f"{gateway.key_lifetime}: for a time nothing would show a refund nor protect from a "
            "second one"
        )
    reference = gateway.reference_for(LONGEST_REFUND_ID)
    if not 0 < len(reference) <= MAX_REFERENCE_CHARACTERS:
        unmet.append("its references are empty or too long")
    if reference == gateway.reference_for(LONGEST_REFUND_ID[:-1] + "s"):
        unmet.append("two refunds can have the same reference: one key for two refunds")
    if reference != gateway.reference_for(LONGEST_REFUND_ID):
        unmet.append("a refund's reference differs from one call to the next")
    if not gateway.account:
        unmet.append("it does not say which account it talks to")
    if gateway.body_format < 1:
        unmet.append("its body format has no number")
    if gateway.timeout_seconds <= 0:
        unmet.append("its calls have no time limit")
    return unmet
