"""Stripe's units of money, where they differ from ISO 4217's.

From https://docs.stripe.com/currencies: its API takes ISK and UGX with two decimals that must be
00, MGA with none, and three-decimal currencies only with a last digit of 0. (HUF and TWD are
zero-decimal for payouts only: they are charged and refunded with two decimals, as in ISO 4217.)
"""

from __future__ import annotations

from refunds.domain.money import EXPONENTS, Money

_EXPONENTS = {"ISK": 2, "UGX": 2, "MGA": 0}
_THREE_DECIMALS = 3
"""Decimals of a currency in Stripe's API, where ISO 4217 has another number."""


class NotExpressibleError(Exception):
    """Stripe's API has no number for this amount."""


def to_stripe(amount_minor: int, currency: str) -> int:
    """An amount of ISO 4217 minor units as Stripe's ``amount``. Raises ``NotExpressibleError``."""
    up, down = _scale(currency)
    # Stripe's partners settle three-decimal currencies with two.
    step = down * 10 if EXPONENTS.get(currency) == _THREE_DECIMALS else down
    if amount_minor % step:
        raise NotExpressibleError(
            f"Stripe refunds {currency} in steps of {Money(step, currency)}; "
            f"{Money(amount_minor, currency)} is none"
        )
    return amount_minor * up // down


def from_stripe(units: int, currency: str) -> int:
    """Stripe's ``amount`` in ISO 4217 minor units; in a currency that ISO doesn't have, the amount
    is unchanged.

    Raises ``ValueError`` for what ISO's minor units can't express.
    """
    up, down = _scale(currency)
    if units * down % up:
        raise ValueError(f"{units} is not a whole amount of {currency}")
    return units * down // up


def _scale(currency: str) -> tuple[int, int]:
    """Stripe's units are ISO's times the first number, over the second."""
    iso = EXPONENTS.get(currency, 2)
    stripe = _EXPONENTS.get(currency, iso)
    return 10 ** max(stripe - iso, 0), 10 ** max(iso - stripe, 0)
