"""What may be logged of an error: its type and its place, and never its words."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError
from tests.support.builders import EMAIL, VISA

from refunds.domain.redaction import describe, kind_of, shown_code


def fail_at_depth(depth: int) -> None:
    if depth == 0:
        raise ValueError(EMAIL)
    fail_at_depth(depth - 1)


def test_the_four_innermost_places_of_an_error_are_named() -> None:
    with pytest.raises(ValueError, match=EMAIL) as caught:
        fail_at_depth(9)
    described = describe(caught.value)
    assert set(described) == {"error", "at"}
    places = described["at"].split(" < ")
    assert len(places) == 4
    assert all(place.startswith("test_redaction.py:") for place in places)
    assert EMAIL not in str(described)


def test_an_error_that_was_never_raised_has_no_place() -> None:
    assert describe(ValueError(EMAIL)) == {"error": "ValueError"}


def test_the_cause_of_an_error_is_described_as_well() -> None:
    error = ValueError(EMAIL)
    error.__cause__ = KeyError(VISA)
    assert describe(error) == {"error": "ValueError", "cause_error": "KeyError"}


def test_an_error_of_aws_has_its_code() -> None:
    error = ClientError({"Error": {"Code": "ThrottlingException", "Message": EMAIL}}, "GetItem")
    assert kind_of(error) == "ClientError ThrottlingException"
    assert kind_of(ValueError(EMAIL)) == "ValueError"


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        (None, None),
        ("card_declined", "card_declined"),
        ("a", "a"),
        ("a" * 64, "a" * 64),
        ("a" * 65, "(a code that is not shown)"),
        ("Jane Doe", "(a code that is not shown)"),
        (f"card_{VISA}", "(a code that is not shown)"),
        ("", "(a code that is not shown)"),
    ],
)
def test_a_code_is_shown_when_it_is_shaped_like_one(code: str | None, shown: str | None) -> None:
    assert shown_code(code) == shown
