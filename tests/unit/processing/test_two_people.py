"""Above an amount two people decide a review: one proposes, another confirms."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from tests.support.builders import person, refund, shown
from tests.support.people import session_arn
from tests.support.world import World

from refunds.audit.outcome_events import outcome_event
from refunds.domain.audit_entry import audit_entry
from refunds.domain.identity import Identity
from refunds.domain.refund import IllegalTransitionError, Refund, Status, proposed_version
from refunds.gateways.contract import GatewayStatus
from refunds.processing.review import AgainstGatewayError, Reasons, Reviewer, ReviewError

ADA, EVE = person("ada"), person("eve")


@pytest.fixture(autouse=True)
def in_review(world: World) -> None:
    world.put(refund(status=Status.IN_REVIEW))


def decide(
    world: World,
    who: Identity,
    to: Status = Status.FAILED,
    *,
    above: Mapping[str, int] | None = {"USD": 2499},
    against_gateway: bool = False,
) -> Refund:
    reviewer = Reviewer(world.refunds, world.settler, world.ledger, above)
    return reviewer.decide(
        "refund-1",
        to,
        Reasons(who, "seen", "T-7"),
        world.deadline(60),
        against_gateway=against_gateway,
    )


def test_the_first_decision_is_only_proposed_and_audited(world: World) -> None:
    proposed = decide(world, ADA)

    assert proposed == world.stored()
    assert (proposed.status, proposed.version, proposed.review) == (Status.IN_REVIEW, 2, None)
    assert proposed.proposal == {
        "by": session_arn("ada"),
        "why": "seen",
        "evidence": "T-7",
        "gateway": "flair shows no such refund",
        "balance": "100.00 USD captured, 75.00 USD still refundable, 25.00 USD reserved for this "
        "refund",
        "decision": "not_paid",
        "at": proposed.updated_at,
    }
    entry = audit_entry(proposed.item())
    assert (entry["event"], entry["status"]) == ("refund.decision_proposed", "IN_REVIEW")
    assert (
        entry["previous_hash"] == audit_entry(refund(status=Status.IN_REVIEW).item())["entry_hash"]
    )
    assert entry["details"]["proposal"]["by"] == session_arn("ada")
    assert outcome_event(entry) is None


def test_another_person_confirms_and_both_are_named(world: World) -> None:
    decide(world, ADA)
    decided = decide(world, EVE)

    assert (decided.status, decided.version) == (Status.FAILED, 3)
    assert decided.review is not None
    assert decided.review["by"] == session_arn("eve")
    assert decided.review["proposed_by"] == session_arn("ada")
    assert audit_entry(decided.item())["event"] == "refund.failed"


@pytest.mark.parametrize(
    "again",
    [
        ADA,
        person("ada", "Admin"),
        person("ADA"),
        Identity("arn:aws:iam::123456789012:user/ada", "123456789012", "AIDAEXAMPLE"),
    ],
    ids=lambda identity: identity.arn,
)
def test_the_first_person_is_not_the_second(world: World, again: Identity) -> None:
    decide(world, ADA)
    with pytest.raises(ReviewError, match="another person must confirm"):
        decide(world, again)
    assert (world.stored().status, world.stored().version) == (Status.IN_REVIEW, 2)


def test_a_note_makes_nobody_another_person(world: World) -> None:
    decide(world, ADA)
    with pytest.raises(ReviewError, match="another person"):
        decide(world, Identity(ADA.arn, ADA.account, ADA.user_id, "eve"))


def test_a_different_decision_replaces_the_proposal(world: World) -> None:
    world.gateway.refunds.append(shown())
    decide(world, ADA, against_gateway=True)
    replaced = decide(world, EVE, Status.SUCCEEDED)
    assert replaced.status is Status.IN_REVIEW
    assert replaced.proposal is not None
    assert (replaced.proposal["by"], replaced.proposal["decision"]) == (EVE.arn, "paid")

    with pytest.raises(ReviewError, match="another person"):
        decide(world, EVE, Status.SUCCEEDED)
    assert decide(world, ADA, Status.SUCCEEDED).status is Status.SUCCEEDED


def test_to_decide_against_the_gateway_is_another_decision(world: World) -> None:
    decide(world, ADA)
    world.gateway.refunds.append(shown(status=GatewayStatus.SUCCEEDED))
    with pytest.raises(AgainstGatewayError):
        decide(world, EVE)
    replaced = decide(world, EVE, against_gateway=True)
    assert replaced.status is Status.IN_REVIEW
    assert replaced.proposal is not None
    assert replaced.proposal["against_gateway"] == "true"
    assert decide(world, ADA, against_gateway=True).status is Status.FAILED


@pytest.mark.parametrize(
    "above", [None, {"USD": 2500}, {"USD": 9999, "EUR": 0}], ids=["off", "not above", "below"]
)
def test_at_or_below_the_amount_one_person_decides(
    world: World, above: Mapping[str, int] | None
) -> None:
    assert decide(world, ADA, above=above).status is Status.FAILED


def test_a_currency_that_is_not_named_needs_two(world: World) -> None:
    assert decide(world, ADA, above={"EUR": 10**9}).status is Status.IN_REVIEW


def test_a_proposal_about_a_refund_that_changed_meanwhile_is_refused(world: World) -> None:
    stale = world.stored()
    world.settler.recorder.finish(stale, Status.FAILED)
    assert world.settler.recorder.propose(stale, {"by": ADA.arn}) is None


def test_only_what_is_in_review_is_proposed() -> None:
    with pytest.raises(IllegalTransitionError):
        proposed_version(refund(), {"by": ADA.arn}, at="now", by=ADA.arn, previous_hash="0")
