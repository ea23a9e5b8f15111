"""What the refund protocol demands of a gateway, checked against what its adapter declares.

An adapter that declares less is refused. docs/adding-a-gateway.md lists the demands for people;
tests/conformance checks that an adapter's declarations are true.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from refunds.gateways.contract import Gateway

MIN_KEY_LIFETIME = timedelta(hours=1)
"""A call that is repeated after a crash or a timeout must still find its key. Before the
repetition, a lease, a message's visibility timeout and the margins for clocks pass."""

LONGEST_REFUND_ID = "r" * 64

MAX_REFERENCE_CHARACTERS = 255


def unmet_demands(gateway: Gateway) -> list[str]:
    """What the protocol needs and the gateway does not offer, in sentences for a person."""
    unmet = [*_evidence(gateway), *_references(gateway)]
    if not gateway.account:
        unmet.append("it does not say which account it talks to")
    if gateway.body_format < 1:
        unmet.append("its body format has no number")
    if gateway.timeout_seconds <= 0:
        unmet.append("its calls have no time limit")
    return unmet


def _evidence(gateway: Gateway) -> Iterator[str]:
    """A look-up that shows nothing leads to a call with the same key. So at any time a look-up must
    show the refund, or the key must keep the call from paying again."""
    if not gateway.shows_refunds:
        yield (
            "it shows neither payments nor refunds: nothing would prove what became of a call "
            "whose answer was lost, what was captured, or what others have refunded "
            "(docs/adding-a-gateway.md, section 5, says what it would take)"
        )
    if gateway.key_lifetime < MIN_KEY_LIFETIME:
        yield (
            f"it remembers an idempotency key for {gateway.key_lifetime}, less than "
            f"{MIN_KEY_LIFETIME}: a repeated call could pay a second time"
        )
    elif gateway.key_lifetime - gateway.look_up_lag < MIN_KEY_LIFETIME:
        yield (
            f"its look-ups lag by up to {gateway.look_up_lag} and it remembers a key for "
            f"{gateway.key_lifetime}: for a time nothing would show a refund nor protect from a "
            "second one"
        )
    if gateway.look_up_lag < timedelta(0):
        yield "look_up_lag is negative"


def _references(gateway: Gateway) -> Iterator[str]:
    reference = gateway.reference_for(LONGEST_REFUND_ID)
    if not 0 < len(reference) <= MAX_REFERENCE_CHARACTERS:
        yield "its references are empty or too long"
    if reference == gateway.reference_for(LONGEST_REFUND_ID[:-1] + "s"):
        yield "two refunds can have the same reference: one key for two refunds"
    if reference != gateway.reference_for(LONGEST_REFUND_ID):
        yield "a refund's reference differs from one call to the next"
