"""Amounts as people write them ("25.00") to integer minor units; never through a float."""

from __future__ import annotations

import re
from decimal import Decimal

from refunds.domain.money import EXPONENTS, MAX_AMOUNT_MINOR, Money
from refunds_ops.errors import RefusedError


def check_currency(currency: str) -> None:
    """Raises ``RefusedError`` for a code that no refund can have."""
    if currency not in EXPONENTS:
        raise RefusedError(
            f"{currency} is not an ISO 4217 currency.", "Write it in upper case, such as USD."
        )


def minor_units(text: str, currency: str, *, least: int = 1) -> int:
    """So "25.00" of USD is 2500, and so is "2500" of JPY. Raises ``RefusedError``."""
    check_currency(currency)
    exponent = EXPONENTS[currency]
    if not re.fullmatch(r"\d{1,16}(\.\d{1,16})?", text, re.ASCII):
        raise RefusedError(
            f"{text} is not an amount.",
            "Write digits and at most one point, such as 25 or 25.00; no sign, comma or symbol.",
        )
    # Exact: with at most 32 digits nothing is rounded.
    minor = Decimal(text).scaleb(exponent)
    if minor != minor.to_integral_value():
        decimals = f"{exponent} decimals" if exponent else "no decimals"
        raise RefusedError(f"{currency} has {decimals}, so {text} is not an amount of it.")
    if not least <= minor <= MAX_AMOUNT_MINOR:
        raise RefusedError(
            f"{text} {currency} is out of bounds: from {Money(least, currency)} to "
            f"{Money(MAX_AMOUNT_MINOR, currency)}."
        )
    return int(minor)


def amount_text(amount_minor: int | None, currency: str) -> str:
    """Such as "25.00 USD", or a dash when there is no amount."""
    return "–" if amount_minor is None else str(Money(amount_minor, currency))
