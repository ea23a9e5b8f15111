"""Pending refunds: what they become, and how often they are looked at."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from tests.support.builders import NOW, refund, shown
from tests.support.settled_refunds import is_open
from tests.support.world import World

from refunds.domain.clock import from_rfc3339, rfc3339
from refunds.domain.refund import Refund, Status
from refunds.gateways.contract import GatewayStatus
from refunds.processing.recorder import Recorded
from refunds.tables.refunds import shard_of


def pending(world: World, **changes: Any) -> Refund:
    return world.put(
        refund(
            status=Status.PENDING,
            version=2,
            gateway_refund_id="gw-1",
            lease_until=None,
            open_since=rfc3339(NOW),
            open_shard=shard_of("refund-1"),
            check_at=rfc3339(NOW + timedelta(minutes=5)),
            **changes,
        )
    )


@pytest.mark.parametrize(
    ("status", "becomes", "held"),
    [
        (GatewayStatus.SUCCEEDED, Status.SUCCEEDED, 2500),
        (GatewayStatus.FAILED, Status.FAILED, 0),
        (GatewayStatus.PENDING, Status.PENDING, 2500),
    ],
)
def test_a_pending_refund_becomes_what_the_gateway_shows(
    world: World, status: GatewayStatus, becomes: Status, held: int
) -> None:
    there = pending(world)
    world.gateway.refunds.append(shown(status=status))
    world.clock.advance(minutes=5)
    world.settler.take_over(there, world.deadline())

    now = world.stored()
    assert now.status is becomes
    assert now.version == (2 if becomes is Status.PENDING else 3)
    assert is_open(now) == (becomes is Status.PENDING)
    assert world.held() == held
    assert world.gateway.orders == []


def test_a_pending_refund_that_isnt_shown_is_never_called_again(world: World) -> None:
    there = pending(world)
    world.clock.advance(hours=23)
    result = world.settler.take_over(there, world.deadline())

    assert isinstance(result, Recorded)
    assert world.gateway.orders == []
    assert (world.stored().status, world.stored().lease_until) == (Status.PENDING, None)


def test_a_pending_refund_that_isnt_shown_for_a_day_is_for_a_person(world: World) -> None:
    there = pending(world)
    world.clock.advance(hours=24)
    world.settler.take_over(there, world.deadline())

    assert (world.stored().status, world.stored().failure_code) == (
        Status.IN_REVIEW,
        "gateway_forgot",
    )
    assert world.held() == 2500


def test_a_refund_is_looked_at_less_often_the_longer_it_is_open(world: World) -> None:
    there = pending(world)
    waits = []
    for hours in (0, 1, 10):
        world.clock.advance(hours=hours)
        assert world.settler.recorder.recheck(there)
        there = world.stored()
        assert there.check_at is not None
        waits.append(from_rfc3339(there.check_at) - world.clock.now())

    assert waits == [timedelta(minutes=5), timedelta(minutes=15), timedelta(hours=1)]
    assert there.open_since == rfc3339(NOW)


def test_a_refund_that_becomes_pending_is_open_since_its_attempt_was(world: World) -> None:
    since = rfc3339(NOW - timedelta(hours=3))
    there = world.put(
        refund(lease_until=None, open_since=since, open_shard="0", check_at=rfc3339(NOW))
    )
    world.gateway.refunds.append(shown(status=GatewayStatus.PENDING))
    world.settler.take_over(there, world.deadline())

    assert (world.stored().status, world.stored().open_since) == (Status.PENDING, since)


@pytest.mark.parametrize(
    ("shown_at", "open_since", "review"),
    [
        (timedelta(hours=23), timedelta(hours=25), False),
        (timedelta(hours=25), timedelta(hours=26), True),
        (None, timedelta(hours=25), True),
        (None, timedelta(hours=23), False),
    ],
)
def test_how_long_a_pending_refund_is_missing_counts_from_when_it_was_shown_or_opened(
    world: World, shown_at: timedelta | None, open_since: timedelta, review: bool
) -> None:
    there = refund(
        status=Status.PENDING,
        lease_until=None,
        shown_at=shown_at and rfc3339(NOW - shown_at),
        open_since=rfc3339(NOW - open_since),
        open_shard=shard_of("refund-1"),
        check_at=rfc3339(NOW),
    )
    world.put(there)
    world.settler.ask_then_call(there, world.deadline())

    assert (world.stored().status is Status.IN_REVIEW) is review
    assert world.stored().failure_code == ("gateway_forgot" if review else None)
