"""Only a condition that failed means anything; every other error of DynamoDB is raised."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from botocore.exceptions import ClientError
from tests.support.builders import NOW, InlinePool, refund
from tests.support.failing_client import Failing
from tests.support.world import World

from refunds.domain.clock import rfc3339
from refunds.domain.intake import Intake
from refunds.domain.limits import Exceptions
from refunds.tables.ledger import LedgerTable
from refunds.tables.limit_counters import Entry, LimitCounters
from refunds.tables.refund_indexes import RefundIndexes, Span
from refunds.tables.refunds import Due, RefundsTable
from refunds.tables.state import MESSAGES_RETURN_WITHIN, ContendedError, Control


class FailingWrites(Failing):
    """Its tables are empty, and no write of theirs succeeds."""

    def get_item(self, **arguments: Any) -> Any:
        return {}


FAILING: Any = FailingWrites()
COUNTERS = LimitCounters(FAILING, "table")


@pytest.mark.parametrize(
    "call",
    [
        lambda: Control(FAILING, "table").look_up_first(NOW),
        lambda: Control(FAILING, "table").write_exceptions(Exceptions(), expected_version=0),
        lambda: RefundsTable(FAILING, "table").put_off(Due("", "refund-1", "0"), rfc3339(NOW)),
        lambda: RefundsTable(FAILING, "table").put_new(refund()),
        lambda: RefundsTable(FAILING, "table").save(refund(), replace(refund(), open_shard="1")),
        lambda: LedgerTable(FAILING, "table").release("payment-1", "refund-1"),
        lambda: list(RefundIndexes(FAILING, "table").open()),
        lambda: COUNTERS.announce_back(
            COUNTERS.get("user#1"), "refund-1", Entry("token", 100, "USD")
        ),
    ],
)
def test_what_is_no_failed_condition_is_raised(call: Callable[[], object]) -> None:
    with pytest.raises(ClientError, match="ProvisionedThroughputExceeded"):
        call()


def test_a_write_that_failed_is_raised_although_the_refund_is_there(world: World) -> None:
    """Nobody knows whether what is there is what was to be written."""

    class Full(Failing):
        def get_item(self, **arguments: Any) -> Any:
            return world.stack.clients.dynamodb.get_item(**arguments)

    there = refund()
    assert world.refunds.put_new(there) is None
    full: Any = Full()
    with pytest.raises(ClientError, match="ProvisionedThroughputExceeded"):
        RefundsTable(full, world.stack.refunds_table).put_new(there)


def test_two_functions_that_look_at_new_tables_at_once_agree(world: World) -> None:
    class NotYetSeen:
        """Reads the note before the other one has written it."""

        def get_item(self, **arguments: Any) -> Any:
            return {}

        def __getattr__(self, name: str) -> Any:
            return getattr(world.stack.clients.dynamodb, name)

    late: Any = NotYetSeen()
    assert Control(late, world.stack.ledger_table).look_up_first(NOW)
    assert not world.control.look_up_first(NOW)  # what the first one has noted stays
    assert world.control.look_up_first(NOW - MESSAGES_RETURN_WITHIN)


def test_a_state_that_always_changes_meanwhile_is_left_as_it_is(world: World) -> None:
    def other_first(intake: Intake) -> Intake:
        world.control.change_intake(lambda there: replace(there, why=f"{there.version}"))
        return replace(intake, why="ours")

    with pytest.raises(ContendedError):
        world.control.change_intake(other_first)
    assert world.control.intake().why != "ours"


def test_shards_that_are_read_at_the_same_time_show_the_same(world: World) -> None:
    for number in range(20):
        there = refund(
            refund_id=f"r{number}",
            open_shard=str(number % 8),
            check_at=rfc3339(NOW),
            open_since="x",
        )
        assert world.refunds.put_new(there) is None
    table = (world.stack.clients.dynamodb, world.stack.refunds_table)
    pool: Any = InlinePool()
    one_by_one, at_once = RefundIndexes(*table), RefundIndexes(*table, pool=pool)
    day = Span(rfc3339(NOW), "2026-11-24T00:00:00Z")
    assert list(at_once.open()) == list(one_by_one.open())
    assert len(list(at_once.open())) == 20
    assert len(list(at_once.open(1))) == 8
    found = list(at_once.by_day(day, newest_first=False))
    assert found == list(one_by_one.by_day(day, newest_first=False))
    assert len(found) == 20


def test_a_page_of_what_is_due_begins_after_the_last_one(world: World) -> None:
    for number in range(5):
        there = refund(
            refund_id=f"r{number}",
            open_shard="3",
            check_at=f"2026-01-0{number + 1}",
            open_since="x",
        )
        assert world.refunds.put_new(there) is None
    now = rfc3339(NOW)
    first = world.refunds.due_page("3", now, 2)
    second = world.refunds.due_page("3", now, 2, after=first[-1])
    assert [each.refund_id for each in (*first, *second)] == ["r0", "r1", "r2", "r3"]
