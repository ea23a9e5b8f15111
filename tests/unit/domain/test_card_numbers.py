"""Card numbers are found however they are written; other numbers are not taken for them."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.builders import VISA, body
from tests.support.card_numbers import TEST_CARDS, grouped
from tests.support.messages import refused_fields

from refunds.domain.card_numbers import (
    _has_bare_number,
    has_card_number,
    has_printed_card_number,
    masked,
    redacted,
)
from refunds.domain.request import ErrorCode, RefundRequest

VISIBLE_SEPARATORS = [
    *("", " ", "  ", "-", " - ", ".", "_", "/", "\u00a0", "\u2009", "\u202f", "\u3000"),
    *("\u2010", "\u2011", "\u2012", "\u2013", "\u2014", "\u2212", "\uff0d"),
    *(":", ",", "|", "*", "·", "•", "+", "~", ", ", ";"),
]
INVISIBLE_SEPARATORS = ["\u2028", "\u200b", "\u200d", "\u00ad", "\ufeff", "\u2060"]
DIGITS = [
    "0123456789",
    "０１２３４５６７８９",
    "٠١٢٣٤٥٦٧٨٩",
    "०१२३४५६७८९",
    "⁰¹²³⁴⁵⁶⁷⁸⁹",
    "𝟎𝟏𝟐𝟑𝟒𝟓𝟔𝟕𝟖𝟗",
]
FREE_TEXT: list[Callable[[str], dict[str, Any]]] = [
    lambda text: {"requested_by": text},
    lambda text: {"metadata": {"note": text}},
    lambda text: {"metadata": {text[-40:]: "v"}},
    lambda text: {"note": text},
    lambda text: {"reason_code": text[-64:]},
    lambda text: {"line_items": [{"sku": text[-64:], "quantity": 1, "amount_minor": 1}]},
]


def in_script(text: str, digits: str) -> str:
    return text.translate(str.maketrans("0123456789", digits))


@pytest.mark.parametrize("card", TEST_CARDS)
def test_every_test_card_is_found_with_any_separator_and_as_one_number(card: str) -> None:
    for separator in VISIBLE_SEPARATORS + INVISIBLE_SEPARATORS:
        assert has_card_number(grouped(card, separator)), ascii(separator)
        assert has_card_number(f"pan {grouped(card, separator)}."), ascii(separator)
        assert has_card_number(separator.join(card)), ascii(separator)


@given(
    st.sampled_from(TEST_CARDS),
    st.sampled_from(VISIBLE_SEPARATORS),
    st.sampled_from(DIGITS),
    st.sampled_from(FREE_TEXT),
    st.sampled_from(["", "card ", "(", "№", "カード", "card:", "\N{ZERO WIDTH JOINER}"]),
)
def test_a_card_number_is_refused_in_every_free_text_however_it_is_written(
    card: str, separator: str, digits: str, place: Callable[[str], dict[str, Any]], before: str
) -> None:
    text = before + in_script(grouped(card, separator), digits)
    if len(text) > 40 or "\N{ZERO WIDTH JOINER}" in text:
        place = FREE_TEXT[1]
    error = refused_fields(**place(text))

    assert error.code is ErrorCode.CARD_NUMBER
    assert text not in error.message
    assert not has_card_number(error.message)


@pytest.mark.parametrize("digits", DIGITS, ids=ascii)
def test_digits_of_every_script_are_digits(digits: str) -> None:
    assert has_card_number(in_script(VISA, digits))
    assert has_printed_card_number(in_script(grouped(VISA, " "), digits))


@given(st.sampled_from(TEST_CARDS), st.integers(0, 18), st.integers(1, 9))
def test_one_wrong_digit_makes_it_no_card_number(card: str, place: int, by: int) -> None:
    place %= len(card)
    wrong = card[:place] + str((int(card[place]) + by) % 10) + card[place + 1 :]

    assert not has_card_number(wrong)


@pytest.mark.parametrize("mark", ["\u200b", "\u200d", "\u00ad", "\ufeff"], ids=ascii)
def test_a_mark_that_cannot_be_seen_hides_no_card_number(mark: str) -> None:
    assert has_card_number(f"{VISA[:3]}{mark}{VISA[3:]}")


def test_a_card_number_beside_other_numbers_is_found() -> None:
    assert has_card_number("12/27 4111 1111 1111 1111 123")
    assert has_card_number("4111 1111 1111 1111 1227 123")
    assert has_card_number("4111-1111-1111-1111 4111")
    assert has_card_number("3782−822463−10005")
    assert has_card_number(f"+49 151 12345678 {VISA}")
    assert has_card_number(f"550e8400-e29b-41d4-a716-446655440000 {VISA}")
    assert has_card_number(f"DE89 3704 0044 0532 0130 00, {VISA}")


# Identifiers


@pytest.mark.parametrize("field", ["refund_id", "transaction_id", "user_id"])
@pytest.mark.parametrize("card", TEST_CARDS)
def test_an_identifier_is_refused_only_when_it_is_written_as_on_a_card(
    card: str, field: str
) -> None:
    RefundRequest.model_validate(body(**{field: card}))
    assert not has_printed_card_number(card)

    for separator in ["-", "_"] + ([" ", "."] if field == "user_id" else []):
        error = refused_fields(**{field: grouped(card, separator)})
        assert error.code is ErrorCode.CARD_NUMBER
        assert error.message.startswith(f"{field}: ")


@pytest.mark.parametrize(
    "identifier",
    [
        "305-4111111-1111116",  # an order's number in groups of 3, 7 and 7
        "4111-1111-1111-1111-2222-3333",
        "4111-1111_1111_1111",  # groups that are not separated alike
        "4111_1111-1111-1111",
        "4111-1111_1111-1111",
        "4111-1111-1111_1111",
        "4111111111111111_1",
        "ab4111-1111-1111-1111",
        "41111111-1111-4111-8111-111111111111",
        "+4915112345678",
        "user-2026-11-23-0001",
    ],
)
def test_other_identifiers_with_groups_of_digits_are_no_card_numbers(identifier: str) -> None:
    assert not has_printed_card_number(identifier)


# What is no card number


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no digits",
        "0000000000000000",
        "order 12345678, 2 items",
        "4111 1111 1111",
        "411111111111111111111111",
        "41111111111111110000",
        "4111,1111,1111,1112",
        "45:12.123456789",
        "5a105105105105100",
        f"sha{VISA}",
        f"{VISA}f",
        f"{VISA}f1",
        "4111 1111 1111-1111",  # cards print one separator
        f"a{VISA}",
        f"is a{VISA}f or",
        "+3782−822463−10005",  # a telephone number, with minus signs
        "AZ21NABZ00000000137010001944",
        f"0.{VISA}",
        f"a rate of 0.{VISA}",
        "4111-1111-1111-1111-2222-3333",  # a voucher's code
        "4006381333924",  # an article number (EAN), which also passes Luhn's check
        "4006381000093",  # another one
        "order 302-4111111-1111119",
        "DE34 4111 1111 1111 1111 31",  # an IBAN
        "GB29NWBK60161331926819",
    ],
)
def test_other_numbers_are_no_card_numbers(text: str) -> None:
    assert not has_card_number(text)


def test_an_ean_or_an_iban_with_a_wrong_check_digit_is_no_excuse() -> None:
    assert has_card_number("4222222222222")
    assert has_card_number("DE45 4111 1111 1111 1111 31")


def random_uuids(count: int) -> Iterator[str]:
    source = random.Random(20261127)
    for _ in range(count):
        text = f"{source.getrandbits(128):032x}"
        yield f"{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-{text[20:]}"


def test_no_random_uuid_or_hash_is_taken_for_a_card_number() -> None:
    for text in random_uuids(100_000):
        assert not has_card_number(text), text
        assert not has_printed_card_number(f"user_{text}"), text
    for number in range(20_000):
        text = hashlib.sha256(str(number).encode()).hexdigest()
        assert not has_card_number(text), text


@pytest.mark.long
def test_no_random_uuid_of_a_million_is_taken_for_a_card_number() -> None:
    assert not any(map(has_card_number, random_uuids(1_000_000)))


def test_uuids_of_digits_only_are_no_card_numbers() -> None:
    source = random.Random(7)
    for _ in range(20_000):
        digits = f"4{source.randrange(10**31):031d}"
        text = f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
        assert not has_card_number(f"for {text}"), text


PHONE_FORMS: list[Callable[[str, str], str]] = [
    lambda country, rest: f"+{country}{rest}",
    lambda country, rest: f"+{country} {rest}",
    lambda country, rest: f"tel:+{country}-{rest[:3]}-{rest[3:]}",
    lambda country, rest: f"+{country} ({rest[:4]}) {rest[4:8]} {rest[8:]}",
    lambda country, rest: f"+{country} {rest[:4]} {rest[4:8]} {rest[8:]}",
    lambda country, rest: f"call +{country}{rest} on 2026-11-23",
    lambda country, rest: f"+{country}{rest} 2026-11-23",
]


@pytest.mark.parametrize(
    "country", ["1", "30", "34", "36", "4", "41", "44", "49", "52", "62", "65"]
)
def test_no_e164_telephone_number_is_taken_for_a_card_number(country: int) -> None:
    source = random.Random(country)
    for _ in range(1_000):
        rest = str(source.randrange(10**8, 10 ** (15 - len(str(country)))))
        for form in PHONE_FORMS:
            text = form(str(country), rest)
            assert not has_card_number(text), text


TIME_FORMS = [
    "%Y-%m-%dT%H:%M:%S.%fZ",
    "%Y-%m-%dT%H:%M:%S.%f+02:00",
    "%Y-%m-%d %H:%M:%S.%f",
    "%Y%m%dT%H%M%S%fZ",
    "%Y%m%d%H%M%S",
    "%Y%m%d%H%M%S%f",
    "%Y%m%d-%H%M%S-%f",
    "%Y-%m-%d-%H-%M-%S-%f",
    "%Y/%m/%d %H/%M/%S",
    "%Y.%m.%d.%H.%M.%S",
    "%Y %m %d %H %M %S",
    "%d.%m.%Y %H:%M:%S",
    "%d-%m-%Y-%H-%M-%S",
    "%d%m%Y%H%M%S",
    "%d%m%Y%H%M%S99",
    "%m%d%Y%H%M%S",
    "%y%m%d%H%M%S",
    "%a, %d %b %Y %H:%M:%S +0100",
]


def test_no_timestamp_is_taken_for_a_card_number() -> None:
    source = random.Random(7)
    for _ in range(3_000):
        seconds = source.randrange(0, 4_102_444_800)  # to the end of 2099
        at = datetime.fromtimestamp(seconds, UTC).replace(microsecond=source.randrange(10**6))
        texts = [at.strftime(form) for form in TIME_FORMS]
        texts += [str(seconds), f"{seconds}.{at.microsecond:06d}"]
        # Since 2001, seconds have ten digits.
        texts += [f"{seconds % 10**9 + 10**9}{'7' * more}" for more in (3, 6, 9)]
        for text in texts:
            assert not has_card_number(text), text


# What is done with one


def test_text_with_a_card_number_is_replaced_as_a_whole_before_it_is_kept() -> None:
    assert VISA not in redacted(f"card {VISA} is closed")
    assert redacted("insufficient funds") == "insufficient funds"


@pytest.mark.parametrize("digits", DIGITS, ids=ascii)
def test_masked_text_keeps_everything_but_its_digits(digits: str) -> None:
    assert masked(in_script("é 4111 / 12", digits)) == "é **** / **"


class Sliced(str):
    """Text that counts the characters which are copied out of it."""

    copied = 0

    def __getitem__(self, key: Any) -> str:
        part = super().__getitem__(key)
        Sliced.copied += len(part)
        return part


def test_a_search_copies_no_more_of_a_text_for_each_number_in_a_longer_one() -> None:
    """A dead letter of 256 KiB is searched, too."""

    def copied(numbers: int) -> int:
        Sliced.copied = 0
        assert not _has_bare_number(Sliced("7 " * numbers))
        return Sliced.copied

    assert copied(400) <= 5 * copied(100)
