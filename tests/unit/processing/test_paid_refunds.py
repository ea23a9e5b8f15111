"""Refunds that the gateway shows as paid: sent back by the bank, or ended here without money."""

from __future__ import annotations

from tests.support.builders import NOW, refund, shown
from tests.support.settled_refunds import is_closed
from tests.support.world import World

from refunds.domain.clock import rfc3339
from refunds.domain.refund import Status
from refunds.gateways.contract import GatewayStatus


def test_a_reversal_records_the_banks_reason_and_frees_the_money(world: World) -> None:
    there = world.put(refund(status=Status.SUCCEEDED, version=2, gateway_refund_id="gw-1"))
    world.paid.reverse(there, shown(status=GatewayStatus.FAILED, failure_code="account_closed"))

    now = world.stored()
    assert (now.status, now.failure_code, now.version) == (Status.REVERSED, "account_closed", 3)
    assert is_closed(now)
    assert world.held() == 0


def test_a_reversal_without_a_reason_has_one_of_its_own(world: World) -> None:
    there = world.put(refund(status=Status.SUCCEEDED, version=2, gateway_refund_id="gw-1"))
    world.paid.reverse(there, shown(status=GatewayStatus.FAILED))

    assert world.stored().failure_code == "reversed"


def test_a_paid_refund_that_came_back_twice_has_the_latest_reason(world: World) -> None:
    paid = refund(status=Status.SUCCEEDED, lease_until=None)
    there = world.put(world.settler.recorder.opened(paid))
    world.clock.advance(hours=1)
    world.gateway.refunds += [
        shown(status=GatewayStatus.FAILED, failure_code=code, gateway_refund_id=f"gw-{code}")
        for code in ("declined", "account_closed")
    ]
    world.paid.close(there, world.deadline())

    assert world.stored().status is Status.REVERSED
    assert (world.stored().failure_code, world.held()) == ("account_closed", 0)


def test_what_ended_here_and_is_still_paid_there_is_looked_at_again_later(world: World) -> None:
    failed = refund(status=Status.FAILED, seen_paid_at=rfc3339(NOW), lease_until=None)
    there = world.put(world.settler.recorder.opened(failed), held=0)
    world.gateway.refunds.append(shown())
    world.clock.advance(minutes=30)

    assert world.paid.look_at_marked(there, world.deadline()) == there
    check_at = world.stored().check_at
    assert check_at is not None
    assert check_at > rfc3339(world.clock.now())
    assert world.stored().seen_paid_at == there.seen_paid_at
