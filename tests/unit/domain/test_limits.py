"""How much may go out without a person, and the exceptions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from refunds.domain.limits import (
    MAX_CHANGES_KEPT,
    MAX_EXCEPTIONS,
    NO_LIMITS,
    Allowed,
    Exceptions,
    LimitException,
    Limits,
    allowed,
    parse_amounts,
)

WHO: Any = {"by": "arn:aws:iam::1:user/jo", "why": "a known customer", "at": "2026-11-27T08:00:00Z"}
LIMITS = Limits(per_refund={"EUR": 500}, user_day={"EUR": 900}, user_count=3)


def exceptions(**entries: LimitException) -> Exceptions:
    return Exceptions(entries={name.replace("_", ":", 1): each for name, each in entries.items()})


def of(made: Exceptions, limits: Limits = LIMITS, **changes: Any) -> Allowed:
    who: dict[str, Any] = {
        "currency": "EUR",
        "user_id": "u1",
        "requested_by": "agent:7",
        "sent_by": "AROASHOP:shop",
    }
    return allowed(limits, made, **who | changes)


def test_amounts_are_read_by_currency() -> None:
    assert parse_amounts("EUR=50000  JPY=6000") == {"EUR": 50_000, "JPY": 6000}
    assert parse_amounts("") is None
    assert parse_amounts("EUR=0") == {"EUR": 0}


@pytest.mark.parametrize(
    "text", ["EUR", "EUR=", "EUR=-1", "EUR=1.5", "eur=5", "XXY=5", "EUR=1 EUR=2"]
)
def test_an_amount_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"minor units|twice"):
        parse_amounts(text)


def test_without_limits_nothing_is_looked_at() -> None:
    assert not NO_LIMITS.on
    assert not Limits(second_approval_above={"EUR": 5}).on
    assert all(
        Limits(**{name: value}).on  # type: ignore[arg-type]
        for name, value in {
            "per_refund": {"EUR": 5},
            "user_day": {"EUR": 5},
            "day": {"EUR": 5},
            "user_count": 5,
            "approve_above": {"EUR": 5},
            "stop_above": {"EUR": 5},
        }.items()
    )


def test_a_currency_that_a_limit_does_not_name_has_none_left() -> None:
    assert of(Exceptions()).per_refund_minor == 500
    assert of(Exceptions(), currency="JPY").per_refund_minor == 0
    assert of(Exceptions(), NO_LIMITS, currency="JPY").per_refund_minor is None
    others = Limits(day={"EUR": 5}, approve_above={"EUR": 5}, second_approval_above={"EUR": 5})
    found = of(Exceptions(), others, currency="JPY")
    assert (found.day_minor, found.approve_above_minor) == (0, 0)
    assert [others.needs_second(amount, "JPY") for amount in (0, 1)] == [False, True]
    assert [others.needs_second(amount, "EUR") for amount in (5, 6)] == [False, True]


def test_an_exception_raises_or_lowers_and_the_lowest_holds() -> None:
    vip = LimitException(per_refund={"EUR": 5000}, user_count=9, **WHO)
    bot = LimitException(per_refund={"EUR": 100}, **WHO)
    assert of(exceptions(user_u1=vip)).per_refund_minor == 5000
    assert of(exceptions(user_u1=vip)).user_count == 9
    assert of(exceptions(user_u1=vip), user_id="u2").per_refund_minor == 500
    both = of(Exceptions(entries={"user:u1": vip, "requester:agent:7": bot}))
    assert (both.per_refund_minor, both.user_day_minor) == (100, 900)
    assert of(exceptions(user_u1=vip), currency="JPY").per_refund_minor == 0


def test_an_exception_may_name_a_role_or_one_session_of_it() -> None:
    bot = LimitException(per_refund={"EUR": 100}, **WHO)
    for subject in ("sender:AROASHOP", "sender:AROASHOP:shop"):
        assert of(Exceptions(entries={subject: bot})).per_refund_minor == 100
    assert of(Exceptions(entries={"sender:AROASHOP:other": bot})).per_refund_minor == 500


def test_who_sent_a_message_first_raises_nothing_if_only_the_message_says_so() -> None:
    vip = Exceptions(entries={"sender:AROAVIP": LimitException(per_refund={"EUR": 5000}, **WHO)})
    low = Exceptions(entries={"sender:AROAVIP": LimitException(per_refund={"EUR": 5}, **WHO)})
    assert of(vip, sent_by="AROAVIP:x").per_refund_minor == 5000
    assert of(vip, sent_by="AROAVIP:x via AROAEVIL:y").per_refund_minor == 500
    assert of(low, sent_by="AROAVIP:x via AROAEVIL:y").per_refund_minor == 5


def test_each_change_of_the_exceptions_is_kept_with_who_and_why() -> None:
    first = LimitException(per_refund={"EUR": 5}, **WHO)
    added = Exceptions().changed("user:u1", first, **WHO)
    removed = added.changed("user:u1", None, **WHO)
    assert (added.version, removed.version) == (1, 2)
    assert removed.entries == {}
    (one, two) = removed.changes
    assert (one["was"], one["now"]) == (None, first.item())
    assert (two["was"], two["now"], two["by"]) == (first.item(), None, WHO["by"])
    assert Exceptions.from_item(added.item()) == added
    assert Exceptions.from_item({}) == Exceptions()


def test_exceptions_have_a_bound_and_a_kind() -> None:
    one = LimitException(per_refund={"EUR": 5}, **WHO)
    for subject in ("u1", "user:", "group:x"):
        with pytest.raises(ValueError, match="a subject is"):
            Exceptions().changed(subject, one, **WHO)
    full = Exceptions(entries={f"user:{number}": one for number in range(MAX_EXCEPTIONS)})
    with pytest.raises(ValueError, match="at most"):
        full.changed("user:more", one, **WHO)
    assert full.changed("user:1", replace(one, user_count=1), **WHO)
    many = Exceptions()
    for number in range(MAX_CHANGES_KEPT + 5):
        many = many.changed("user:1", replace(one, user_count=number), **WHO)
    assert len(many.changes) == MAX_CHANGES_KEPT
    assert many.changes[-1]["version"] == many.version == MAX_CHANGES_KEPT + 5
