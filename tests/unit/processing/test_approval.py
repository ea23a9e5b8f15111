"""Who may approve or deny a refund over a limit, and what is kept of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from tests.support.builders import NOW, payment, person, refund, shown
from tests.support.world import World

from refunds.domain.clock import rfc3339
from refunds.domain.refund import Refund, Status
from refunds.gateways.contract import GatewayUnavailableError, KeyTooOld
from refunds.processing.approval import ApprovalError, Approvals, NotAllowedError

SEEN = {"evidence": "the order was cancelled", "gateway": "shows no such refund"}
EXPIRES_AT = rfc3339(NOW + timedelta(days=3))


def waiting(world: World, approvers: int = 1, **changes: Any) -> Approvals:
    awaiting = {
        "over": "per_refund",
        "limit": "100",
        "approvers": str(approvers),
        "expires_at": EXPIRES_AT,
    }
    there = refund(
        status=Status.AWAITING_APPROVAL,
        awaiting=awaiting,
        key_used_at=None,
        lease_until=None,
        requested_by="agent:7",
        sent_by="AROASHOP:shop",
    )
    world.gateway.payments["payment-1"] = payment()
    world.put(world.settler.recorder.opened(replace(there, **changes)))
    return world.protocol(world.gateway, tokens="operator").approvals


def test_an_approval_is_kept_with_who_why_and_what_was_seen(world: World) -> None:
    approved = waiting(world).approve("refund-1", person("ada"), "known for years", SEEN)

    assert approved == world.stored()
    assert (approved.status, approved.version) == (Status.PROCESSING, 2)
    assert approved.approvals == (
        {
            "decision": "approved",
            **person("ada").recorded(),
            "why": "known for years",
            **SEEN,
            "at": rfc3339(NOW),
        },
    )
    assert (approved.key_used_at, approved.lease_until) == (rfc3339(NOW), None)
    assert approved.check_at == approved.open_since == rfc3339(NOW)


@pytest.mark.parametrize(
    "changes",
    [
        {"requested_by": "agent:ada"},
        {"requested_by": "ADA@example.com"},
        {"sent_by": "AROAOTHER:ada"},
        {"sent_by": "AROAX:nobody via AROAOTHER:ada"},
        {"sent_by": "AROAOTHER:ada via AROAPROCESS:function"},
        {"approvals": ({"decision": "approved", "by": person("ada", "Admin").arn},)},
    ],
)
def test_nobody_decides_on_what_they_asked_for_sent_or_approved(
    world: World, changes: dict[str, Any]
) -> None:
    approvals = waiting(world, approvers=2, **changes)
    before = world.stored()
    with pytest.raises(NotAllowedError, match="ada"):
        approvals.approve("refund-1", person("ada"), "why not", SEEN)
    with pytest.raises(NotAllowedError, match="ada"):
        approvals.deny("refund-1", person("ada"), "why not", SEEN, world.deadline())
    assert world.stored() == before


def test_two_people_approve_above_the_second_amount(world: World) -> None:
    approvals = waiting(world, approvers=2)
    first = approvals.approve("refund-1", person("ada"), "known", SEEN)
    assert (first.status, first.version) == (Status.AWAITING_APPROVAL, 2)
    second = approvals.approve("refund-1", person("eve"), "known", SEEN)
    assert (second.status, second.version) == (Status.PROCESSING, 3)


def test_after_its_time_nobody_approves(world: World) -> None:
    approvals = waiting(world)
    world.clock.set(NOW + timedelta(days=3))
    with pytest.raises(ApprovalError, match="expired"):
        approvals.approve("refund-1", person("ada"), "known", SEEN)


@pytest.mark.parametrize(
    ("why", "seen", "text"),
    [
        (" ", SEEN, "say why"),
        ("card 4242 4242 4242 4242", SEEN, "leave card numbers out"),
        ("known", {"evidence": "4242 4242 4242 4242"}, "leave card numbers out"),
    ],
)
def test_a_reason_is_needed_and_holds_no_card_number(
    world: World, why: str, seen: dict[str, str], text: str
) -> None:
    with pytest.raises(ApprovalError, match=text):
        waiting(world).approve("refund-1", person("ada"), why, seen)


def test_only_what_waits_is_decided(world: World) -> None:
    approvals = waiting(world, status=Status.PROCESSING)
    with pytest.raises(ApprovalError, match="only refunds AWAITING_APPROVAL"):
        approvals.approve("refund-1", person("ada"), "known", SEEN)
    with pytest.raises(ApprovalError, match="there is no refund"):
        approvals.deny("refund-2", person("ada"), "known", SEEN, world.deadline())


def test_a_denial_needs_the_gateway_and_not_its_refund(world: World) -> None:
    approvals = waiting(world)
    world.gateway.refunds = [shown()]
    with pytest.raises(ApprovalError, match="was paid before"):
        approvals.deny("refund-1", person("ada"), "unknown", SEEN, world.deadline())
    assert world.stored().status is Status.AWAITING_APPROVAL


def test_a_denied_refund_is_returned_as_it_is_stored_and_holds_nothing(world: World) -> None:
    denied = waiting(world).deny("refund-1", person("ada"), "unknown", SEEN, world.deadline())

    there = world.stored()
    assert (denied.status, denied.failure_code) == (Status.REJECTED, "approval_denied")
    assert (denied.status, denied.approvals) == (there.status, there.approvals)
    assert (there.open_shard, world.held()) == (None, 0)


def test_what_was_changed_meanwhile_is_looked_at_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    approvals = waiting(world)
    monkeypatch.setattr(world.refunds.__class__, "save", lambda *args: False)
    with pytest.raises(ApprovalError, match="was changed meanwhile"):
        approvals.approve("refund-1", person("ada"), "known", SEEN)
    with pytest.raises(ApprovalError, match="was changed meanwhile"):
        approvals.deny("refund-1", person("ada"), "no", SEEN, world.deadline())


def test_a_gateway_that_does_not_answer_denies_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(*args: object) -> list[Refund]:
        raise GatewayUnavailableError("HTTP 503")

    approvals = waiting(world)
    monkeypatch.setattr(world.gateway, "find_refunds", silent)
    with pytest.raises(ApprovalError, match="try again"):
        approvals.deny("refund-1", person("ada"), "unknown", SEEN, world.deadline())


# When its time is over


def look_later(world: World, approvals: Approvals) -> Refund:
    world.clock.set(NOW + timedelta(days=3))
    return approvals.look_again(world.stored(), world.deadline())


def test_what_nobody_approved_in_time_is_rejected_and_frees_its_money(world: World) -> None:
    approvals = waiting(world)
    world.clock.advance(hours=1)
    assert approvals.look_again(world.stored(), world.deadline()).status is Status.AWAITING_APPROVAL
    check_at = world.stored().check_at
    assert check_at is not None
    assert check_at > rfc3339(world.clock.now())

    assert look_later(world, approvals).status is Status.REJECTED
    assert (world.stored().status, world.stored().failure_code) == (
        Status.REJECTED,
        "approval_expired",
    )
    assert world.held() == 0


def test_what_the_gateway_has_paid_is_taken_up_and_never_called(world: World) -> None:
    approvals = waiting(world)
    world.gateway.refunds = [shown()]

    assert look_later(world, approvals).status is Status.SUCCEEDED
    paid = world.stored()
    assert (paid.status, world.held()) == (Status.SUCCEEDED, 2500)
    assert paid.approvals is not None
    assert [each["decision"] for each in paid.approvals] == ["already_paid"]
    assert "create_refund" not in world.gateway.calls


def test_what_the_gateway_shows_once_and_then_hides_is_not_called_either(world: World) -> None:
    approvals = waiting(world)
    answers = [(shown(),), (), ()]
    world.gateway.find_refunds = lambda *args: answers.pop(0)  # type: ignore[method-assign]

    world.gateway.answers = [KeyTooOld()]

    look_later(world, approvals)

    # Its key counts as too old to be used, which the adapter checks before it sends anything.
    assert world.gateway.not_after is not None
    assert world.gateway.not_after < NOW - timedelta(days=365)
    assert (world.stored().status, world.held()) == (Status.IN_REVIEW, 2500)


def test_what_was_paid_and_changed_meanwhile_is_left_to_the_other(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    approvals = waiting(world)
    world.gateway.refunds = [shown()]
    monkeypatch.setattr(world.refunds.__class__, "save", lambda *args: False)

    assert look_later(world, approvals) == world.stored()
    assert world.gateway.calls == ["find_refunds"]
