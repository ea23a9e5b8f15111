"""Our balance at the gateway is too low: refunds wait for it or fail, and a person is told."""

from __future__ import annotations

from tests.support.builders import NOW, refund, shown
from tests.support.reconciler_runs import run
from tests.support.settled_refunds import call
from tests.support.world import World

from refunds.domain.clock import rfc3339
from refunds.domain.refund import Refund, Status
from refunds.gateways.contract import INSUFFICIENT_FUNDS, Accepted, Declined, GatewayStatus
from refunds.tables.refunds import shard_of


def test_a_refund_that_waits_for_our_balance_says_so_until_it_is_paid(
    world: World, claimed: Refund
) -> None:
    waits = shown(status=GatewayStatus.PENDING, pending_reason=INSUFFICIENT_FUNDS)
    world.gateway.answers.append(Accepted(waits))
    call(world, claimed)
    assert world.stored().balance_short_at == rfc3339(NOW)

    world.gateway.refunds[:] = [shown()]
    world.clock.advance(hours=1)
    result = run(world)
    assert result.open.balance_short == 0
    there = world.stored()
    assert (there.status, there.balance_short_at) == (Status.SUCCEEDED, None)


def test_each_run_counts_those_that_still_wait(world: World) -> None:
    world.put(
        refund(
            status=Status.PENDING,
            version=2,
            gateway_refund_id="gw-1",
            lease_until=None,
            open_since=rfc3339(NOW),
            open_shard=shard_of("refund-1"),
            check_at=rfc3339(NOW),
        )
    )
    waits = shown(status=GatewayStatus.PENDING, pending_reason=INSUFFICIENT_FUNDS)
    world.gateway.refunds.append(waits)
    assert run(world).open.balance_short == 1
    # Pending for another reason by now.
    world.gateway.refunds[:] = [shown(status=GatewayStatus.PENDING)]
    world.clock.advance(hours=1)
    assert run(world).open.balance_short == 0
    assert world.stored().balance_short_at is None


def test_a_refund_that_was_refused_for_it_has_failed_and_says_so(
    world: World, claimed: Refund
) -> None:
    world.gateway.answers.append(
        Declined("balance_insufficient", "top it up", insufficient_funds=True)
    )
    call(world, claimed)
    there = world.stored()
    assert (there.status, there.balance_short_at) == (Status.FAILED, rfc3339(NOW))
    assert world.held() == 0
