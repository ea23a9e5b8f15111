"""An amount of money: an integer of minor units and a currency of ISO 4217."""

from __future__ import annotations

from dataclasses import dataclass

from refunds.domain.currencies import EXPONENTS as EXPONENTS  # part of this module's interface

MAX_AMOUNT_MINOR = 10**12


@dataclass(frozen=True)
class Money:
    """``amount_minor`` minor units of ``currency``: 2500 USD is $25.00, 2500 JPY is ¥2500."""

    amount_minor: int
    currency: str

    def __post_init__(self) -> None:
        if isinstance(self.amount_minor, bool) or not isinstance(self.amount_minor, int):
            raise TypeError("amount_minor is an int of minor units")

    def __str__(self) -> str:
        exponent = EXPONENTS.get(self.currency)
        if exponent is None:
            # Only a gateway has such a currency, and only it knows the decimals.
            return f"{self.amount_minor} minor units of {self.currency}"
        if exponent == 0:
            return f"{self.amount_minor} {self.currency}"
        whole, minor = divmod(abs(self.amount_minor), 10**exponent)
        sign = "-" if self.amount_minor < 0 else ""
        return f"{sign}{whole}.{minor:0{exponent}} {self.currency}"
