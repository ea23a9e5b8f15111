"""After an attempt whose outcome is unknown: ask first, and only one goes on."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from tests.support.builders import NOW, refund, shown
from tests.support.settled_refunds import EXPIRED, call, is_open
from tests.support.world import World

from refunds.domain.clock import rfc3339
from refunds.domain.refund import Refund, Status
from refunds.gateways.contract import (
    Declined,
    GatewayMisconfiguredError,
    GatewayStatus,
    Misconfiguration,
)
from refunds.processing.recorder import Later, Recorded

# After an attempt whose outcome is unknown


def test_a_decline_after_an_unknown_attempt_is_checked_before_it_is_believed(
    world: World, claimed: Refund
) -> None:
    world.gateway.refunds.append(shown())
    world.gateway.answers.append(Declined("amount_exceeds_balance", "no", over_balance=True))
    call(world, claimed, called_before=True)

    assert world.stored().status is Status.SUCCEEDED
    assert world.held() == 2500


def test_a_decline_and_a_look_up_that_shows_none_fail_the_refund(
    world: World, claimed: Refund
) -> None:
    world.gateway.answers.append(Declined("payment_disputed", "no"))
    call(world, claimed, called_before=True)

    assert world.stored().status is Status.FAILED
    assert world.gateway.calls == ["create_refund", "find_refunds", "list_refunds"]
    assert world.held() == 0


@pytest.mark.parametrize(
    ("called_ago", "status"),
    [(timedelta(minutes=29), Status.PROCESSING), (timedelta(minutes=31), Status.FAILED)],
)
def test_a_gateway_that_forgets_declines_is_believed_once_no_earlier_call_can_arrive(
    world: World, called_ago: timedelta, status: Status, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world.gateway, "remembers_declines", False)
    there = world.put(refund(called_at=rfc3339(NOW - called_ago)))
    world.gateway.answers.append(Declined("payment_disputed", "no"))
    result = call(world, there, called_before=True)

    assert isinstance(result, Later) is (status is Status.PROCESSING)
    assert world.stored().status is status
    assert world.held() == (2500 if status is Status.PROCESSING else 0)


def test_a_decline_that_cant_be_checked_stays_unknown(world: World, claimed: Refund) -> None:
    world.gateway.down = True
    world.gateway.answers.append(Declined("payment_disputed", "no"))
    result = call(world, claimed, called_before=True)

    assert isinstance(result, Later)
    assert result.delay_seconds == 7
    assert world.stored().status is Status.PROCESSING
    assert is_open(world.stored())
    assert world.held() == 2500


def test_a_decline_for_the_balance_has_the_ledger_learn_why(world: World, claimed: Refund) -> None:
    world.gateway.refunds.append(shown(refund_id="theirs", amount_minor=9000))
    world.gateway.answers.append(Declined("amount_exceeds_balance", "no", over_balance=True))
    call(world, claimed)

    assert world.stored().status is Status.FAILED
    assert (world.held(), world.remaining()) == (0, 1000)


def test_the_refund_has_failed_even_if_the_ledger_cant_learn_why(
    world: World, claimed: Refund
) -> None:
    world.gateway.down = True
    world.gateway.answers.append(Declined("amount_exceeds_balance", "no", over_balance=True))

    assert isinstance(call(world, claimed), Recorded)
    assert world.stored().status is Status.FAILED
    assert world.held() == 0


def test_another_decline_does_not_recount(world: World, claimed: Refund) -> None:
    world.gateway.answers.append(Declined("payment_disputed", "no"))
    call(world, claimed)

    assert world.gateway.calls == ["create_refund"]


def test_a_claim_that_was_asked_about_first_is_asked_about_again_after_a_decline(
    world: World, claimed: Refund
) -> None:
    """An attempt before this one may have called, and the gateway showed nothing of it yet."""
    world.gateway.answers.append(Declined("payment_disputed", "no"))

    def shown_by_now(name: str) -> None:
        if name == "create_refund":
            world.gateway.refunds.append(shown())

    world.gateway.on_call = shown_by_now
    world.settler.ask_then_call(claimed, world.deadline())

    assert world.gateway.calls == ["find_refunds", "create_refund", "find_refunds"]
    assert world.stored().status is Status.SUCCEEDED


# Taking over


@pytest.fixture
def abandoned(world: World) -> Refund:
    """Its attempt ended without a word."""
    return world.put(refund(lease_until=EXPIRED))


def test_taking_over_asks_before_it_calls(world: World, abandoned: Refund) -> None:
    world.settler.take_over(abandoned, world.deadline())

    assert world.gateway.calls == ["find_refunds", "create_refund"]
    assert world.stored().status is Status.SUCCEEDED
    assert len(world.gateway.refunds) == 1


@pytest.mark.parametrize(
    ("status", "becomes", "held"),
    [
        (GatewayStatus.SUCCEEDED, Status.SUCCEEDED, 2500),
        (GatewayStatus.PENDING, Status.PENDING, 2500),
        (GatewayStatus.FAILED, Status.FAILED, 0),
    ],
)
def test_what_the_gateway_shows_is_recorded_without_a_call(
    world: World, abandoned: Refund, status: GatewayStatus, becomes: Status, held: int
) -> None:
    world.gateway.refunds.append(shown(status=status))
    world.settler.take_over(abandoned, world.deadline())

    assert world.stored().status is becomes
    assert world.gateway.orders == []
    assert world.held() == held


def test_two_refunds_of_one_id_at_the_gateway_are_for_a_person(
    world: World, abandoned: Refund
) -> None:
    world.gateway.refunds += [shown(), shown(gateway_refund_id="gw-2")]
    world.settler.take_over(abandoned, world.deadline())

    assert (world.stored().status, world.stored().failure_code) == (
        Status.IN_REVIEW,
        "gateway_duplicate",
    )
    assert world.held() == 2500


def test_while_the_gateway_cant_be_asked_it_isnt_called_either(
    world: World, abandoned: Refund
) -> None:
    world.gateway.down = True
    result = world.settler.take_over(abandoned, world.deadline())

    assert isinstance(result, Later)
    assert result.delay_seconds == 7
    assert world.gateway.orders == []
    there = world.stored()
    assert (there.status, there.lease_until) == (Status.PROCESSING, None)
    assert is_open(there)


def test_taking_over_puts_the_refund_into_the_index_under_a_new_token_and_lease(
    world: World, abandoned: Refund
) -> None:
    during: list[Refund] = []
    world.gateway.on_call = lambda name: during.append(world.stored())
    world.settler.take_over(abandoned, world.deadline())

    taken = during[0]
    assert taken.attempt_token not in (None, abandoned.attempt_token)
    assert taken.version == 1
    assert is_open(taken)
    # To just past the invocation's end: 59 s, and 10 for clocks.
    assert taken.lease_until == rfc3339(NOW + timedelta(seconds=69))


def test_only_one_of_two_attempts_takes_over(world: World, abandoned: Refund) -> None:
    world.refunds.save(abandoned, replace(abandoned, attempt_token="faster"))  # noqa: S106
    result = world.settler.take_over(abandoned, world.deadline())

    assert isinstance(result, Later)
    assert world.gateway.calls == []


def test_an_attempt_that_was_taken_over_records_nothing(world: World, claimed: Refund) -> None:
    def taken_over(name: str) -> None:
        world.refunds.save(world.stored(), replace(world.stored(), attempt_token="them"))  # noqa: S106

    world.gateway.on_call = taken_over
    result = call(world, claimed)

    assert isinstance(result, Later)
    assert world.stored().status is Status.PROCESSING
    assert world.held() == 2500


@pytest.mark.parametrize(
    ("lease_until", "left"),
    [(None, 0.0), (EXPIRED, 0.0), (rfc3339(NOW), 0.0), (rfc3339(NOW + timedelta(seconds=7)), 7.0)],
)
def test_a_lease_runs_until_its_instant(world: World, lease_until: str | None, left: float) -> None:
    assert world.settler.lease_left_seconds(refund(lease_until=lease_until)) == left


def test_a_review_names_the_first_three_refunds_of_an_id(world: World, abandoned: Refund) -> None:
    world.gateway.refunds += [shown(gateway_refund_id=f"gw-{n}") for n in (1, 2, 3, 4)]
    world.settler.take_over(abandoned, world.deadline())

    said = world.stored().failure_message
    assert said is not None
    assert "the gateway shows 4 refunds" in said
    assert [n for n in (1, 2, 3, 4) if f"gw-{n} 25.00 USD" in said] == [1, 2, 3]
    assert world.stored().gateway_refund_id == "gw-1"


def test_a_look_up_that_a_person_must_put_right_says_what(
    world: World, abandoned: Refund, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object) -> None:
        raise GatewayMisconfiguredError(Misconfiguration.KEY_REFUSED)

    monkeypatch.setattr(world.gateway, "find_refunds", refuse)
    result = world.settler.take_over(abandoned, world.deadline())

    assert isinstance(result, Later)
    assert result.misconfiguration == Misconfiguration.KEY_REFUSED.value
    assert is_open(world.stored())
