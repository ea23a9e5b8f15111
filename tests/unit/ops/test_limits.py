"""`refunds limits`: what goes out without a person, and the exceptions that people make."""

from __future__ import annotations

import pytest
from tests.support.builders import VISA
from tests.support.command_line import Refunds
from tests.support.people import session_arn, sign_in
from tests.support.world import World

from refunds.domain.limits import Exceptions, LimitException, Limits

WHY = ("--why", "VIP, TICKET-12")


@pytest.fixture(autouse=True)
def stack_limits(refunds: Refunds, monkeypatch: pytest.MonkeyPatch) -> None:
    found = Limits(per_refund={"EUR": 50_000}, user_count=3, stop_above={"EUR": 1_000_000})
    monkeypatch.setattr("refunds_ops.commands.limits.limits_of", lambda stack: found)
    sign_in(monkeypatch, "ada", "Operator")


def exceptions(world: World) -> Exceptions:
    return world.control.read_exceptions()


def test_an_exception_says_who_why_and_what_was_before(world: World, refunds: Refunds) -> None:
    first = refunds("limits", "set", "user:u-1042", "--per-refund-minor", "EUR=90000", *WHY)
    assert first.status == 0, first.err
    assert "user:u-1042: one refund 900.00 EUR (version 1)." in first.out
    second = refunds(
        *("limits", "set", "user:u-1042", "--user-count", "5", "--why", "a fair"),
        *("--on-behalf-of", "the shop", "--json"),
    )
    assert second.json["version"] == 2

    found = exceptions(world)
    entry = found.entries["user:u-1042"]
    assert (entry.user_count, entry.per_refund) == (5, None)
    assert (entry.by, entry.why) == (
        session_arn("ada", "Operator"),
        "a fair (on behalf of the shop)",
    )
    last = found.changes[-1]
    assert last["was"]["per_refund"] == {"EUR": 90_000}
    assert last["now"]["user_count"] == 5
    assert last["by"] == session_arn("ada", "Operator")


def test_a_removed_exception_leaves_the_stacks_limits_and_its_trace(
    world: World, refunds: Refunds
) -> None:
    refunds("limits", "set", "requester:agent:bot", "--user-count", "1", *WHY)
    ran = refunds("limits", "set", "requester:agent:bot", "--remove", *WHY)
    assert (ran.status, "the stack's own limits apply (version 2)" in ran.out) == (0, True)
    assert exceptions(world).entries == {}
    assert len(exceptions(world).changes) == 2
    assert refunds("limits", "set", "requester:agent:bot", "--remove", *WHY).status == 1


def test_two_people_at_once_do_not_undo_each_other(
    world: World, refunds: Refunds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("refunds.tables.state.Control.write_exceptions", lambda *_, **__: False)
    ran = refunds("limits", "set", "user:u-1", "--user-count", "1", *WHY)
    assert (ran.status, "Somebody else has changed" in ran.err) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("user:u-1", *WHY), 2),
        (("user:u-1", "--remove", "--user-count", "1", *WHY), 2),
        (("user:u-1", "--per-refund-minor", "500.00", *WHY), 2),
        (("user:u-1", "--per-refund-minor", " ", *WHY), 2),
        (("user:u-1", "--user-count", "1"), 2),
        (("u-1", "--user-count", "1", *WHY), 1),
        (("user:", "--user-count", "1", *WHY), 1),
        (("user:u-1", "--user-count", "1", "--why", f"card {VISA}"), 1),
    ],
)
def test_what_is_wrong_changes_nothing(
    world: World, refunds: Refunds, arguments: tuple[str, ...], status: int
) -> None:
    assert refunds("limits", "set", *arguments).status == status
    assert exceptions(world).version == 0


def test_long_reasons_do_not_use_up_the_room_for_later_changes(
    world: World, refunds: Refunds
) -> None:
    """All changes share one item, which can have 400 KB."""
    for number in range(5):
        long = ("--why", f"{number}, pasted: " + "x" * 100_000)
        assert refunds("limits", "set", "user:u-1", "--user-count", "1", *long).status == 0
    found = exceptions(world)
    assert found.changes[-1]["why"].startswith("4, pasted: xxx")
    assert all(len(each["why"]) <= 256 for each in found.changes)


@pytest.mark.parametrize(
    "subject",
    [
        "user: ",
        "user:u-1\n",
        "user:u-1\u200b",
        "user:" + "u" * 129,
        "sender:A via B",
        "user:\udcff",
    ],
)
def test_a_subject_that_no_request_can_have_is_refused(
    world: World, refunds: Refunds, subject: str
) -> None:
    """The person who sets it would believe that a limit holds."""
    ran = refunds("limits", "set", subject, "--user-count", "1", *WHY)
    assert (ran.status, exceptions(world).version) == (1, 0)


def test_a_wrong_subject_is_told_the_right_ones(refunds: Refunds) -> None:
    ran = refunds("limits", "set", "u-1", "--user-count", "1", *WHY)
    assert "u-1 is not a subject." in ran.err
    assert "user:ID, requester:NAME or sender:ID" in ran.err


def test_limits_exceptions_and_the_day_are_shown(world: World, refunds: Refunds) -> None:
    hostile = LimitException(user_count=5, by="\x1b[31m", why="x", at="2026-11-23")
    stored = Exceptions().changed("user:u-\x1b[31m1", hostile, by="x", why="x", at="2026-11-23")
    assert world.control.write_exceptions(stored, expected_version=0)
    refunds("limits", "set", "user:u-1", "--user-count", "5", *WHY)
    out = refunds("limits", "show").out
    assert "\x1b[31m" not in out
    words = " ".join(out.split())
    assert "one refund 500.00 EUR" in words
    assert "all of a day off" in words
    assert "requests stop above 10000.00 EUR" in words
    assert "today 0.00 EUR" in words
    assert "by ada as Operator" in words

    found = refunds("limits", "show", "--json").json
    assert found["limits"]["per_refund"] == {"EUR": 50_000}
    assert found["limits"]["day"] is None
    assert found["today"] == {"EUR": 0}
    assert (found["version"], found["changes"][1]["why"]) == (2, "VIP, TICKET-12")
