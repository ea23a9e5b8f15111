"""A run's time is shared: by age, by shard, and with the sweep."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from unittest.mock import Mock

import pytest
from botocore.exceptions import ClientError
from tests.support.builders import NOW, shown
from tests.support.reconciler_runs import HOUR_AGO, RUN_SECONDS, dead_letter, names, opened, run
from tests.support.world import World

from refunds.domain.clock import rfc3339
from refunds.domain.refund import Refund, Status
from refunds.gateways.contract import GatewayStatus
from refunds.processing import open_refunds
from refunds.processing.open_refunds import OpenResult
from refunds.tables.refunds import OPEN_SHARDS, Due, shard_of


def watch_pages(world: World, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The shards of which a page is read."""
    read: list[str] = []
    page = world.refunds.due_page

    def watched(shard: str, *rest: Any, **more: Any) -> Any:
        read.append(shard)
        return page(shard, *rest, **more)

    monkeypatch.setattr(world.refunds, "due_page", watched)
    return read


def test_more_than_one_page_of_open_refunds_is_settled_in_one_run(world: World) -> None:
    # One shard's pages are of 25.
    ids = [f"r{n}" for n in range(1000) if shard_of(f"r{n}") == "3"][:27]
    for refund_id in ids:
        opened(world, refund_id)

    assert run(world).open.settled == 27


def test_with_its_time_up_a_run_ends_and_the_next_goes_on(world: World) -> None:
    for n in range(3):
        opened(world, f"r{n}")

    summary = run(world, seconds=14)
    assert (summary.open.settled, world.gateway.calls) == (0, [])
    assert run(world).open.settled == 3


def test_with_its_time_up_a_run_reads_no_more_of_the_index(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_refunds, "PAGE", 1)
    for refund_id in [f"r{n}" for n in range(100) if shard_of(f"r{n}") == "3"][:3]:
        opened(world, refund_id)
    read = watch_pages(world, monkeypatch)
    run(world, seconds=14)

    assert len(read) == OPEN_SHARDS


def test_a_flood_of_open_refunds_leaves_time_for_the_sweep(world: World) -> None:
    for n in range(30):
        opened(world, f"r{n}")
    # Each look takes ten seconds.
    world.gateway.on_call = lambda name: world.clock.advance(
        seconds=10 if name == "find_refunds" else 0
    )
    run(world)

    assert "list_refunds" in world.gateway.calls


def test_trouble_in_one_part_keeps_no_other_from_running(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def throttled(*args: Any, **more: Any) -> Any:
        raise ClientError({"Error": {"Code": "ThrottlingException", "Message": ""}}, "Query")

    monkeypatch.setattr(world.refunds, "due_page", throttled)
    summary = run(world)

    assert summary.sweep.complete
    assert names(summary) == ["ThrottlingException"] * OPEN_SHARDS


@pytest.mark.parametrize("page", [100, 2])
def test_due_refunds_are_taken_by_age_whatever_their_shard(
    world: World, page: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_refunds, "PAGE", page)
    ids = [f"r{number}" for number in range(16)]
    for number, refund_id in enumerate(ids):
        opened(world, refund_id, check_at=rfc3339(NOW - timedelta(seconds=100 - number)))
    looked: list[str] = []
    get = world.refunds.get
    world.refunds.get = lambda refund_id: looked.append(refund_id) or get(refund_id)  # type: ignore[method-assign,func-returns-value]
    world.reconciler.run(world.deadline(RUN_SECONDS))

    assert len({shard_of(each) for each in ids}) > 2
    assert looked == ids


def test_no_shard_starves_when_every_run_ends_before_all_is_done(world: World) -> None:
    ids = [f"r{number}" for number in range(24)]
    for refund_id in ids:
        opened(world, refund_id, status=Status.PENDING)
        world.gateway.refunds.append(
            shown(refund_id=refund_id, amount_minor=100, status=GatewayStatus.PENDING)
        )
    seen: list[str] = []
    find = world.gateway.find_refunds

    def slow(reference: str, *rest: Any) -> Any:
        world.clock.advance(seconds=20)
        seen.append(reference)
        return find(reference, *rest)

    world.gateway.find_refunds = slow  # type: ignore[method-assign,assignment]
    for _ in range(4):
        run(world)

    # Nine fit into a run. Nobody gets a second look before everybody had the first.
    assert sorted(seen[:24]) == sorted(ids)


def test_a_row_that_cant_be_read_is_put_off_counted_and_holds_nobody_up(world: World) -> None:
    there = opened(world, "bad", check_at=HOUR_AGO)
    world.stack.clients.dynamodb.update_item(
        TableName=world.stack.refunds_table,
        Key={"refund_id": {"S": "bad"}},
        UpdateExpression="SET #status = :nonsense",
        ExpressionAttributeNames={"#status": "status"},
        ExpressionAttributeValues={":nonsense": {"S": "nonsense"}},
    )
    opened(world, "good")
    result = run(world)

    assert world.stored("good").status is Status.SUCCEEDED
    assert (result.open.unreadable, result.open.oldest_open_seconds) == (1, 3600)
    (due,) = world.refunds.due_page(there.open_shard or "", "9999", 10)
    assert due.check_at > rfc3339(NOW)
    assert run(world).open.unreadable == 0


def test_trouble_in_one_shard_keeps_no_other_from_its_turn(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [f"r{number}" for number in range(16)]
    for refund_id in ids:
        opened(world, refund_id)
    page, read = world.refunds.due_page, list[str]()

    def denied(shard: str, *rest: Any, **more: Any) -> Any:
        read.append(shard)
        if shard == "0":
            raise ClientError({"Error": {"Code": "AccessDenied", "Message": ""}}, "Query")
        return page(shard, *rest, **more)

    monkeypatch.setattr(world.refunds, "due_page", denied)
    result = run(world)

    others = [each for each in ids if shard_of(each) != "0"]
    assert result.open.settled == len(others)
    assert (result.open.failed, names(result)) == (1, ["permission_denied"])
    assert read.count("0") == 1


def test_a_slow_list_of_the_gateway_leaves_time_for_archiving_and_settling(old: World) -> None:
    dead_letter(old, "x")
    opened(old, check_at=rfc3339(old.clock.now()))
    old.gateway.on_call = lambda name: old.clock.advance(
        seconds=200 if name == "list_refunds" else 0
    )
    result = run(old)

    assert (result.dead_letters.archived, result.open.settled) == (1, 1)


def test_counting_takes_no_comparison_of_one_refund_with_another(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten thousand open refunds took minutes to count, which the run needed for settling."""
    opened(world, "settles")
    for number in range(2):
        opened(world, f"waits-{number}", status=Status.IN_REVIEW)
    compared = Mock(side_effect=AssertionError("compared"))
    monkeypatch.setattr(Refund, "__eq__", compared)
    result = run(world).open

    assert (result.settled, result.in_review) == (1, 2)
    compared.assert_not_called()


def test_a_shard_with_more_than_a_page_loses_none_to_another_shard(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one shard's page waits for an older one of another shard, it is not read over."""
    monkeypatch.setattr(open_refunds, "PAGE", 2)
    of_shard = [[f"r{n}" for n in range(100) if shard_of(f"r{n}") == each][:5] for each in "01"]
    for hours, ids in zip((2, 1), of_shard, strict=True):
        for number, refund_id in enumerate(ids):
            due = NOW - timedelta(hours=hours) + timedelta(seconds=number)
            opened(world, refund_id, check_at=rfc3339(due))

    assert run(world).open.settled == 10


def test_a_run_with_little_to_do_reads_each_shard_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        opened(world, f"r{number}")
    read = watch_pages(world, monkeypatch)
    run(world)

    assert sorted(read) == [str(number) for number in range(OPEN_SHARDS)]


def test_what_a_run_did_not_reach_counts_as_overdue_until_the_runs_end(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_refunds, "PAGE", 2)
    one, other = ([f"r{n}" for n in range(100) if shard_of(f"r{n}") == each][:2] for each in "01")
    for refund_id, overdue in zip((*one, *other), (60, 10, 50, 40), strict=True):
        opened(world, refund_id, check_at=rfc3339(NOW - timedelta(seconds=overdue)))
    looked_up: list[str] = []

    def slow_at_the_third(name: str) -> None:
        looked_up.append(name)
        if name == "find_refunds" and looked_up.count(name) == 3:
            world.clock.advance(seconds=290)

    world.gateway.on_call = slow_at_the_third
    result = run(world).open

    assert world.stored(one[1]).status is Status.PROCESSING
    assert result.overdue_seconds == 290 + 10


def test_what_is_due_just_now_is_not_overdue(world: World) -> None:
    opened(world)

    assert run(world).open.overdue_seconds == 0
    assert run(world).open == OpenResult()  # Nothing is due any more.


def test_a_refund_that_waits_for_approval_is_counted_with_its_age(world: World) -> None:
    expires_at = rfc3339(NOW + timedelta(days=1))
    opened(world, status=Status.AWAITING_APPROVAL, awaiting={"expires_at": expires_at})
    result = run(world).open

    assert (result.awaiting_approval, result.oldest_approval_seconds) == (1, 3600)
    assert (result.still_open, result.oldest_open_seconds, result.in_review) == (0, 0, 0)


def test_a_review_that_ends_by_itself_counts_as_settled(world: World) -> None:
    opened(world, status=Status.IN_REVIEW, failure_code="gateway_forgot")
    world.gateway.refunds.append(shown(amount_minor=100))
    result = run(world).open

    assert (result.settled, result.in_review) == (1, 0)


def test_an_index_that_lags_is_read_on_and_not_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It still shows what has gone."""
    monkeypatch.setattr(open_refunds, "PAGE", 2)
    listed = [Due(HOUR_AGO, f"gone-{number}", "0") for number in range(5)]

    def page(shard: str, now: str, limit: int, *, after: Due | None = None) -> list[Due]:
        begin = listed.index(after) + 1 if after else 0
        return listed[begin : begin + limit] if shard == "0" else []

    looked: list[str] = []
    monkeypatch.setattr(world.refunds, "due_page", page)
    monkeypatch.setattr(world.refunds, "get", looked.append)
    run(world)

    assert looked == [due.refund_id for due in listed]


def test_a_flood_of_dead_letters_leaves_time_for_settling(
    old: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(old, check_at=rfc3339(old.clock.now()))
    for number in range(20):
        dead_letter(old, f"x{number}")
    monkeypatch.setattr(old.failures, "keep", lambda *args: old.clock.advance(seconds=5))
    result = run(old)

    assert result.open.settled == 1
    assert 0 < result.dead_letters.archived < 20


def test_a_page_of_a_shard_is_settled_side_by_side(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_refunds, "PAGE", 3)
    ids = [f"r{n}" for n in range(200) if shard_of(f"r{n}") == "3"][:6]
    for number, refund_id in enumerate(ids):
        opened(world, refund_id, check_at=rfc3339(NOW - timedelta(seconds=100 - number)))
    sizes: list[int] = []
    oldest = open_refunds._oldest

    def counted(shards: Any) -> list[Due]:
        batch = oldest(shards)
        sizes.append(len(batch))
        return batch

    monkeypatch.setattr(open_refunds, "_oldest", counted)
    run(world)

    assert sizes == [3, 3, 0]


def test_a_rebuilt_paid_refund_that_the_gateway_does_not_show_yet_stays_open(
    world: World,
) -> None:
    since = rfc3339(NOW - timedelta(hours=2))
    opened(world, status=Status.SUCCEEDED, version=2, updated_at=since, open_since=since)
    world.ledger.release("payment-1", "refund-1")
    result = run(world).open

    assert (result.still_open, result.failed) == (1, 0)
    assert world.held() == 100  # What a worker released that had read it before is held again.
    there = world.stored()
    assert (there.status, there.open_shard) == (Status.SUCCEEDED, shard_of("refund-1"))
    assert there.check_at is not None
    assert there.check_at > rfc3339(NOW)


def test_a_rebuilt_paid_refund_that_is_closed_counts_as_settled(world: World) -> None:
    since = rfc3339(NOW - timedelta(hours=2))
    opened(world, status=Status.SUCCEEDED, version=2, updated_at=since, open_since=since)
    world.gateway.refunds.append(shown(amount_minor=100))
    result = run(world).open

    assert (result.settled, result.still_open, result.failed) == (1, 0, 0)
    assert world.stored().open_shard is None
