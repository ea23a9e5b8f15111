"""A refund in review ends without a person only on the gateway's clear evidence."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from tests.support.builders import refund, shown
from tests.support.settled_refunds import is_open
from tests.support.world import World

from refunds.domain.refund import Refund, Status
from refunds.gateways.contract import GatewayRefund, GatewayStatus, GatewayUnavailableError


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
