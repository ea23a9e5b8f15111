"""The one refund that a webhook names is looked at: the gateway's answer counts, not the event."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from tests.support.builders import NOW, refund, shown
from tests.support.world import World

from refunds.domain.clock import rfc3339
from refunds.domain.refund import Refund, Status
from refunds.gateways.contract import GatewayStatus, GatewayUnavailableError


def pending(world: World, **changes: Any) -> Refund:
    """A refund that the gateway said was pending an hour ago; its next look is due in an hour."""
    return world.put(
        refund(
            status=Status.PENDING,
            gateway_refund_id="gw-1",
            lease_until=None,
            open_since=rfc3339(NOW - timedelta(hours=1)),
            open_shard="0",
            check_at=rfc3339(NOW + timedelta(hours=1)),
            **changes,
        )
    )


def look(world: World, refund_id: str = "refund-1") -> Refund | None:
    return world.reconciler.look_at(refund_id, world.deadline(230))


@pytest.mark.parametrize(
    ("at_gateway", "ends"),
    [
        (GatewayStatus.SUCCEEDED, Status.SUCCEEDED),
        (GatewayStatus.FAILED, Status.FAILED),
        (GatewayStatus.PENDING, Status.PENDING),
    ],
)
def test_the_gateways_answer_counts_not_the_event(
    world: World, at_gateway: GatewayStatus, ends: Status
) -> None:
    pending(world)
    world.gateway.refunds = [shown(status=at_gateway)]
    look(world)
    assert world.stored().status is ends
    assert world.held() == (0 if ends is Status.FAILED else 2500)


def test_doubled_events_do_nothing_more(world: World) -> None:
    pending(world)
    world.gateway.refunds = [shown()]
    look(world)
    after = world.stored()
    for _ in range(3):
        look(world)
    assert world.stored() == after


def test_an_old_event_does_not_undo_what_came_after_it(world: World) -> None:
    pending(world)
    world.gateway.refunds = [shown(status=GatewayStatus.FAILED)]
    look(world)
    # "pending" and "succeeded" come late: the gateway is asked and says failed, as it is.
    look(world)
    assert world.stored().status is Status.FAILED
    assert world.held() == 0


def test_a_reversal_is_recorded_once_the_gateway_shows_it(world: World) -> None:
    world.put(refund(status=Status.SUCCEEDED, gateway_refund_id="gw-1", lease_until=None))
    world.gateway.refunds = [shown()]
    look(world)
    assert world.stored().status is Status.SUCCEEDED
    world.gateway.refunds = [shown(status=GatewayStatus.FAILED)]
    look(world)
    assert world.stored().status is Status.REVERSED
    assert world.held() == 0


def test_an_unknown_refund_leads_to_nothing(world: World) -> None:
    assert look(world, "no-such-refund") is None
    assert world.gateway.calls == []


def test_a_refund_that_is_being_worked_on_is_left_alone(world: World) -> None:
    world.put(refund(open_since=rfc3339(NOW), open_shard="0", check_at=rfc3339(NOW)))
    before = world.stored()
    assert look(world) == before
    assert world.stored() == before
    assert world.gateway.calls == []


@pytest.mark.parametrize("status", [Status.PROCESSING, Status.IN_REVIEW])
def test_no_event_puts_off_when_a_refund_is_looked_at_next(world: World, status: Status) -> None:
    """Else whoever sends many would keep it waiting."""
    world.put(refund(status=status, open_since=rfc3339(NOW), open_shard="0", check_at=rfc3339(NOW)))
    for _ in range(3):
        look(world)
    assert world.stored().check_at == rfc3339(NOW)


@pytest.mark.parametrize("status", [Status.FAILED, Status.REJECTED, Status.REVERSED])
def test_what_has_ended_stays_ended(world: World, status: Status) -> None:
    world.put(refund(status=status, lease_until=None), held=1)
    before = world.stored()
    world.gateway.refunds = [shown()]
    look(world)
    assert world.stored() == before


def test_a_gateway_that_is_down_leaves_everything_as_it_was(world: World) -> None:
    world.put(refund(status=Status.SUCCEEDED, gateway_refund_id="gw-1", lease_until=None))
    world.gateway.down = True
    with pytest.raises(GatewayUnavailableError):
        look(world)
    assert world.stored().status is Status.SUCCEEDED
