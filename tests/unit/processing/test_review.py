"""A person's decision beside what the gateway shows: what it frees, what it keeps, what it says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from tests.support.builders import person, refund, shown
from tests.support.world import World

from refunds.domain.refund import Refund, Status
from refunds.gateways.contract import GatewayRefund, GatewayStatus
from refunds.processing.review import (
    AgainstGatewayError,
    Reasons,
    Reviewer,
    ReviewError,
    describe_balance,
    describe_shown,
)

REASONS = Reasons(person("ada"), "seen", "T-7")


def reviewer(world: World, above: dict[str, int] | None = None) -> Reviewer:
    return Reviewer(world.refunds, world.settler, world.ledger, above)


def decide(
    world: World,
    to: Status,
    *,
    above: dict[str, int] | None = None,
    against_gateway: bool = False,
) -> Refund:
    return reviewer(world, above).decide(
        "refund-1", to, REASONS, world.deadline(60), against_gateway=against_gateway
    )


@pytest.fixture
def in_review(world: World) -> None:
    world.put(refund(status=Status.IN_REVIEW))


@pytest.mark.usefixtures("in_review")
@pytest.mark.parametrize(
    "to", [each for each in Status if each not in (Status.SUCCEEDED, Status.FAILED)]
)
def test_a_review_has_two_ends(world: World, to: Status) -> None:
    with pytest.raises(ReviewError, match="ends as SUCCEEDED or FAILED"):
        decide(world, to)


@pytest.mark.parametrize("status", [each for each in Status if each is not Status.IN_REVIEW])
def test_only_a_refund_in_review_is_decided(world: World, status: Status) -> None:
    world.put(refund(status=status))
    with pytest.raises(ReviewError, match=f"refund-1 is {status}; only refunds IN_REVIEW"):
        decide(world, Status.FAILED)


@pytest.mark.usefixtures("in_review")
def test_without_the_gateways_answer_not_paid_frees_all_of_it(world: World) -> None:
    world.gateway.down = True
    with pytest.raises(AgainstGatewayError, match="flair can't be asked"):
        decide(world, Status.FAILED)
    decided = decide(world, Status.FAILED, against_gateway=True)
    assert (decided.status, decided.kept_minor) == (Status.FAILED, None)
    assert decided.review is not None
    assert decided.review["against_gateway"] == "true"
    assert (world.held(), world.remaining()) == (0, 10_000)


@pytest.mark.usefixtures("in_review")
def test_a_refund_paid_in_parts_is_paid_and_named_by_no_single_id(world: World) -> None:
    world.gateway.refunds += [shown(amount_minor=1), shown(gateway_refund_id="gw-2")]
    decided = decide(world, Status.SUCCEEDED)
    assert (decided.status, decided.gateway_refund_id) == (Status.SUCCEEDED, None)


@pytest.mark.usefixtures("in_review")
def test_a_refund_that_nobody_shows_as_paid_is_named_by_no_id(world: World) -> None:
    world.gateway.refunds.append(shown(status=GatewayStatus.FAILED))
    with pytest.raises(AgainstGatewayError):
        decide(world, Status.SUCCEEDED)
    decided = decide(world, Status.SUCCEEDED, against_gateway=True)
    assert (decided.status, decided.gateway_refund_id) == (Status.SUCCEEDED, None)


@pytest.mark.usefixtures("in_review")
def test_a_refund_of_another_payment_is_no_proof_that_this_one_was_paid(world: World) -> None:
    world.gateway.refunds.append(shown(transaction_id="payment-2"))
    with pytest.raises(AgainstGatewayError, match="gw-1 is of another payment, payment-2"):
        decide(world, Status.SUCCEEDED)
    decided = decide(world, Status.SUCCEEDED, against_gateway=True)
    assert (decided.status, decided.gateway_refund_id) == (Status.SUCCEEDED, None)
    assert decided.review is not None
    assert decided.review["against_gateway"] == "true"


@pytest.mark.usefixtures("in_review")
def test_a_paid_refund_of_this_payment_beside_another_is_named_by_its_own_id(world: World) -> None:
    world.gateway.refunds += [
        shown(transaction_id="payment-2"),
        shown(gateway_refund_id="gw-2"),
    ]
    decided = decide(world, Status.SUCCEEDED, against_gateway=True)
    assert decided.gateway_refund_id == "gw-2"


@pytest.mark.usefixtures("in_review")
@pytest.mark.parametrize("to", [Status.SUCCEEDED, Status.FAILED])
def test_a_refund_that_is_pending_at_the_gateway_is_neither_paid_nor_not(
    world: World, to: Status
) -> None:
    world.gateway.refunds += [
        shown(),
        shown(gateway_refund_id="gw-2", status=GatewayStatus.PENDING),
    ]
    with pytest.raises(AgainstGatewayError, match="the gateway says otherwise: flair shows gw-1"):
        decide(world, to)


@pytest.mark.parametrize("to", [Status.SUCCEEDED, Status.FAILED])
def test_a_single_unit_of_a_currency_without_an_amount_needs_two(world: World, to: Status) -> None:
    world.put(refund(status=Status.IN_REVIEW, amount_minor=1))
    proposed = decide(world, to, above={"EUR": 100}, against_gateway=True)
    assert proposed.status is Status.IN_REVIEW
    assert proposed.proposal is not None


def test_a_refund_without_an_amount_needs_two(world: World) -> None:
    world.put(refund(status=Status.IN_REVIEW, amount_minor=None))
    assert decide(world, Status.FAILED, above={"USD": 10**9}).status is Status.IN_REVIEW


@pytest.mark.usefixtures("in_review")
@pytest.mark.parametrize("above", [None, {"USD": 0}])
def test_what_changed_while_a_person_decided_is_looked_at_again(
    world: World, above: dict[str, int] | None
) -> None:
    def change_meanwhile(call: str) -> None:
        there = world.stored()
        if there.status is Status.IN_REVIEW:
            world.settler.recorder.finish(there, Status.SUCCEEDED)

    world.gateway.on_call = change_meanwhile
    with pytest.raises(ReviewError, match="refund-1 was changed meanwhile"):
        decide(world, Status.FAILED, above=above)


def test_at_most_three_of_the_gateways_refunds_are_named() -> None:
    found = [shown(gateway_refund_id=f"gw-{number}") for number in range(1, 5)]
    three = "; ".join(f"gw-{number} 25.00 USD succeeded" for number in (1, 2, 3))
    assert describe_shown("flair", found) == f"flair shows {three}"
    assert describe_shown("flair", []) == "flair shows no such refund"


def test_the_balance_is_described_with_what_this_refund_holds(world: World) -> None:
    nothing = "the ledger has no balance of the payment"
    assert describe_balance(world.ledger, refund()) == nothing
    world.open_ledger("payment-1", "refund-0", 1000)
    captured = "100.00 USD captured, 90.00 USD still refundable"
    assert describe_balance(world.ledger, refund()) == (
        f"{captured}, 0.00 USD reserved for this refund"
    )
    world.ledger.release("payment-2", "refund-1")
    assert describe_balance(world.ledger, refund(transaction_id="payment-2")) == nothing


# --- Corrections ----------------------------------------------------------------------------------


def correct(world: World) -> Refund:
    return reviewer(world).correct("refund-1", REASONS, world.deadline(60))


def failed(world: World) -> None:
    world.put(refund(status=Status.FAILED), held=0)


def down(world: World) -> None:
    world.gateway.down = True


def paid_twice(world: World) -> None:
    world.gateway.refunds += [shown(), shown(gateway_refund_id="gw-2")]


@pytest.mark.parametrize(
    ("happens", "why"),
    [
        (down, "the gateway can't be asked: flair can't be asked"),
        (lambda world: None, "does not show it as paid once: flair shows no such refund"),
        (paid_twice, "does not show it as paid once: flair shows gw-1"),
    ],
)
def test_without_one_paid_refund_at_the_gateway_nothing_is_corrected(
    world: World, happens: Callable[[World], None], why: str
) -> None:
    failed(world)
    happens(world)
    with pytest.raises(ReviewError, match=why):
        correct(world)
    assert world.stored().status is Status.FAILED


def test_a_correction_names_the_gateways_refund_and_counts_the_payment(world: World) -> None:
    failed(world)
    world.gateway.refunds.append(shown())
    corrected = correct(world)
    assert corrected.status is Status.SUCCEEDED
    assert (corrected.gateway_refund_id, corrected.amount_minor) == ("gw-1", 2500)
    assert (world.held(), world.remaining()) == (2500, 7500)
    assert "list_refunds" in world.gateway.calls


def test_a_correction_of_everything_that_was_left_has_the_gateways_amount(world: World) -> None:
    world.put(refund(status=Status.FAILED, amount_minor=None))
    world.gateway.refunds.append(shown(amount_minor=700))
    assert correct(world).amount_minor == 700


@pytest.mark.parametrize(
    "there",
    [refund(status=Status.PENDING), replace(refund(), status=Status.SUCCEEDED, review=None)],
    ids=lambda there: str(there.status),
)
def test_only_what_ended_without_money_is_corrected(world: World, there: Refund) -> None:
    world.put(there)
    with pytest.raises(ReviewError, match="only refunds FAILED or REJECTED are corrected"):
        correct(world)


def test_a_payment_that_cannot_be_counted_is_said_after_the_correction(world: World) -> None:
    failed(world)
    world.gateway.refunds.append(shown())

    def fail_when_counting(call: str) -> None:
        world.gateway.down = call != "find_refunds"

    world.gateway.on_call = fail_when_counting
    with pytest.raises(ReviewError, match="corrected; its payment could not be counted"):
        correct(world)
    assert world.stored().status is Status.SUCCEEDED


@pytest.mark.usefixtures("in_review")
def test_not_paid_keeps_nothing_for_a_refund_of_another_payment(world: World) -> None:
    world.gateway.refunds.append(shown(transaction_id="payment-2"))
    decided = decide(world, Status.FAILED, against_gateway=True)
    assert (decided.status, decided.kept_minor) == (Status.FAILED, None)
    assert (world.held(), world.remaining()) == (0, 10_000)


@pytest.mark.parametrize("unseen", ["\u200b", "\u202e", "\x1b"])
def test_a_reason_that_nobody_can_see_is_none(unseen: str) -> None:
    with pytest.raises(ReviewError, match="say why"):
        Reasons(person("ada"), unseen, "T-7")


@pytest.mark.parametrize(
    "paid",
    [
        [shown(amount_minor=1)],
        [shown(), shown(gateway_refund_id="gw-2")],
    ],
    ids=["another amount", "twice"],
)
def test_only_a_decision_against_the_gateway_is_corrected_though_the_amounts_differ(
    world: World, paid: list[GatewayRefund]
) -> None:
    world.gateway.refunds += paid
    failed = world.put(refund(status=Status.FAILED, review={"why": "seen"}))
    with pytest.raises(ReviewError, match=r"another amount|not show it as paid once"):
        reviewer(world).correct("refund-1", REASONS, world.deadline(60))
    against = replace(failed, review={"why": "seen", "against_gateway": "true"})
    assert world.refunds.save(failed, against)
    corrected = reviewer(world).correct("refund-1", REASONS, world.deadline(60))
    assert (corrected.status, corrected.amount_minor) == (Status.SUCCEEDED, 2500)
    assert corrected.gateway_refund_id == ("gw-1" if len(paid) == 1 else None)


@pytest.mark.parametrize(
    "other",
    [{"transaction_id": "payment-2"}, {"status": GatewayStatus.PENDING}, {"currency": "EUR"}],
    ids=str,
)
def test_what_is_not_paid_corrects_no_decision(world: World, other: dict[str, Any]) -> None:
    world.put(refund(status=Status.FAILED, review={"against_gateway": "true"}))
    world.gateway.refunds.append(shown(**other))
    with pytest.raises(ReviewError):
        reviewer(world).correct("refund-1", REASONS, world.deadline(60))
