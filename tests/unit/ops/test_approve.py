"""`refunds approve` and `deny`: who may, what they are shown, and what the trail keeps of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.support.builders import NOW, VISA, payment, refund, shown
from tests.support.command_line import Refunds
from tests.support.operators_stack import operators_stack
from tests.support.people import session_arn, sign_in
from tests.support.world import World

from refunds.domain.clock import SystemClock, rfc3339
from refunds.domain.intake import pause_intake
from refunds.domain.refund import Refund, Status
from refunds.gateways.contract import GatewayUnavailableError
from refunds.tables.wire import item_to_wire
from refunds_ops.errors import NotReadyError
from refunds_ops.gateway_view import gateway_view

YES = ("--why", "a good customer, TICKET-1", "--yes")


class Functions:
    """Lambda, as far as it is invoked."""

    def __init__(self) -> None:
        self.invoked: list[Any] = []

    def invoke(self, **call: Any) -> None:
        self.invoked.append((call["FunctionName"], call["InvocationType"], call["Payload"]))


@pytest.fixture
def functions(monkeypatch: pytest.MonkeyPatch) -> Functions:
    functions = Functions()
    monkeypatch.setattr("refunds_ops.stack.stack.Stack.functions", functions)
    monkeypatch.setenv("ReconcileRefundsFunctionName", "stack-ReconcileRefunds")
    return functions


@pytest.fixture(autouse=True)
def waiting(
    world: World, refunds: Refunds, functions: Functions, monkeypatch: pytest.MonkeyPatch
) -> Refund:
    monkeypatch.setattr("refunds_ops.audit.sources.gateways", lambda stack: world.gateways)
    world.gateway.payments["payment-1"] = payment()
    sign_in(monkeypatch, "ada")
    return world.put(waiting_refund())


def waiting_refund(**changes: Any) -> Refund:
    now = rfc3339(SystemClock().now())
    later = now.replace(now[:4], str(int(now[:4]) + 1), 1)
    awaiting = {"over": "per_refund", "limit": "1000", "approvers": "1", "expires_at": later}
    there = refund(
        status=Status.AWAITING_APPROVAL,
        requested_by="agent:bot",
        sent_by="AROASHOP:checkout",
        awaiting=awaiting,
        attempt_token=None,
        lease_until=None,
        key_used_at=None,
        open_since=now,
        open_shard="0",
        check_at=now,
    )
    return replace(there, **changes)


def replace_stored(world: World, there: Refund) -> None:
    world.stack.clients.dynamodb.put_item(
        TableName=world.stack.refunds_table, Item=item_to_wire(there.item())
    )


def test_an_approval_is_recorded_with_who_why_and_what_was_shown(
    world: World, refunds: Refunds, functions: Functions
) -> None:
    ran = refunds("approve", "refund-1", *YES, "--evidence", "TICKET-1", "--by", "the shop")

    assert ran.status == 0, ran.err
    found = world.stored()
    assert (found.status, found.version) == (Status.PROCESSING, 2)
    assert found.processed_by == session_arn("ada")
    assert found.approvals is not None
    (approval,) = found.approvals
    assert dict(approval) == {
        "decision": "approved",
        "by": session_arn("ada"),
        "on_behalf_of": "the shop",
        "why": "a good customer, TICKET-1",
        "evidence": "TICKET-1",
        "gateway": "flair shows no such refund; the payment is captured",
        "balance": "100.00 USD captured, 75.00 USD still refundable, 25.00 USD reserved for this "
        "refund",
        "at": found.updated_at,
    }
    assert functions.invoked == [("stack-ReconcileRefunds", "Event", b'{"look_at": "refund-1"}')]


def test_what_is_decided_about_is_shown_first(refunds: Refunds) -> None:
    ran = refunds("approve", "refund-1", *YES)
    assert "25.00 USD is over a limit (one refund, 10.00 USD): a person must approve it" in ran.err
    assert "Requested by agent:bot, sent by AROASHOP:checkout." in ran.err
    assert "Gateway: flair shows no such refund" in ran.err
    assert "Payment: 100.00 USD captured" in ran.err
    assert "You are ada as Reviewer." in ran.err


def test_without_agreement_nothing_is_recorded(world: World, refunds: Refunds) -> None:
    for command in ("approve", "deny"):
        ran = refunds(command, "refund-1", "--why", "x")
        assert ran.status == 1
        assert "no terminal to ask for confirmation" in ran.err
    assert world.stored().version == 1


def test_a_denied_refund_is_rejected_and_frees_its_money(world: World, refunds: Refunds) -> None:
    ran = refunds("deny", "refund-1", "--why", "not ours", "--yes", "--json")
    assert ran.status == 0, ran.err
    assert ran.json["failure_code"] == "approval_denied"
    assert ran.json["approvals"][0]["by"] == session_arn("ada")
    assert (world.stored().status, world.held()) == (Status.REJECTED, 0)


@pytest.mark.parametrize("command", ["approve", "deny"])
@pytest.mark.parametrize(
    "changes",
    [
        {"requested_by": "operator:ada"},
        {"requested_by": "operator:ada@example.com"},
        {"sent_by": "AROAREFUNDER:ada"},
        {"sent_by": "AROAREFUNDER:ADA"},
    ],
    ids=str,
)
def test_who_requested_or_sent_it_decides_nothing(
    world: World, refunds: Refunds, command: str, changes: dict[str, str]
) -> None:
    replace_stored(world, waiting_refund(**changes))
    ran = refunds(command, "refund-1", *YES)
    assert ran.status == 1
    assert "ada" in ran.err
    assert world.stored().status is Status.AWAITING_APPROVAL


def test_two_people_approve_where_two_must(
    world: World, refunds: Refunds, functions: Functions, monkeypatch: pytest.MonkeyPatch
) -> None:
    awaiting = {**(waiting_refund().awaiting or {}), "approvers": "2"}
    replace_stored(world, waiting_refund(awaiting=awaiting))

    first = refunds("approve", "refund-1", *YES)
    assert first.status == 0, first.err
    assert "needs another person" in first.out
    assert "two people must approve" in first.err
    assert functions.invoked == []
    assert refunds("approve", "refund-1", *YES).status == 1
    sign_in(monkeypatch, "ada", "Admin")
    assert refunds("approve", "refund-1", *YES).status == 1
    assert world.stored().status is Status.AWAITING_APPROVAL

    sign_in(monkeypatch, "eve")
    assert refunds("approve", "refund-1", *YES).status == 0
    assert world.stored().status is Status.PROCESSING


@pytest.mark.parametrize("gateway", [None, "flair"])
def test_nothing_is_approved_while_requests_are_paused(
    world: World, refunds: Refunds, gateway: str | None
) -> None:
    world.control.change_intake(
        lambda intake: pause_intake(intake, session_arn("jo"), "a look", NOW), gateway
    )
    ran = refunds("approve", "refund-1", *YES)
    assert ran.status == 1
    assert "paused by jo as Reviewer" in " ".join(ran.err.split())
    assert world.stored().status is Status.AWAITING_APPROVAL
    assert refunds("deny", "refund-1", *YES).status == 0


def test_a_gateway_that_cannot_be_asked_is_kept_as_evidence_too(
    world: World, refunds: Refunds, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(*_: Any, **__: Any) -> None:
        raise GatewayUnavailableError("HTTP 503")

    monkeypatch.setattr("refunds_ops.audit.sources.GATEWAY_TRIES", 1)
    monkeypatch.setattr(world.gateway, "find_refunds", down)
    assert refunds("approve", "refund-1", *YES).status == 0
    (approval,) = world.stored().approvals or ()
    assert approval["gateway"].startswith("flair can't be asked")


def test_a_refund_that_the_gateway_knows_is_not_denied(world: World, refunds: Refunds) -> None:
    world.gateway.refunds.append(shown())
    ran = refunds("deny", "refund-1", *YES)
    assert ran.status == 1
    assert "gw-1" in ran.err
    assert world.stored().status is Status.AWAITING_APPROVAL


def test_what_does_not_wait_is_not_decided(world: World, refunds: Refunds) -> None:
    replace_stored(world, waiting_refund(status=Status.REJECTED))
    ran = refunds("approve", "refund-1", *YES)
    assert (ran.status, "refund-1 is REJECTED" in ran.err) == (1, True)
    assert refunds("approve", "no-such", *YES).status == 1
    assert refunds("approve", "refund-1").status == 2
    assert refunds("approve", "refund-1", "--why", f"card {VISA}", "--yes").status == 1


def test_what_waits_is_listed_and_told(refunds: Refunds) -> None:
    assert refunds("list", "--status", "AWAITING_APPROVAL", "--json").lines[0]["refund_id"] == (
        "refund-1"
    )
    ran = refunds("open")
    assert ran.status == 1
    assert "refunds approve refund-1" in " ".join(ran.out.split())
    assert "Some wait for approval" in ran.err
    out = " ".join(refunds("show", "refund-1").out.split())
    assert "25.00 USD is over a limit (one refund, 10.00 USD)" in out
    refunds("approve", "refund-1", *YES)
    out = " ".join(refunds("show", "refund-1").out.split())
    assert "by ada as Reviewer: a good customer" in out


def test_hostile_texts_cannot_change_the_terminal(world: World, refunds: Refunds) -> None:
    replace_stored(
        world, waiting_refund(requested_by="agent:\x1b[31mbot\u202e", sent_by="\x1b[2J:x")
    )
    ran = refunds("approve", "refund-1", "--why", "fine\x1b[31m", "--yes")
    shown_all = ran.out + ran.err + refunds("show", "refund-1").out
    assert ran.status == 0
    assert "\x1b" not in shown_all
    assert "\u202e" not in shown_all


def test_what_is_shown_is_of_the_account_that_the_refund_began_with(world: World) -> None:
    began = refund(gateway_account="another").item()
    with pytest.raises(NotReadyError, match="account_changed"):
        gateway_view(operators_stack(world.stack), began)


def test_what_is_shown_is_also_what_only_the_payments_list_shows(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.gateway.refunds.append(shown())
    monkeypatch.setattr(world.gateway, "find_refunds", lambda *asked: ())
    view = gateway_view(operators_stack(world.stack), refund().item())
    assert [each.gateway_refund_id for each in view.refunds] == ["gw-1"]
