"""A run settles what is open, and one refund out of turn, and no trouble stops the others."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from tests.support.builders import NOW, refund, request, shown
from tests.support.reconciler_runs import HOUR_AGO, bounced, names, opened, paid, run
from tests.support.world import World

from refunds.domain.clock import from_rfc3339, rfc3339
from refunds.domain.refund import Refund, Status
from refunds.gateways.contract import GatewayStatus
from refunds.tables.refunds import Due

# What is open


@pytest.mark.parametrize("status", [Status.PROCESSING, Status.PENDING])
@pytest.mark.parametrize(
    ("at_gateway", "becomes", "held"),
    [
        (GatewayStatus.SUCCEEDED, Status.SUCCEEDED, 100),
        (GatewayStatus.FAILED, Status.FAILED, 0),
    ],
)
def test_an_open_refund_becomes_what_the_gateway_shows(
    world: World, status: Status, at_gateway: GatewayStatus, becomes: Status, held: int
) -> None:
    opened(world, status=status)
    world.gateway.refunds.append(shown(amount_minor=100, status=at_gateway))
    summary = run(world)

    assert world.stored().status is becomes
    assert world.held() == held
    assert (summary.open.settled, summary.open.still_open, summary.failed) == (1, 0, 0)
    assert world.gateway.orders == []


def test_a_refund_that_the_gateway_never_saw_is_called_with_its_own_key(world: World) -> None:
    opened(world)
    run(world)

    assert world.stored().status is Status.SUCCEEDED
    assert [order.refund_id for order in world.gateway.orders] == ["refund-1"]


def test_what_is_still_pending_is_looked_at_later_and_its_age_told(world: World) -> None:
    opened(world, status=Status.PENDING, gateway_refund_id="gw-1")
    world.gateway.refunds.append(shown(amount_minor=100, status=GatewayStatus.PENDING))
    summary = run(world)

    check_at = world.stored().check_at
    assert check_at is not None
    assert from_rfc3339(check_at) > NOW
    assert (summary.open.still_open, summary.open.oldest_open_seconds) == (1, 3600)
    assert run(world).open.still_open == 0


def test_what_is_not_yet_due_is_left_alone(world: World) -> None:
    opened(world, check_at=rfc3339(NOW + timedelta(microseconds=1)))
    run(world)

    assert world.stored().status is Status.PROCESSING
    assert "find_refunds" not in world.gateway.calls


def test_an_attempt_under_its_lease_is_not_disturbed(world: World) -> None:
    there = opened(world, lease_until=rfc3339(NOW + timedelta(seconds=5)))
    assert run(world).open.still_open == 1

    now = world.stored()
    assert (now.attempt_token, now.lease_until) == (there.attempt_token, there.lease_until)
    assert now.check_at is not None
    assert now.check_at > rfc3339(NOW)
    assert "find_refunds" not in world.gateway.calls


def test_a_refund_in_review_is_only_counted(world: World) -> None:
    opened(world, status=Status.IN_REVIEW)
    world.gateway.refunds.append(shown(amount_minor=100))
    summary = run(world)

    assert world.stored().status is Status.IN_REVIEW
    assert (summary.open.in_review, summary.open.oldest_open_seconds) == (1, 3600)
    assert world.held() == 100


@pytest.mark.parametrize("status", [Status.FAILED, Status.REVERSED, Status.REJECTED])
def test_what_a_crash_left_reserved_on_an_ended_refund_is_released(
    world: World, status: Status
) -> None:
    opened(world, status=status)
    summary = run(world)

    assert world.held() == 0
    assert world.stored().open_shard is None
    assert summary.open.settled == 1
    assert world.stored().version == 1


def test_an_index_that_is_behind_does_no_harm(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = world.put(refund(status=Status.SUCCEEDED))
    due = iter([[Due(HOUR_AGO, "refund-1", "0"), Due(HOUR_AGO, "gone", "0")]])
    monkeypatch.setattr(world.refunds, "due_page", lambda *args, **more: next(due, []))
    summary = run(world)

    assert world.stored() == done
    assert (summary.open.settled, summary.failed) == (0, 0)


def test_one_refund_that_cant_be_looked_at_does_not_hold_up_the_others(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(world, "bad")
    opened(world, "good")
    take_over = world.settler.take_over

    def sometimes(there: Refund, deadline: Any) -> Any:
        if there.refund_id == "bad":
            raise RuntimeError("x")
        return take_over(there, deadline)

    monkeypatch.setattr(world.settler, "take_over", sometimes)
    summary = run(world)

    assert world.stored("good").status is Status.SUCCEEDED
    assert (summary.failed, names(summary)) == (1, ["RuntimeError"])
    assert summary.open.unreadable == 0
    # And not first in line the next time either.
    check_at = world.stored("bad").check_at
    assert check_at is not None
    assert from_rfc3339(check_at) > NOW


def test_a_refund_that_cant_even_be_put_off_is_counted_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("x")

    opened(world, "bad")
    opened(world, "good")
    monkeypatch.setattr(world.settler.recorder, "recheck", broken)
    monkeypatch.setattr(world.settler, "ask_then_call", broken)
    summary = run(world)

    assert names(summary) == ["RuntimeError", "RuntimeError"]


def test_a_gateway_that_is_down_leaves_everything_open_and_reserved(world: World) -> None:
    opened(world)
    world.gateway.down = True
    summary = run(world)

    assert (world.stored().status, world.held()) == (Status.PROCESSING, 100)
    assert world.stored().open_shard is not None
    assert summary.open.still_open == 1
    assert "gateway_unavailable" in names(summary)  # the sweep


def test_a_refund_whose_gateway_is_known_to_be_down_is_put_off_without_a_call(
    world: World,
) -> None:
    # A timeout for each of thousands would use up the time of the other gateways' refunds.
    opened(world)
    world.gateway.calls.clear()
    summary = world.reconciler.run(world.deadline(240), down=["flair"])

    check_at = world.stored().check_at
    assert check_at is not None
    assert from_rfc3339(check_at) > NOW
    assert world.held() == 100
    assert "find_refunds" not in world.gateway.calls
    assert (summary.open.still_open, summary.open.oldest_open_seconds) == (1, 3600)


def test_the_others_refunds_are_settled_all_the_same(world: World) -> None:
    opened(world)
    world.reconciler.run(world.deadline(240), down=["acme"])

    assert world.stored().status is Status.SUCCEEDED


# One refund out of turn


def test_a_refund_that_somebody_named_is_settled_by_what_the_gateway_says(world: World) -> None:
    opened(world, check_at=rfc3339(NOW + timedelta(hours=1)))
    world.gateway.refunds.append(shown(amount_minor=100))

    there = world.reconciler.look_at("refund-1", world.deadline())
    assert there is not None
    assert there.status is Status.SUCCEEDED


def test_a_paid_refund_that_somebody_named_is_reversed_only_if_the_gateway_says_so(
    world: World,
) -> None:
    paid(world)
    world.gateway.refunds.append(shown())
    assert world.reconciler.look_at("refund-1", world.deadline()) == world.stored()
    assert world.stored().status is Status.SUCCEEDED

    world.gateway.refunds[0] = bounced()
    there = world.reconciler.look_at("refund-1", world.deadline())
    assert there is not None
    assert there.status is Status.REVERSED


@pytest.mark.parametrize(
    "changes",
    [
        {"lease_until": rfc3339(NOW + timedelta(seconds=5))},
        {"status": Status.IN_REVIEW},
        {"open_shard": None, "open_since": None, "check_at": None},
    ],
    ids=["under its lease", "in review", "its message will come"],
)
def test_hearsay_changes_nothing_of_what_others_will_settle(
    world: World, changes: dict[str, Any]
) -> None:
    there = opened(world, **changes)

    assert world.reconciler.look_at("refund-1", world.deadline()) == there
    assert world.stored() == there
    assert world.gateway.calls == []


def test_hearsay_of_an_unknown_refund_is_nothing(world: World) -> None:
    assert world.reconciler.look_at("refund-1", world.deadline()) is None


def test_a_settled_refund_and_its_duplicate_message_agree(world: World) -> None:
    opened(world, amount_minor=2500)
    run(world)

    world.processor.process(request(), world.deadline())
    assert len(world.gateway.orders) == 1
