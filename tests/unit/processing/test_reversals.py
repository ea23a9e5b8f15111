"""The sweep finds refunds that came back from the bank, and reverses nothing else."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from tests.support.builders import NOW, refund, shown
from tests.support.reconciler_runs import HOUR_AGO, bounced, paid, run
from tests.support.world import World

from refunds.domain.clock import rfc3339
from refunds.domain.refund import Refund, Status
from refunds.gateways.contract import GatewayStatus
from refunds.processing.reversal_sweep import MAX_CURSOR_FAILURES
from refunds.processing.settler import SWEEP_BACK


def test_a_refund_that_came_back_from_the_bank_is_reversed_and_its_money_freed(
    world: World,
) -> None:
    paid(world)
    world.gateway.refunds.append(bounced())
    summary = run(world)

    there = world.stored()
    assert (there.status, there.failure_code) == (Status.REVERSED, "account_closed")
    assert (world.held(), summary.sweep.reversed) == (0, 1)


@pytest.mark.parametrize(
    "listed",
    [
        bounced(gateway_refund_id="gw-2"),
        bounced(refund_id="others"),
        shown(),
        shown(status=GatewayStatus.PENDING),
    ],
    ids=["another of the gateway's", "unknown to us", "succeeded", "pending"],
)
def test_nothing_else_reverses_a_refund(world: World, listed: Any) -> None:
    there = paid(world)
    world.gateway.refunds.append(listed)

    assert run(world).sweep.reversed == 0
    assert world.stored() == there


@pytest.mark.parametrize("status", [Status.IN_REVIEW, Status.FAILED, Status.REVERSED])
def test_only_what_we_hold_for_paid_is_reversed(world: World, status: Status) -> None:
    there = world.put(refund(status=status, gateway_refund_id="gw-1"))
    world.gateway.refunds.append(bounced())

    assert run(world).sweep.reversed == 0
    assert world.stored() == there


def test_another_gateways_refund_is_not_reversed(world: World) -> None:
    paid(world, gateway="stripe")
    world.gateway.refunds.append(bounced())

    assert run(world).sweep.reversed == 0


def test_what_a_person_took_for_paid_is_reversed_when_nothing_of_it_is_left(world: World) -> None:
    world.put(refund(status=Status.SUCCEEDED, version=3))
    world.gateway.refunds.append(bounced())

    assert run(world).sweep.reversed == 1


def test_what_a_person_took_for_paid_stays_while_any_of_it_lives(world: World) -> None:
    world.put(refund(status=Status.SUCCEEDED, version=3))
    world.gateway.refunds += [bounced(), shown(gateway_refund_id="gw-2")]

    assert run(world).sweep.reversed == 0


def test_the_sweep_goes_back_as_far_as_a_bank_may_take(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[datetime] = []
    listed = world.gateway.list_refunds

    def watched(deadline: Any, *, created_from: datetime, cursor: str | None) -> Any:
        asked.append(created_from)
        return listed(deadline, created_from=created_from, cursor=cursor)

    monkeypatch.setattr(world.gateway, "list_refunds", watched)
    run(world)
    world.clock.advance(days=1)
    run(world)

    # A sweep begins where the one before it began; the one after follows.
    assert asked == [NOW - SWEEP_BACK, NOW - SWEEP_BACK]


def test_every_page_is_swept_and_the_sweep_starts_anew(world: World) -> None:
    world.gateway.page_size = 2
    world.gateway.refunds += [shown(refund_id=f"x{n}") for n in range(5)]
    summary = run(world)

    assert (summary.sweep.pages, summary.sweep.complete) == (3, True)
    assert world.control.sweep_position("flair")["cursor"] is None


def test_a_sweep_that_runs_out_of_time_goes_on_from_there(world: World) -> None:
    world.gateway.page_size = 1
    world.gateway.refunds += [shown(refund_id=f"x{n}") for n in range(4)]
    world.gateway.on_call = lambda name: world.clock.advance(seconds=100)

    first = run(world, seconds=210)
    assert (first.sweep.pages, first.sweep.complete) == (2, False)
    assert world.control.sweep_position("flair")["cursor"] == "2"
    second = run(world, seconds=210)
    assert (second.sweep.pages, second.sweep.complete) == (2, True)


def test_a_refund_that_cant_be_reversed_does_not_hold_up_the_sweep(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    paid(world)
    world.gateway.refunds += [bounced(refund_id="broken"), bounced()]
    get = world.refunds.get

    def broken(refund_id: str) -> Refund | None:
        if refund_id == "broken":
            raise RuntimeError(refund_id)
        return get(refund_id)

    monkeypatch.setattr(world.refunds, "get", broken)
    summary = run(world)

    assert summary.sweep.complete
    assert (summary.sweep.reversed, summary.failed) == (1, 1)


def test_a_cursor_that_the_gateway_no_longer_takes_is_dropped_after_a_few_tries(
    world: World,
) -> None:
    world.control.set_sweep_position("flair", HOUR_AGO, "stale", 0)
    world.gateway.down = True
    cursors = []
    for _ in range(MAX_CURSOR_FAILURES):
        run(world)
        cursors.append(world.control.sweep_position("flair")["cursor"])

    assert cursors == ["stale"] * (MAX_CURSOR_FAILURES - 1) + [None]
    position = world.control.sweep_position("flair")
    assert position["created_from"] == rfc3339(NOW - SWEEP_BACK)


def test_a_page_that_was_read_forgives_the_failures_before_it(world: World) -> None:
    world.control.set_sweep_position("flair", HOUR_AGO, "0", MAX_CURSOR_FAILURES - 1)
    world.gateway.page_size = 1
    world.gateway.refunds += [shown(refund_id=f"x{n}") for n in range(3)]

    def then_down(name: str) -> None:
        world.gateway.down = len(world.gateway.calls) > 1

    world.gateway.on_call = then_down
    run(world)

    position = world.control.sweep_position("flair")
    assert (position["cursor"], position["failures"]) == ("1", 1)
