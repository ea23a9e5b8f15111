"""Finding refunds through the indexes: complete, in order, and never by reading the whole table."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError
from tests.support.builders import NOW, refund
from tests.support.moto_stack import table_without_indexes
from tests.support.world import World

from refunds.domain.clock import rfc3339
from refunds.domain.refund import Status
from refunds.tables.refund_indexes import DAY_INDEX, NoIndexError, RefundIndexes, Span
from refunds.tables.refunds import day_shard_of, shard_of

WEEK = Span(rfc3339(NOW - timedelta(days=3)), rfc3339(NOW + timedelta(days=4)))


@pytest.fixture
def indexes(world: World) -> RefundIndexes:
    return RefundIndexes(world.stack.clients.dynamodb, world.stack.refunds_table)


def put(world: World, number: int, **changes: Any) -> str:
    at = rfc3339(NOW + timedelta(hours=9 * number))
    made = refund(refund_id=f"r{number}", created_at=at, updated_at=at, **changes)
    assert world.refunds.put_new(made) is None
    return made.refund_id


def test_refunds_of_a_day_come_in_the_order_of_their_creation(
    world: World, indexes: RefundIndexes
) -> None:
    made = [put(world, number) for number in range(8)]
    assert [each.refund_id for each in indexes.by_day(WEEK, newest_first=False)] == made
    newest = [each.refund_id for each in indexes.by_day(WEEK, newest_first=True)]
    assert newest == made[::-1]
    second_day = Span(rfc3339(NOW + timedelta(hours=17)), rfc3339(NOW + timedelta(hours=36)))
    found = [each.refund_id for each in indexes.by_day(second_day, newest_first=False)]
    assert found == ["r2", "r3"]  # at 18 and 27 hours; 36 is not before the end


def test_refunds_of_a_user_are_theirs_only(world: World, indexes: RefundIndexes) -> None:
    made = [put(world, number, user_id="ada" if number % 2 else "bob") for number in range(6)]
    found = indexes.by_user("ada", WEEK, newest_first=False)
    assert [each.refund_id for each in found] == made[1::2]


def test_every_open_refund_is_found(world: World, indexes: RefundIndexes) -> None:
    made = {
        put(world, number, open_shard=str(number % 8), check_at=rfc3339(NOW), open_since="x")
        for number in range(20)
    }
    put(world, 30)
    assert set(indexes.open()) == made


def test_an_index_is_read_to_its_end_page_by_page(world: World) -> None:
    for number in range(7):
        put(world, number, user_id="ada")
    client = world.stack.clients.dynamodb

    class SmallPages:
        def query(self, **arguments: Any) -> Any:
            return client.query(**arguments, Limit=2)

    pages: Any = SmallPages()
    found = RefundIndexes(pages, world.stack.refunds_table).by_user("ada", WEEK, newest_first=True)
    assert [each.refund_id for each in found] == [f"r{number}" for number in reversed(range(7))]


def test_stored_refunds_are_read_in_the_order_asked_for_a_hundred_at_once(
    world: World, indexes: RefundIndexes
) -> None:
    for number in range(130):
        put(world, number)
    wanted = [f"r{number}" for number in reversed(range(130))]
    wanted.insert(5, "gone")
    asked: list[int] = []

    def called(params: dict[str, Any], **rest: Any) -> None:
        asked.extend(len(each["Keys"]) for each in params["RequestItems"].values())

    events = world.stack.clients.dynamodb.meta.events
    events.register("provide-client-params.dynamodb.BatchGetItem", called)
    found = [item["refund_id"] for item in indexes.items(wanted)]
    events.unregister("provide-client-params.dynamodb.BatchGetItem", called)
    assert found == [each for each in wanted if each != "gone"]
    assert asked == [100, 31]


@pytest.mark.parametrize(
    ("until", "days"),
    [
        ("2026-11-24T00:00:00.000000Z", ["2026-11-23"]),
        ("2026-11-24T00:00:00.000001Z", ["2026-11-23", "2026-11-24"]),
    ],
)
def test_a_span_has_each_day_of_which_it_has_an_instant(until: str, days: list[str]) -> None:
    assert [each.isoformat() for each in Span(rfc3339(NOW), until).days()] == days


def test_a_refunds_place_in_the_index_of_days_is_its_utc_day_and_a_shard() -> None:
    day, _, shard = day_shard_of("refund-1", rfc3339(NOW)).partition("#")

    assert (day, shard) == ("2026-11-23", shard_of("refund-1"))


def test_an_index_that_is_switched_off_is_named(world: World) -> None:
    indexes = RefundIndexes(world.stack.clients.dynamodb, table_without_indexes(world.stack))
    with pytest.raises(NoIndexError) as raised:
        list(indexes.by_day(WEEK, newest_first=True))
    assert raised.value.parameter == "DayIndex"
    assert str(raised.value) == DAY_INDEX


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("ThrottlingException", "the index is too busy"),
        ("ValidationException", "the table has no such attribute"),
    ],
)
def test_another_refusal_of_a_query_is_no_missing_index(code: str, text: str) -> None:
    class Refuses:
        def query(self, **arguments: Any) -> Any:
            raise ClientError({"Error": {"Code": code, "Message": text}}, "Query")

    refusing: Any = Refuses()
    with pytest.raises(ClientError, match=code):
        list(RefundIndexes(refusing, "table").by_user("ada", WEEK, newest_first=True))


def test_what_the_index_is_made_of_is_not_the_refunds_own(world: World) -> None:
    """A changed refund keeps its place: a later save writes no index entry."""
    put(world, 1)
    stored = world.stored("r1")
    assert "day_shard" not in stored.item()
    (before,) = world.stack.items(world.stack.refunds_table)
    changed = world.settler.recorder.finish(stored, Status.SUCCEEDED)
    assert changed
    (after,) = world.stack.items(world.stack.refunds_table)
    assert after["status"] == "SUCCEEDED"
    assert after["day_shard"] == before["day_shard"]
    assert (after["created_at"], after["user_id"]) == (before["created_at"], before["user_id"])
