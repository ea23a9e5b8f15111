"""Instants: what is written, and everything that RFC 3339 allows to be read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refunds.domain.clock import from_rfc3339, later, rfc3339

INSTANT = datetime(2026, 11, 23, 7, 10, 0, 123456, UTC)


@given(st.integers(0, 10**17))
def test_what_is_written_is_read_again(microseconds: int) -> None:
    instant = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)

    assert from_rfc3339(rfc3339(instant)) == instant


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-23T07:10:00.123456Z",
        "2026-11-23t07:10:00.123456z",
        "2026-11-23T07:10:00.123456-00:00",
        "2026-11-23T08:40:00.1234569999999999999+01:30",
    ],
)
def test_every_form_of_an_instant_is_read(text: str) -> None:
    assert from_rfc3339(text) == INSTANT


def test_a_short_fraction_is_not_taken_for_microseconds() -> None:
    assert from_rfc3339("2026-11-23T07:10:00.5Z").microsecond == 500_000


@pytest.mark.parametrize("text", ["2016-12-31T23:59:60Z", "2017-01-01T01:59:60.25+02:00"])
def test_a_leap_second_is_the_last_instant_before_the_next_month(text: str) -> None:
    next_month = datetime(2017, 1, 1, tzinfo=UTC)

    assert from_rfc3339(text) == next_month - timedelta(microseconds=1)


@pytest.mark.parametrize(
    "text",
    ["", "2026-11-23", "2026-11-23T07:10:00", "2026-11-23T07:10:60Z", "9999-12-31T23:59:60Z"],
)
def test_anything_else_is_no_instant(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        from_rfc3339(text)


def test_a_year_before_1000_has_four_digits_too() -> None:
    first = datetime.min.replace(tzinfo=UTC)
    assert rfc3339(first) == "0001-01-01T00:00:00.000000Z"
    assert from_rfc3339(rfc3339(first)) == first


def test_text_order_is_time_order() -> None:
    texts = [rfc3339(INSTANT + timedelta(microseconds=step)) for step in (0, 1, 10**6, 10**11)]

    assert texts == sorted(texts)
    assert later(texts[0], timedelta(microseconds=1)) == texts[1]
