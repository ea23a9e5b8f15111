"""The gateway's answer to a call decides a refund's outcome, and nothing else does."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from tests.support.builders import NOW, refund, shown
from tests.support.reconciler_runs import opened
from tests.support.settled_refunds import EXPIRED, call, is_closed, is_open
from tests.support.world import World

from refunds.domain.clock import rfc3339
from refunds.domain.refund import Refund, Status
from refunds.gateways.contract import (
    Accepted,
    Answer,
    Declined,
    GatewayStatus,
    KeyReused,
    KeyTooOld,
    Misconfiguration,
    Misconfigured,
    Retryable,
    Unknown,
)
from refunds.processing.evidence import FINISH_SECONDS
from refunds.processing.recorder import Later, Recorded
from refunds.tables.refunds import shard_of

# The call


def test_a_refund_that_the_gateway_paid_succeeds_and_keeps_its_money(
    world: World, claimed: Refund
) -> None:
    result = call(world, claimed)

    there = world.stored()
    assert result == Recorded(there)
    assert (there.status, there.gateway_refund_id, there.version) == (
        Status.SUCCEEDED,
        "gw-1",
        2,
    )
    assert is_closed(there)
    assert there.lease_until is None
    assert (world.held(), world.remaining()) == (2500, 7500)


def test_the_gateway_is_asked_for_exactly_what_was_claimed(world: World, claimed: Refund) -> None:
    call(world, claimed)

    (order,) = world.gateway.orders
    assert (order.refund_id, order.transaction_id) == ("refund-1", "payment-1")
    assert (order.amount_minor, order.currency) == (2500, "USD")
    assert order.reason == "requested_by_customer"


def test_a_pending_refund_stays_open_and_keeps_its_money(world: World, claimed: Refund) -> None:
    world.gateway.answers.append(Accepted(shown(status=GatewayStatus.PENDING)))
    call(world, claimed)

    there = world.stored()
    assert (there.status, there.gateway_refund_id) == (Status.PENDING, "gw-1")
    assert is_open(there)
    assert there.lease_until is None
    assert world.held() == 2500


def test_a_decline_fails_the_refund_and_gives_its_money_back(world: World, claimed: Refund) -> None:
    world.gateway.answers.append(Declined("payment_disputed", "the payment is disputed"))
    call(world, claimed)

    there = world.stored()
    assert (there.status, there.failure_code) == (Status.FAILED, "payment_disputed")
    assert there.failure_message == "the payment is disputed"
    assert is_closed(there)
    assert (world.held(), world.remaining()) == (0, 10_000)
    assert "find_refunds" not in world.gateway.calls


def test_accepted_but_failed_at_once_is_a_failure(world: World, claimed: Refund) -> None:
    world.gateway.answers.append(
        Accepted(shown(status=GatewayStatus.FAILED, failure_code="expired_card"))
    )
    call(world, claimed)

    assert (world.stored().status, world.stored().failure_code) == (Status.FAILED, "expired_card")
    assert world.held() == 0


def test_a_failure_without_a_code_still_has_one(world: World, claimed: Refund) -> None:
    world.gateway.answers.append(Accepted(shown(status=GatewayStatus.FAILED)))
    call(world, claimed)

    assert world.stored().failure_code == "failed"


@pytest.mark.parametrize(
    ("answer", "delay_seconds"),
    [(Unknown("HTTP 500"), None), (Retryable("not sent"), None), (Retryable("HTTP 429", 33), 33)],
    ids=str,
)
def test_without_an_outcome_the_refund_stays_open_and_keeps_its_money(
    world: World, claimed: Refund, answer: Answer, delay_seconds: float | None
) -> None:
    world.gateway.answers.append(answer)
    result = call(world, claimed)

    there = world.stored()
    assert isinstance(result, Later)
    assert result.delay_seconds == delay_seconds
    assert (there.status, there.version) == (Status.PROCESSING, 1)
    assert is_open(there)
    assert there.lease_until is None
    assert world.held() == 2500


@pytest.mark.parametrize(
    ("answer", "code"),
    [(KeyReused(), "idempotency_key_reused"), (KeyTooOld(), "idempotency_key_expired")],
)
def test_what_cant_be_settled_safely_is_for_a_person_with_the_money_kept(
    world: World, claimed: Refund, answer: Answer, code: str
) -> None:
    world.gateway.answers.append(answer)
    result = call(world, claimed)

    there = world.stored()
    assert isinstance(result, Recorded)
    assert (there.status, there.failure_code) == (Status.IN_REVIEW, code)
    assert is_open(there)
    assert world.held() == 2500


@pytest.mark.parametrize(
    "lie",
    [
        {"amount_minor": 2501},
        {"amount_minor": 2499},
        {"currency": "EUR"},
        {"transaction_id": "payment-2"},
        {"refund_id": "refund-2"},
    ],
    ids=str,
)
@pytest.mark.parametrize("status", GatewayStatus)
def test_an_answer_for_another_refund_is_for_a_person(
    world: World, claimed: Refund, lie: dict[str, Any], status: GatewayStatus
) -> None:
    world.gateway.answers.append(Accepted(shown(status=status, **lie)))
    call(world, claimed)

    assert (world.stored().status, world.stored().failure_code) == (
        Status.IN_REVIEW,
        "gateway_mismatch",
    )
    assert world.held() == 2500


def test_without_time_for_a_call_none_is_begun(world: World, claimed: Refund) -> None:
    # 5 s are kept for recording the answer, and a call takes 2 at least.
    result = world.settler.call(claimed, world.deadline(6.9))

    assert isinstance(result, Later)
    assert world.gateway.orders == []
    assert is_open(world.stored())
    world.settler.call(world.stored(), world.deadline(7.1))
    assert len(world.gateway.orders) == 1


@pytest.mark.parametrize(("seconds", "calls"), [(0.7, 0), (0.8, 1), (1.4, 1)])
def test_a_gateway_with_a_short_timeout_is_called_while_half_of_it_is_left(
    world: World, claimed: Refund, seconds: float, calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world.gateway, "timeout_seconds", 1.5)
    world.settler.call(claimed, world.deadline(FINISH_SECONDS + seconds))

    assert len(world.gateway.orders) == calls


def test_a_call_leaves_time_to_record_its_answer(world: World, claimed: Refund) -> None:
    seen: list[float] = []
    create = world.gateway.create_refund

    def measured(order: Any, deadline: Any, *, not_after: Any) -> Answer:
        seen.append(deadline.left_seconds())
        return create(order, deadline, not_after=not_after)

    world.gateway.create_refund = measured  # type: ignore[method-assign]
    world.settler.call(claimed, world.deadline(12))
    assert seen == [7]


def test_the_key_is_never_sent_when_it_may_be_forgotten_before_it_arrives(
    world: World, claimed: Refund
) -> None:
    call(world, claimed)

    # 24 h, less the call's 15 s, the invocation's 59 s and 10 min for clocks.
    assert world.gateway.not_after == NOW + timedelta(hours=24, seconds=-15 - 59, minutes=-10)


def test_the_keys_age_counts_from_its_first_use_not_from_the_latest_attempt(world: World) -> None:
    used = NOW - timedelta(hours=20)
    call(world, world.put(refund(key_used_at=rfc3339(used))), called_before=True)

    assert world.gateway.not_after == used + timedelta(hours=24, seconds=-74, minutes=-10)


def test_without_its_own_gateway_a_refund_waits_and_keeps_its_money(world: World) -> None:
    # Another gateway could not tell what became of it.
    there = world.put(refund(gateway="gone", lease_until=EXPIRED))

    assert isinstance(call(world, there), Later)
    assert isinstance(world.settler.take_over(world.stored(), world.deadline()), Later)
    assert world.gateway.calls == []
    assert is_open(world.stored())
    assert (world.stored().status, world.held()) == (Status.PROCESSING, 2500)


def test_a_misconfiguration_is_named_and_the_refund_stays_open(
    world: World, claimed: Refund
) -> None:
    world.gateway.answers.append(Misconfigured(Misconfiguration.KEY_REFUSED))
    result = call(world, claimed)

    assert isinstance(result, Later)
    assert result.misconfiguration == Misconfiguration.KEY_REFUSED.value
    assert is_open(world.stored())
    assert (world.stored().status, world.held()) == (Status.PROCESSING, 2500)


# Giving back


def test_a_decline_is_in_the_index_before_its_money_is_released(
    world: World, claimed: Refund
) -> None:
    release = world.ledger.release
    seen: list[bool] = []

    def watched(transaction_id: str, refund_id: str, *, back_minor: int | None = None) -> bool:
        seen.append(is_open(world.stored()))
        return release(transaction_id, refund_id, back_minor=back_minor)

    world.ledger.release = watched  # type: ignore[method-assign]
    world.gateway.answers.append(Declined("payment_disputed", "the payment is disputed"))
    call(world, claimed)

    assert seen == [True]
    assert is_closed(world.stored())


def test_what_ended_without_money_is_released_before_it_leaves_the_index(world: World) -> None:
    there = world.put(
        refund(
            status=Status.FAILED,
            open_since=rfc3339(NOW),
            open_shard=shard_of("refund-1"),
            check_at=rfc3339(NOW),
        )
    )
    release = world.ledger.release
    seen: list[bool] = []

    def watched(transaction_id: str, refund_id: str, *, back_minor: int | None = None) -> bool:
        seen.append(is_open(world.stored()))
        return release(transaction_id, refund_id, back_minor=back_minor)

    world.ledger.release = watched  # type: ignore[method-assign]
    world.settler.recorder.give_back(there)

    assert seen == [True]
    assert is_closed(world.stored())
    assert world.held() == 0


def test_a_refund_that_is_left_open_is_looked_at_later(world: World) -> None:
    there = opened(world)
    world.gateway.down = True
    assert isinstance(world.settler.take_over(there, world.deadline()), Later)
    left = world.stored()
    assert left.open_since == there.open_since
    assert there.check_at is not None
    assert left.check_at is not None
    assert left.check_at > there.check_at
