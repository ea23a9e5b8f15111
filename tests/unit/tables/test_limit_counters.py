"""Counters of the limits: what an item says, and what one write may change."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import pytest
from tests.support.world import World

from refunds.tables.limit_counters import (
    Counter,
    Entry,
    LimitCounters,
    Room,
    Settled,
    day_counter,
    user_counter,
)

KEY = "#limits#all#USD"


@pytest.fixture
def counters(world: World) -> LimitCounters:
    return LimitCounters(world.stack.clients.dynamodb, world.stack.ledger_table)


def test_a_counter_that_was_never_used_is_empty(counters: LimitCounters) -> None:
    assert counters.get(KEY) == Counter(KEY)


def test_a_new_day_replaces_the_counter_in_its_next_epoch(counters: LimitCounters) -> None:
    assert counters.begin_day(Counter(KEY), "2026-11-26", "r1#a", Entry("token-1234", 5, "USD"))
    first = counters.get(KEY)
    assert (first.day, first.epoch, first.count, first.began) == ("2026-11-26", 1, 1, "token-12")
    assert first.name == "2026-11-26/token-12"
    assert (first.sums, first.shares) == ({"USD": 5}, {"r1#a": Entry("token-1234", 5, "USD")})

    assert counters.begin_day(first, "2026-11-27", "r2#a", Entry("token-5678", 7, "USD"))
    second = counters.get(KEY)
    assert (second.day, second.epoch, second.sums) == ("2026-11-27", 2, {"USD": 7})
    assert list(second.shares) == ["r2#a"]


@pytest.mark.parametrize("read", [Counter(KEY), Counter(KEY, day="2026-11-25", epoch=2)])
def test_a_counter_that_changed_since_it_was_read_is_not_replaced(
    counters: LimitCounters, read: Counter
) -> None:
    counters.begin_day(Counter(KEY), "2026-11-26", "r1#a", Entry("t1", 5, "USD"))
    assert not counters.begin_day(read, "2026-11-27", "r2#a", Entry("t2", 7, "USD"))
    assert counters.get(KEY).sums == {"USD": 5}


@pytest.fixture
def begun(counters: LimitCounters) -> Counter:
    counters.begin_day(Counter(KEY), "2026-11-27", "r1#a", Entry("t1", 5, "USD"))
    return counters.get(KEY)


@pytest.mark.parametrize(
    ("room", "fits"),
    [
        (Room(), True),
        (Room(amount_minor=12), True),
        (Room(amount_minor=11), False),
        (Room(count=2), True),
        (Room(count=1), False),
    ],
)
def test_a_share_is_counted_up_to_the_limit_and_not_beyond(
    counters: LimitCounters, begun: Counter, room: Room, fits: bool
) -> None:
    assert counters.add(begun, "r2#a", Entry("t2", 7, "USD"), room) == (12 if fits else None)
    after = counters.get(KEY)
    assert (after.count, after.sums["USD"], after.epoch) == ((2, 12, 1) if fits else (1, 5, 1))


def test_a_share_is_counted_once(counters: LimitCounters, begun: Counter) -> None:
    assert counters.add(begun, "r1#a", Entry("t9", 7, "USD"), Room()) is None
    assert counters.get(KEY) == begun


def test_another_currency_has_its_own_sum_and_no_limit_of_this_one(
    counters: LimitCounters, begun: Counter
) -> None:
    assert counters.add(begun, "r2#a", Entry("t2", 7, "EUR"), Room(amount_minor=7)) == 7
    after = counters.get(KEY)
    assert (after.count, after.sums) == (2, {"USD": 5, "EUR": 7})


def test_a_currency_that_another_refund_brought_meanwhile_is_not_overwritten(
    counters: LimitCounters, begun: Counter
) -> None:
    assert counters.add(begun, "r2#a", Entry("t2", 7, "EUR"), Room()) == 7
    assert counters.add(begun, "r3#a", Entry("t3", 5, "EUR"), Room()) is None
    assert counters.get(KEY).sums == {"USD": 5, "EUR": 7}


def test_the_key_of_a_users_counter_stays_the_same() -> None:
    # Another key would be a new counter, with the whole limit free.
    assert user_counter("user-1") == "#limits#user#" + sha256(b"user-1").hexdigest()[:32]
    assert day_counter("USD") == KEY


def test_what_is_settled_leaves_with_the_next_share_in_a_new_epoch(
    counters: LimitCounters, begun: Counter
) -> None:
    assert counters.announce_back(begun, "r1", Entry("t1", 5, "USD"))
    read = counters.get(KEY)
    assert (read.epoch, read.backs) == (1, {"r1": Entry("t1", 5, "USD")})
    settled = Settled(shares=["r1#a"], backs=["r1"], sums={"USD": -5}, count=-1)

    assert counters.add(read, "r2#a", Entry("t2", 7, "USD"), Room(7, 1), settled) == 7
    after = counters.get(KEY)
    assert (after.epoch, after.count, after.sums) == (2, 1, {"USD": 7})
    assert (list(after.shares), after.backs) == (["r2#a"], {})
    late: dict[str, Any] = {"name": "r3#a", "share": Entry("t3", 1, "USD"), "room": Room()}
    assert counters.add(read, **late) is None
    assert not counters.announce_back(read, "r2", Entry("t2", 7, "USD"))


def test_a_give_back_is_announced_once(counters: LimitCounters, begun: Counter) -> None:
    assert counters.announce_back(begun, "r1", Entry("t1", 5, "USD"))
    assert not counters.announce_back(begun, "r1", Entry("t1", 5, "USD"))
