"""The sweep finds refunds that came back from the bank, and reverses nothing else."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from tests.support.builders import NOW, refund, shown
from tests.support.reconciler_runs import bounced, paid, run
from tests.support.world import World

from refunds.domain.refund import SWEEP_BACK, Refund, Status
from refunds.gateways.contract import GatewayStatus
from refunds.processing.reversal_sweep import MAX_PAGE_FAILURES, MAX_PAGE_TRIES


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


@pytest.mark.parametrize("status", [GatewayStatus.SUCCEEDED, GatewayStatus.PENDING])
def test_what_a_webhook_names_and_is_not_failed_counts_as_no_reversal(
    world: World, status: GatewayStatus
) -> None:
    there = paid(world)
    listed = shown(status=status)
    world.gateway.refunds.append(listed)

    assert not world.reconciler._sweep.reverse(world.gateway, listed, world.deadline())
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

    assert asked == [NOW - SWEEP_BACK, NOW + timedelta(days=1) - SWEEP_BACK]


def test_every_page_is_swept_and_the_sweep_starts_again(world: World) -> None:
    world.gateway.page_size = 2
    world.gateway.refunds += [shown(refund_id=f"x{n}") for n in range(5)]
    summary = run(world)

    assert (summary.sweep.pages, summary.sweep.complete) == (3, True)
    assert world.control.sweep("flair")["walks"] == []
    assert run(world).sweep.pages == 3


def test_a_sweep_that_runs_out_of_time_goes_on_from_there(world: World) -> None:
    world.gateway.page_size = 1
    world.gateway.refunds += [shown(refund_id=f"x{n}") for n in range(4)]
    world.gateway.on_call = lambda name: world.clock.advance(seconds=100)

    first = run(world, seconds=210)
    assert (first.sweep.pages, first.sweep.complete) == (2, False)
    assert cursor(world) == "2"
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
    assert (summary.sweep.reversed, summary.failed) == (1, MAX_PAGE_TRIES)
    assert {failure.detail["refund_id"] for failure in summary.sweep.failures} == {"broken"}


def test_a_cursor_that_the_gateway_no_longer_takes_is_dropped_after_a_few_tries(
    world: World,
) -> None:
    at_the_second_of_four_pages(world)
    world.gateway.expired_cursors.add("1")
    cursors = []
    for _ in range(MAX_PAGE_FAILURES):
        failed = run(world).sweep.failed
        cursors.append((cursor(world), failed))
    world.gateway.expired_cursors.clear()

    assert cursors == [("1", 1)] * (MAX_PAGE_FAILURES - 1) + [(None, 1)]
    assert (run(world).sweep.pages, run(world).sweep.complete) == (4, True)


def test_an_outage_of_the_gateway_drops_no_cursor(world: World) -> None:
    at_the_second_of_four_pages(world)
    world.gateway.down = True
    for _ in range(MAX_PAGE_FAILURES * 2):
        run(world)
    assert cursor(world) == "1"
    world.gateway.down = False

    assert run(world).sweep.pages == 3


def test_a_page_that_was_read_forgives_the_failures_before_it(world: World) -> None:
    at_the_second_of_four_pages(world)
    for down in (True, True, False, True):
        world.gateway.down = down
        world.gateway.on_call = lambda name: None
        if not down:  # after one page, once more
            world.gateway.on_call = goes_down_after_one(world)
        run(world)

    (walk,) = world.control.sweep("flair")["walks"]
    assert (walk["cursor"], walk["failures"]) == ("2", 2)


def at_the_second_of_four_pages(world: World) -> None:
    world.gateway.page_size = 1
    world.gateway.refunds += [shown(refund_id=f"x{n}") for n in range(4)]
    world.gateway.on_call = goes_down_after_one(world)
    run(world)
    world.gateway.on_call = lambda name: None
    world.gateway.down = False
    (walk,) = world.control.sweep("flair")["walks"]
    assert (walk["cursor"], walk["failures"]) == ("1", 1)
    world.control.set_sweep(
        "flair", world.control.sweep("flair") | {"walks": [walk | {"failures": 0}]}
    )


def goes_down_after_one(world: World) -> Callable[[str], None]:
    calls: list[str] = []

    def called(name: str) -> None:
        calls.append(name)
        world.gateway.down = len(calls) > 1

    return called


def cursor(world: World) -> str | None:
    """Where the only walk of the sweep is; None when there is none."""
    walks = world.control.sweep("flair")["walks"]
    return walks[0]["cursor"] if walks else None
