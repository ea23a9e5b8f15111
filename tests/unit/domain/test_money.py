from __future__ import annotations

import json

import iso4217
import pytest
from tests.support.builders import body

from refunds.domain.currencies import CURRENT, EXPONENTS, WITHDRAWN
from refunds.domain.money import Money
from refunds.domain.request import parse_message


def test_the_committed_currencies_are_those_of_the_library() -> None:
    assert {
        currency.code: currency.exponent
        for currency in iso4217.Currency
        if currency.exponent is not None
    } == CURRENT, "run ops/currencies.sh"


def test_a_withdrawn_currency_is_no_current_one_and_keeps_its_decimals() -> None:
    assert not WITHDRAWN.keys() & {currency.code for currency in iso4217.Currency}
    assert EXPONENTS == CURRENT | WITHDRAWN
    for code in ("BGN", "HRK", "ANG", "SLL", "ZWL", "CUC"):
        assert WITHDRAWN[code] == 2
    assert (WITHDRAWN["ITL"], WITHDRAWN["BYR"], WITHDRAWN["TRL"]) == (0, 0, 0)


@pytest.mark.parametrize("currency", sorted(WITHDRAWN))
def test_what_was_paid_in_a_withdrawn_currency_can_be_refunded(currency: str) -> None:
    assert parse_message(json.dumps(body(currency=currency))).currency == currency


@pytest.mark.parametrize(
    ("amount_minor", "currency", "shown"),
    [
        (2500, "USD", "25.00 USD"),
        (0, "USD", "0.00 USD"),
        (5, "USD", "0.05 USD"),
        (-2505, "EUR", "-25.05 EUR"),
        (-1, "USD", "-0.01 USD"),
        (2500, "JPY", "2500 JPY"),
        (2500, "KWD", "2.500 KWD"),
        (2500, "BGN", "25.00 BGN"),
        (2500, "ITL", "2500 ITL"),
        (2500, "XYZ", "2500 minor units of XYZ"),
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
