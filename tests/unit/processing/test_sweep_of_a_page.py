"""A page of the sweep costs one read of the table, and no more time than the sweep has."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from tests.support.builders import NOW, refund, shown
from tests.support.reconciler_runs import bounced, paid, run
from tests.support.world import World

from refunds.domain.clock import rfc3339
from refunds.domain.refund import Status
from refunds.tables.refunds import shard_of


@pytest.fixture
def reads(world: World, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The refunds that are read one by one."""
    ids: list[str] = []
    get = world.refunds.get

    def counted(refund_id: str) -> Any:
        ids.append(refund_id)
        return get(refund_id)

    monkeypatch.setattr(world.refunds, "get", counted)
    return ids


def ended(world: World, number: int, status: Status = Status.FAILED) -> None:
    world.put(
        refund(
            refund_id=f"x{number}",
            status=status,
            gateway_refund_id=f"gw-x{number}",
            lease_until=None,
        ),
        held=0,
    )


def listed(number: int) -> dict[str, Any]:
    return {"refund_id": f"x{number}", "gateway_refund_id": f"gw-x{number}"}


def test_refunds_that_failed_on_both_sides_are_not_read_one_by_one(
    world: World, reads: list[str]
) -> None:
    for number, status in enumerate((Status.FAILED, Status.REVERSED, Status.IN_REVIEW)):
        ended(world, number, status)
        world.gateway.refunds.append(bounced(**listed(number)))
    paid(world)
    world.gateway.refunds.append(bounced())
    summary = run(world)

    assert summary.sweep.reversed == 1
    assert set(reads) == {"refund-1"}


def test_a_refund_that_the_page_shows_and_the_table_did_not_is_read(
    world: World, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    paid(world)
    world.gateway.refunds.append(bounced())
    monkeypatch.setattr(world.refunds, "statuses", lambda ids, **more: {})

    assert run(world).sweep.reversed == 1


def test_a_page_with_much_to_do_stops_when_the_turn_ends_and_is_continued(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(6):
        ended(world, number)
        world.gateway.refunds.append(shown(**listed(number)))
    counted: list[str] = []

    def slow(there: Any, deadline: Any) -> None:
        counted.append(there.refund_id)
        world.clock.advance(seconds=100)

    monkeypatch.setattr(world.settler.evidence, "count_balance", slow)
    first = run(world, seconds=210).sweep
    assert (first.paid_though_ended, first.failed, first.complete) == (2, 0, False)
    (walk,) = world.control.sweep("flair")["walks"]
    assert (walk["cursor"], walk["failures"]) == (None, 0)

    for _ in range(2):
        last = run(world, seconds=210).sweep
    assert sorted(counted) == [f"x{number}" for number in range(6)]
    assert run(world).sweep.complete
    assert last.failed == 0


@pytest.mark.parametrize("is_there", [True, False])
def test_what_the_table_has_just_changed_is_not_marked_by_an_older_read(
    world: World, monkeypatch: pytest.MonkeyPatch, is_there: bool
) -> None:
    there = paid(world) if is_there else None
    world.gateway.refunds.append(shown())
    monkeypatch.setattr(
        world.refunds, "statuses", lambda ids, *, complete: {"refund-1": Status.FAILED}
    )
    summary = run(world)

    assert (summary.sweep.paid_though_ended, summary.sweep.failed) == (0, 0)
    assert world.refunds.get("refund-1") == there


def test_a_page_whose_refunds_cant_all_be_read_now_is_read_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.gateway.refunds.append(bounced())
    asked: list[bool] = []
    statuses = world.refunds.statuses

    def watched(ids: list[str], *, complete: bool = False) -> Any:
        asked.append(complete)
        return statuses(ids, complete=complete)

    monkeypatch.setattr(world.refunds, "statuses", watched)
    run(world)

    assert asked == [True]  # Throttling is an error then, and no refund that is not there.


@pytest.mark.parametrize(
    ("seen_paid", "is_open", "marked"),
    [(False, False, 1), (False, True, 1), (True, False, 1), (True, True, 0)],
)
def test_what_ended_here_and_is_paid_there_is_marked_until_it_is_seen_and_open(
    world: World, seen_paid: bool, is_open: bool, marked: int
) -> None:
    soon = rfc3339(NOW + timedelta(minutes=5))
    in_index = {"open_since": rfc3339(NOW), "open_shard": shard_of("refund-1"), "check_at": soon}
    seen_paid_at = rfc3339(NOW) if seen_paid else None
    there = refund(
        status=Status.FAILED,
        seen_paid_at=seen_paid_at,
        lease_until=None,
        **in_index if is_open else {},
    )
    world.put(there, held=0)
    world.gateway.refunds.append(shown())

    assert run(world).sweep.paid_though_ended == marked
    assert world.stored().seen_paid_at is not None
    assert world.stored().open_shard is not None
