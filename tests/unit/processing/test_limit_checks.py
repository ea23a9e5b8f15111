"""Refunds against their limits: what is counted, what waits, and what it costs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from tests.support.builders import payment, refund, request
from tests.support.world import World

from refunds.domain.clock import rfc3339
from refunds.domain.limits import NO_LIMITS, Limits
from refunds.domain.refund import Item, Refund, Status
from refunds.processing.limit_checks import CountersContendedError
from refunds.processing.processor import Processor
from refunds.processing.recorder import Recorded
from refunds.tables.limit_counters import LimitCounters, day_counter, user_counter
from refunds.tables.refunds import RefundsTable
from refunds.tables.wire import item_to_wire


def send(
    world: World, processor: Processor, refund_id: str, amount_minor: int = 300, **changes: Any
) -> Status | str:
    asked = request(refund_id=refund_id, amount_minor=amount_minor, **changes)
    result = processor.process(asked, world.deadline())
    return result.refund.status if isinstance(result, Recorded) else result.reason


@contextmanager
def calls(world: World) -> Iterator[Counter[str]]:
    """Calls to DynamoDB, by operation."""
    found: Counter[str] = Counter()
    events = world.stack.clients.dynamodb.meta.events

    def called(model: Any, **rest: Any) -> None:
        found[model.name] += 1

    events.register("after-call.dynamodb", called)
    yield found
    events.unregister("after-call.dynamodb", called)


@pytest.mark.parametrize(
    ("limits", "reads", "writes"),
    [
        (NO_LIMITS, 0, 0),
        (Limits(per_refund={"USD": 900}, approve_above={"USD": 900}), 1, 0),
        (Limits(user_day={"USD": 900}), 2, 1),
        (Limits(user_count=9), 2, 1),
        (Limits(user_day={"USD": 900}, user_count=9, day={"USD": 9000}), 3, 2),
    ],
)
def test_a_limit_costs_one_write_and_none_when_it_is_off(
    world: World, limits: Limits, reads: int, writes: int
) -> None:
    plain = world.protocol(world.gateway).processor
    send(world, plain, "r0")
    with calls(world) as without:
        send(world, plain, "r1")
    limited = world.protocol(world.gateway, limits=limits, tokens="other").processor
    with calls(world) as found:
        assert send(world, limited, "r2") is Status.SUCCEEDED
    assert sum(found.values()) == sum(without.values()) + reads + writes
    assert found["GetItem"] == without["GetItem"] + reads
    units = found["PutItem"] + found["UpdateItem"]
    assert units == without["PutItem"] + without["UpdateItem"] + writes


def test_a_refund_over_a_limit_waits_in_the_open_index_with_why_and_until_when(
    world: World,
) -> None:
    limits = Limits(user_day={"USD": 500}, second_approval_above={"USD": 250}, approval_days=2)
    processor = world.protocol(world.gateway, limits=limits).processor
    assert send(world, processor, "r1") is Status.SUCCEEDED
    assert send(world, processor, "r2") is Status.AWAITING_APPROVAL
    waiting = world.stored("r2")
    assert waiting.awaiting == {
        "over": "user_day",
        "limit": "500",
        "approvers": "2",
        "expires_at": "2026-11-25T07:10:00.000000Z",
    }
    assert waiting.open_shard is not None
    assert (waiting.key_used_at, waiting.lease_until, waiting.counted) == (None, None, None)
    assert send(world, processor, "r2") is Status.AWAITING_APPROVAL  # the message again
    assert world.gateway.calls.count("create_refund") == 1


def test_a_counter_that_keeps_changing_puts_the_message_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    protocol = world.protocol(world.gateway, limits=Limits(user_day={"USD": 900}))
    send(world, protocol.processor, "r0")
    monkeypatch.setattr(LimitCounters, "add", lambda *args: None)
    assert send(world, protocol.processor, "r1") == "many refunds are counted at once"
    assert world.refunds.get("r1") is None


def test_a_share_is_not_given_back_while_its_counter_keeps_changing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    protocol = world.protocol(world.gateway, limits=Limits(user_day={"USD": 900}))
    send(world, protocol.processor, "r1")
    there = world.stored("r1")
    checks = protocol.processor._limits
    monkeypatch.setattr(LimitCounters, "announce_back", lambda *args: False)
    with pytest.raises(CountersContendedError):
        checks.give_back(there)
    monkeypatch.undo()
    announced = checks.give_back(there)
    assert announced is not None
    assert checks.give_back(there) == announced  # the one that is there
    assert checks.give_back(replace(there, uncounted=announced)) is None
    assert checks.give_back(replace(there, counted=None)) is None


def test_another_request_of_the_same_id_is_not_counted_in_its_place(world: World) -> None:
    limits = Limits(user_day={"USD": 9000})
    protocol = world.protocol(world.gateway, limits=limits)
    send(world, protocol.processor, "r1")
    row = world.stored("r1")
    checks = protocol.processor._limits
    counter = protocol.counters.get(user_counter(row.user_id))
    name = f"r1#{row.fingerprint[-8:]}"
    assert set(counter.shares) == {name}
    with pytest.raises(CountersContendedError):
        checks.admit(replace(row, amount_minor=77))
    assert protocol.counters.get(user_counter(row.user_id)) == counter


def test_what_counts_is_named_by_the_counters_day_and_beginning(world: World) -> None:
    limits = Limits(user_day={"USD": 9000})
    protocol = world.protocol(world.gateway, limits=limits, tokens="a-long-token")
    for name in ("r1", "r2"):
        send(world, protocol.processor, name)
        row = world.stored(name)
        counter = protocol.counters.get(user_counter(row.user_id))
        share = counter.shares[f"{name}#{row.fingerprint[-8:]}"]
        assert row.counted == {"user": f"{counter.name} {share.token}"}


def test_a_counter_lets_go_of_what_is_settled_from_the_fourth_entry_on(world: World) -> None:
    protocol = world.protocol(world.gateway, limits=Limits(user_day={"USD": 9000}))
    entries = []
    for number in range(6):
        send(world, protocol.processor, f"r{number}")
        entries.append(len(protocol.counters.get(user_counter("user-1")).shares))
    assert entries == [1, 2, 3, 4, 1, 2]


def test_a_long_counter_lets_go_of_what_is_settled_below_the_refund_and_then_from_above(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    today = rfc3339(world.clock.now())[:10]
    names = [f"r{number:02}" for number in range(60) if number != 20]
    item: Item = {
        "transaction_id": user_counter("user-1"),
        **{"day": today, "epoch": 1, "count": 64, "began": "t", "sum#USD": 64, "sum#EUR": 7},
        **{f"s#{name}#0": f"t-{name} 1 USD" for name in names},
        **{f"b#b{number}": f"t-{number} {number + 1} USD" for number in range(4)},
    }
    client = world.stack.clients.dynamodb
    client.put_item(TableName=world.stack.ledger_table, Item=item_to_wire(item))
    asked: list[str] = []

    def rows(self: RefundsTable, refund_ids: list[str]) -> dict[str, Refund]:
        asked.extend(refund_ids)
        counted = {"user": f"{today}/t t-r18"}
        given_back = {"user": "t-2"}
        return {
            "r18": refund(refund_id="r18", counted=counted),
            "r17": refund(refund_id="r17", counted={"user": f"{today}/t another"}),
            "r16": refund(refund_id="r16", counted=None),
            "r59": refund(refund_id="r59", counted={"user": f"{today}/another t-r59"}),
            "b0": refund(refund_id="b0", counted=counted, uncounted=given_back),
            "b2": refund(refund_id="b2", counted=counted, uncounted=given_back),
            "b3": refund(refund_id="b3", counted=counted),
        }

    monkeypatch.setattr(RefundsTable, "get_many", rows)
    protocol = world.protocol(world.gateway, limits=Limits(user_count=61))
    admitted = protocol.processor._limits.admit(refund(refund_id="r20", amount_minor=5))

    # 40 of the shares: those below r20, and the highest above.
    looked_at = [name for name in names if name < "r20"] + [name for name in names if name > "r39"]
    assert asked == sorted([*looked_at, "b0", "b1", "b2", "b3"])
    assert isinstance(admitted, Refund)
    after = protocol.counters.get(user_counter("user-1"))
    gone = {"r16", "r17", "r18", "r59"}
    assert {name.partition("#")[0] for name in after.shares} == {*names, "r20"} - gone
    assert set(after.backs) == {"b1", "b3"}
    # The shares of r16, r17 and r59 did not count, and the 3 of b2 were given back.
    assert (after.count, after.sums) == (64 - 4 + 1, {"USD": 64 - 3 - 3 + 5, "EUR": 7})
    assert after.epoch == 2


def test_the_days_total_is_of_all_users_and_by_currency(world: World) -> None:
    protocol = world.protocol(world.gateway, limits=Limits(day={"USD": 700}))
    assert send(world, protocol.processor, "r1", user_id="a") is Status.SUCCEEDED
    assert send(world, protocol.processor, "r2", user_id="b") is Status.SUCCEEDED
    assert send(world, protocol.processor, "r3", user_id="c") is Status.AWAITING_APPROVAL
    assert world.stored("r3").awaiting["over"] == "day"  # type: ignore[index]
    assert protocol.counters.get(day_counter("USD")).sums == {"USD": 600}
    assert protocol.counters.get(day_counter("EUR")).day == ""


@pytest.mark.parametrize(
    ("limits", "over", "limit"),
    [
        (Limits(per_refund={"USD": 299}), "per_refund", "299"),
        (Limits(per_refund={"USD": 300}, approve_above={"USD": 299}), "approve_above", "299"),
        (Limits(user_count=0), "user_count", "0"),
        (Limits(user_day={"USD": 299}), "user_day", "299"),
        (Limits(day={"USD": 299}), "day", "299"),
    ],
)
def test_each_limit_is_named_when_a_refund_is_over_it_and_not_before(
    world: World, limits: Limits, over: str, limit: str
) -> None:
    processor = world.protocol(world.gateway, limits=limits).processor
    assert send(world, processor, "r1", 300) is Status.AWAITING_APPROVAL
    awaiting = world.stored("r1").awaiting
    assert awaiting is not None
    assert (awaiting["over"], awaiting["limit"]) == (over, limit)
    if over != "user_count":
        assert send(world, processor, "r2", 299, user_id="another") is Status.SUCCEEDED


def test_the_number_of_a_users_refunds_has_its_own_limit(world: World) -> None:
    processor = world.protocol(world.gateway, limits=Limits(user_count=2)).processor
    assert send(world, processor, "r1") is Status.SUCCEEDED
    assert send(world, processor, "r2") is Status.SUCCEEDED
    assert send(world, processor, "r3") is Status.AWAITING_APPROVAL
    assert send(world, processor, "r4", user_id="another") is Status.SUCCEEDED


@pytest.mark.parametrize(
    ("stop_above", "amount", "stops"),
    [({"USD": 300}, 300, False), ({"USD": 300}, 301, True), ({"EUR": 300}, 1, True)],
    ids=["at the level", "above it", "a currency without one"],
)
def test_a_days_total_stops_requests_above_its_level(
    world: World, stop_above: dict[str, int], amount: int, stops: bool
) -> None:
    processor = world.protocol(
        world.gateway, limits=Limits(stop_above=stop_above, day={"USD": 9000, "EUR": 9000})
    ).processor
    result = send(world, processor, "r1", amount)

    assert world.control.intake().flows is not stops
    # It is delivered again once a person has resumed, and nothing is claimed until then.
    assert (result is Status.SUCCEEDED) is not stops
    assert (world.refunds.get("r1") is None) is stops


@pytest.mark.parametrize(("stop_above", "limit"), [({"USD": 299}, "299"), ({"EUR": 299}, "0")])
def test_a_request_that_was_stopped_and_whose_message_goes_waits_for_approval(
    world: World, stop_above: dict[str, int], limit: str
) -> None:
    processor = world.protocol(world.gateway, limits=Limits(stop_above=stop_above)).processor
    world.open_ledger("payment-1", "r1", 300)
    asked = request(refund_id="r1", amount_minor=300)
    resumed = processor.resume_reserved(asked, world.deadline())

    assert resumed == world.stored("r1")
    assert resumed.status is Status.AWAITING_APPROVAL
    assert resumed.awaiting is not None
    assert (resumed.awaiting["over"], resumed.awaiting["limit"]) == ("day", limit)


def test_a_share_of_a_day_that_is_over_is_given_back_all_the_same(world: World) -> None:
    processor = world.protocol(world.gateway, limits=Limits(user_day={"USD": 900})).processor
    send(world, processor, "r1")
    there = world.stored("r1")
    world.clock.advance(days=1)
    send(world, processor, "r2")
    given_back = processor._limits.give_back(there)

    assert given_back is not None
    assert given_back["user"]


def test_no_key_of_a_counter_shows_a_user(world: World) -> None:
    key = user_counter("jane.doe@mail.example.com")
    assert "jane" not in key
    assert len(key) < 60


@pytest.fixture(autouse=True)
def a_large_payment(world: World) -> None:
    world.gateway.payments["payment-1"] = payment(captured_minor=100_000)
