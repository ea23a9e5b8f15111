"""Stripe's units of money against ISO 4217's, from https://docs.stripe.com/currencies."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refunds.domain.money import EXPONENTS, MAX_AMOUNT_MINOR
from refunds.gateways.stripe_amounts import NotExpressibleError, from_stripe, to_stripe

# The page's own list, and its special cases: ISK and UGX with two decimals all the same.
ZERO_DECIMAL = [
    "BIF",
    "CLP",
    "DJF",
    "GNF",
    "JPY",
    "KMF",
    "KRW",
    "MGA",
    "PYG",
    "RWF",
    "UGX",
    "VND",
    "VUV",
    "XAF",
    "XOF",
    "XPF",
]
TWO_DECIMALS_ALL_THE_SAME = ["ISK", "UGX"]
THREE_DECIMAL = ["BHD", "JOD", "KWD", "OMR", "TND"]


@pytest.mark.parametrize(
    ("amount_minor", "currency", "units"),
    [
        (1_000, "USD", 1_000),  # 10 USD
        (500, "JPY", 500),  # 500 JPY
        (5, "ISK", 500),  # 5 ISK
        (5, "UGX", 500),  # 5 UGX
        (5_120, "KWD", 5_120),  # 5.12 KWD
        (1_045, "HUF", 1_045),  # 10.45 HUF: zero-decimal for payouts only
        (80_045, "TWD", 80_045),
        (30_100, "MGA", 301),
        (30_000, "MGA", 300),  # 300 MGA: two decimals in ISO 4217, none in Stripe's API
    ],
)
def test_the_pages_own_examples(amount_minor: int, currency: str, units: int) -> None:
    assert to_stripe(amount_minor, currency) == units
    assert from_stripe(units, currency) == amount_minor


@pytest.mark.parametrize(
    ("amount_minor", "currency"),
    [(5_124, "KWD"), (1, "TND"), (9, "BHD"), (11, "OMR"), (15, "JOD"), (150, "MGA"), (1, "MGA")],
)
def test_what_stripe_has_no_number_for_is_refused_in_words(
    amount_minor: int, currency: str
) -> None:
    with pytest.raises(NotExpressibleError, match=rf"steps of [0-9.]+ {currency}"):
        to_stripe(amount_minor, currency)


@pytest.mark.parametrize(("units", "currency"), [(550, "ISK"), (5, "UGX")])
def test_a_fraction_that_the_currency_does_not_have_is_not_rounded(
    units: int, currency: str
) -> None:
    with pytest.raises(ValueError, match=currency):
        from_stripe(units, currency)


@pytest.mark.parametrize("currency", sorted(EXPONENTS))
def test_a_currencys_whole_unit_is_what_stripe_says(currency: str) -> None:
    decimals = 2
    if currency in ZERO_DECIMAL and currency not in TWO_DECIMALS_ALL_THE_SAME:
        decimals = 0
    elif currency in THREE_DECIMAL:
        decimals = 3
    if currency not in {*ZERO_DECIMAL, *TWO_DECIMALS_ALL_THE_SAME, *THREE_DECIMAL} and (
        EXPONENTS[currency] != 2
    ):
        pytest.skip("not among the currencies that Stripe charges")

    assert to_stripe(10 ** EXPONENTS[currency], currency) == 10**decimals


@given(st.integers(1, MAX_AMOUNT_MINOR), st.sampled_from(sorted(EXPONENTS)))
def test_what_goes_out_comes_back_the_same(amount_minor: int, currency: str) -> None:
    try:
        units = to_stripe(amount_minor, currency)
    except NotExpressibleError:
        return
    assert units > 0
    assert from_stripe(units, currency) == amount_minor


def test_a_currency_that_iso_does_not_have_is_left_as_it_is() -> None:
    assert from_stripe(1_234, "USDC") == 1_234
