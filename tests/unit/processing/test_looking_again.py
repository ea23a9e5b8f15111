"""A refund in review ends without a person only on the gateway's clear evidence."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from tests.support.builders import NOW, refund, shown
from tests.support.settled_refunds import is_open
from tests.support.world import World

from refunds.domain.clock import rfc3339
from refunds.domain.refund import Refund, Status
from refunds.gateways.contract import GatewayRefund, GatewayStatus, GatewayUnavailableError
from refunds.processing.balance import Balance, BalanceContendedError
from refunds.processing.limit_checks import CountersContendedError
from refunds.tables.refunds import shard_of


@pytest.fixture
def in_review(world: World) -> Refund:
    return world.put(refund(status=Status.IN_REVIEW, failure_code="gateway_forgot", version=2))


@pytest.mark.parametrize(
    ("there", "status"),
    [
        ((shown(),), Status.SUCCEEDED),
        ((shown(status=GatewayStatus.FAILED),), Status.FAILED),
        ((), Status.IN_REVIEW),
        ((shown(status=GatewayStatus.PENDING),), Status.IN_REVIEW),
        ((shown(amount_minor=2501),), Status.IN_REVIEW),
        ((shown(currency="EUR"),), Status.IN_REVIEW),
        ((shown(transaction_id="payment-2"),), Status.IN_REVIEW),
        ((shown(), shown(gateway_refund_id="gw-2")), Status.IN_REVIEW),
    ],
    ids=[
        "paid",
        "failed",
        "nothing shown",
        "pending",
        "another amount",
        "another currency",
        "another payment",
        "two refunds",
    ],
)
def test_a_review_ends_by_one_refund_that_is_as_it_was_asked_for(
    world: World, in_review: Refund, there: Sequence[GatewayRefund], status: Status
) -> None:
    world.gateway.refunds.extend(there)

    result = world.settler.look_again(in_review, world.deadline())

    assert world.stored().status is status
    assert result.refund.status is status  # type: ignore[union-attr]
    assert (world.stored() == in_review) is (status is Status.IN_REVIEW)


@pytest.mark.parametrize(
    ("there", "status", "code"),
    [
        ((shown(),), Status.SUCCEEDED, None),
        ((), Status.IN_REVIEW, "record_lost"),
        ((shown(amount_minor=2501),), Status.IN_REVIEW, "gateway_mismatch"),
        ((shown(), shown(gateway_refund_id="gw-2")), Status.IN_REVIEW, "gateway_duplicate"),
    ],
    ids=["paid", "nothing shown", "another amount", "two refunds"],
)
def test_a_refund_that_had_ended_is_settled_by_what_the_gateway_shows_and_never_called(
    world: World,
    claimed: Refund,
    there: Sequence[GatewayRefund],
    status: Status,
    code: str | None,
) -> None:
    world.gateway.refunds.extend(there)

    result = world.settler.ask_then_review(claimed, world.deadline())

    assert result.refund == world.stored()  # type: ignore[union-attr]
    assert (world.stored().status, world.stored().failure_code) == (status, code)
    assert "create_refund" not in world.gateway.calls
    assert world.held() == 2500


def test_while_the_gateway_is_down_a_refund_that_had_ended_waits_in_the_index(
    world: World, claimed: Refund
) -> None:
    world.gateway.down = True

    result = world.settler.ask_then_review(claimed, world.deadline())

    assert (result.reason, result.delay_seconds) == ("look-up: HTTP 503", 7.0)  # type: ignore[union-attr]
    assert is_open(world.stored())
    assert world.stored().lease_until is None
    with pytest.raises(GatewayUnavailableError):
        world.settler.look_again(world.stored(), world.deadline())


def test_what_the_gateway_moved_otherwise_is_reviewed_only_once_it_is_counted(
    world: World, claimed: Refund, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.gateway.refunds.append(shown(amount_minor=2501))

    def contended(*args: object, **options: object) -> None:
        raise BalanceContendedError

    def down(*args: object, **options: object) -> None:
        raise GatewayUnavailableError("HTTP 503", 7.0)

    for fails, reason in (
        (contended, "many refunds of this transaction at once"),
        (down, "look-up: HTTP 503"),
    ):
        with monkeypatch.context() as patched:
            patched.setattr(Balance, "count", fails)
            result = world.settler.take_over(world.stored(), world.deadline())
        assert result.reason == reason  # type: ignore[union-attr]
        assert is_open(world.stored())
        assert (world.stored().status, world.held()) == (Status.PROCESSING, 2500)
    world.settler.take_over(world.stored(), world.deadline())
    assert world.stored().status is Status.IN_REVIEW


def test_what_the_gateway_paid_after_a_review_is_no_failure_any_more(
    world: World, in_review: Refund
) -> None:
    world.gateway.refunds.append(shown())
    world.settler.look_again(in_review, world.deadline())

    there = world.stored()
    assert (there.status, there.failure_code, there.failure_message) == (
        Status.SUCCEEDED,
        None,
        None,
    )


@pytest.mark.parametrize(
    ("before", "now", "kept"),
    [(None, "req_1", "req_1"), ("req_0", None, "req_0"), ("req_0", "req_1", "req_1")],
)
def test_the_gateways_trace_is_kept_until_it_names_another(
    world: World, before: str | None, now: str | None, kept: str
) -> None:
    there = world.put(refund(status=Status.PENDING, gateway_trace=before, lease_until=None))
    world.gateway.refunds.append(shown(trace=now))
    world.settler.ask_then_call(there, world.deadline())

    assert (world.stored().status, world.stored().gateway_trace) == (Status.SUCCEEDED, kept)


def test_a_corrected_refund_that_is_closed_stays_as_it_is(world: World) -> None:
    there = world.put(refund(status=Status.SUCCEEDED, lease_until=None))

    assert world.settler.recorder.hold_corrected(there) == there
    assert (world.stored(), world.held()) == (there, 2500)


@pytest.mark.parametrize("seen_paid", [True, False])
def test_what_is_seen_paid_or_not_given_back_to_its_limits_stays_open(
    world: World, seen_paid: bool
) -> None:
    def contended(refund: Refund) -> None:
        raise CountersContendedError("user")

    recorder = world.settler.recorder
    recorder._give_back_share = contended
    failed = refund(status=Status.FAILED, seen_paid_at=rfc3339(NOW) if seen_paid else None)
    there = world.put(recorder.opened(failed))

    assert recorder.give_back(there).refund == there
    assert world.stored() == there
    assert world.held() == 0


@pytest.mark.parametrize(("kept_minor", "remaining"), [(None, 10_000), (1000, 9000), (3000, 7500)])
def test_of_a_failed_refund_comes_back_what_the_gateway_did_not_keep(
    world: World, kept_minor: int | None, remaining: int
) -> None:
    failed = refund(status=Status.FAILED, kept_minor=kept_minor, lease_until=None)
    there = world.put(world.settler.recorder.opened(failed))
    world.settler.recorder.give_back(there)

    assert (world.held(), world.remaining()) == (0, remaining)


def test_a_correction_is_looked_at_later_while_an_old_worker_may_release_its_money(
    world: World,
) -> None:
    corrected = refund(status=Status.SUCCEEDED, review={"decision": "SUCCEEDED"}, lease_until=None)
    there = world.put(world.settler.recorder.opened(corrected))
    world.clock.advance(minutes=10)
    left = world.settler.recorder.hold_corrected(there)

    assert left == world.stored()
    assert left.check_at is not None
    assert left.check_at > rfc3339(world.clock.now())
    world.clock.advance(minutes=30)
    assert world.settler.recorder.hold_corrected(left).open_shard is None


def test_a_refund_that_turns_out_to_be_paid_is_no_contradiction_any_more(world: World) -> None:
    failed = refund(
        status=Status.FAILED,
        lease_until=None,
        seen_paid_at=rfc3339(NOW),
        open_since=rfc3339(NOW),
        open_shard=shard_of("refund-1"),
        check_at=rfc3339(NOW),
    )
    there = world.put(failed)
    world.clock.advance(days=3)
    world.settler.recorder.finish(there, Status.SUCCEEDED, review={"decision": "SUCCEEDED"})

    corrected = world.stored()
    assert (corrected.status, corrected.seen_paid_at) == (Status.SUCCEEDED, None)
    assert corrected.open_since == rfc3339(world.clock.now())
    assert is_open(corrected)
