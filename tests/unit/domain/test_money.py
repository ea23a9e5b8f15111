from __future__ import annotations

import iso4217
import pytest

from refunds.domain.currencies import EXPONENTS
from refunds.domain.money import Money


def test_the_committed_currencies_are_those_of_the_library() -> None:
    assert {
        currency.code: currency.exponent
        for currency in iso4217.Currency
        if currency.exponent is not None
    } == EXPONENTS, "write them anew: ops/currencies.sh"


@pytest.mark.parametrize(
    ("amount_minor", "currency", "shown"),
    [
        (2500, "USD", "25.00 USD"),
        (5, "USD", "0.05 USD"),
        (-2505, "EUR", "-25.05 EUR"),
        (2500, "JPY", "2500 JPY"),
        (2500, "KWD", "2.500 KWD"),
    ],
)
def test_amounts_are_shown_with_their_currencys_decimals(
    amount_minor: int, currency: str, shown: str
) -> None:
    assert str(Money(amount_minor, currency)) == shown


@pytest.mark.parametrize("amount", [25.0, True, "25"])
def test_only_whole_minor_units_are_money(amount: object) -> None:
    with pytest.raises(TypeError):
        Money(amount, "USD")  # type: ignore[arg-type]
