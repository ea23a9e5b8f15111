"""`refunds approve`, `refunds deny`: a person's decision on a refund that is over a limit."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click
from botocore.exceptions import BotoCoreError, ClientError

from refunds.domain.clock import Deadline
from refunds.domain.identity import Identity
from refunds.domain.refund import Item, Refund, Status
from refunds.processing.approval import ApprovalError
from refunds.processing.review import describe_balance, describe_shown
from refunds.tables.ledger import LedgerTable
from refunds.tables.state import Control
from refunds_ops.deciding import GATEWAY_SECONDS, deciding, sentence
from refunds_ops.errors import NotReadyError, RefusedError
from refunds_ops.gateway_view import gateway_view
from refunds_ops.identity import ON_BEHALF_OF, check_kept, identify, why_option
from refunds_ops.json_output import REFUND_FIELDS, json_option
from refunds_ops.stack.records import audit_entries, refund_item
from refunds_ops.stack.stack import Stack, find_stack
from refunds_ops.statuses import acting, outcome_of
from refunds_ops.story import sentence as story_of
from refunds_ops.story import waits_because
from refunds_ops.terminal import print_json, print_line, print_note

F = TypeVar("F", bound=Callable[..., Any])


def _decision_options(command: F) -> F:
    evidence = click.option(
        "--evidence", default="", metavar="TEXT", help="Where the reason can be seen: a ticket."
    )
    yes = click.option("--yes", is_flag=True, help="Don't ask; for scripts.")
    return evidence(yes(ON_BEHALF_OF(json_option(REFUND_FIELDS)(command))))


@click.command()
@click.argument("refund_id")
@why_option("Why it may be paid. Kept in the audit trail.")
@_decision_options
@click.pass_obj
def approve(stack_name: str | None, /, **options: Any) -> None:
    """Approve a refund that is over a limit.

    First shows its story, the gateway's view and the payment's balance, then asks. Whoever
    requested or sent the refund can't approve it. Some refunds need two people.
    """
    stack = find_stack(stack_name)
    refund = waiting_refund(stack, options["refund_id"], options["why"])
    check_not_paused(stack, refund)
    who, evidence = _shown(stack, refund, options)
    _agree(f"Approve {options['refund_id']}?", options)
    approved = record_approval(stack, who, refund, options["why"], evidence)
    if options["as_json"]:
        print_json(approved.item())
    elif approved.status is Status.PROCESSING:
        print_line(f"{approved.refund_id}: approved, {outcome_of(approved.status)}.")
    else:
        print_line(f"{approved.refund_id}: approved. It needs another person's approval, too.")


@click.command()
@click.argument("refund_id")
@why_option("Why it must not be paid. Kept in the audit trail.")
@_decision_options
@click.pass_obj
def deny(stack_name: str | None, /, **options: Any) -> None:
    """Reject a refund that is over a limit, which frees its money.

    First shows its story, the gateway's view and the payment's balance, then asks.
    """
    stack = find_stack(stack_name)
    refund = waiting_refund(stack, options["refund_id"], options["why"])
    who, evidence = _shown(stack, refund, options)
    _agree(f"Deny {options['refund_id']}?", options)
    denied = record_denial(stack, who, refund, options["why"], evidence)
    if options["as_json"]:
        print_json(denied.item())
    else:
        print_line(f"{denied.refund_id}: {denied.status}, {outcome_of(denied.status)}.")


def record_approval(
    stack: Stack, who: Identity, refund: Item, why: str, evidence: dict[str, str]
) -> Refund:
    """The refund after the approval: still ``AWAITING_APPROVAL`` when another person must approve
    it, too.

    Raises ``RefusedError``.
    """
    check_not_paused(stack, refund)
    approvals = deciding(stack, who).approvals()
    approved = _recorded(lambda: approvals.approve(refund["refund_id"], who, why, evidence))
    if approved.status is Status.PROCESSING:
        _go_on(stack, approved.refund_id)
    return approved


def record_denial(
    stack: Stack, who: Identity, refund: Item, why: str, evidence: dict[str, str]
) -> Refund:
    """The rejected refund. Raises ``RefusedError``."""
    parts = deciding(stack, who)
    approvals, deadline = parts.approvals(), Deadline.after(parts.clock, GATEWAY_SECONDS)
    return _recorded(lambda: approvals.deny(refund["refund_id"], who, why, evidence, deadline))


def waiting_refund(stack: Stack, refund_id: str, why: str) -> Item:
    """The refund that waits for an approval. Raises ``RefusedError``."""
    check_kept(why=why)
    refund = refund_item(stack, refund_id)
    if refund is None:
        raise RefusedError(f"There is no refund {refund_id}.", f"refunds show {refund_id}")
    if refund["status"] != Status.AWAITING_APPROVAL:
        raise RefusedError(
            f"{refund_id} is {refund['status']}; only refunds AWAITING_APPROVAL are decided.",
            "To list them: refunds list --status AWAITING_APPROVAL",
        )
    return refund


def evidence_of(stack: Stack, refund: Item, evidence: str) -> dict[str, str]:
    """What is recorded with the approval: the person's evidence, and what the gateway and the
    ledger show now."""
    ledger = LedgerTable(stack.dynamodb, stack["LedgerTableName"])
    return {
        "evidence": evidence,
        "gateway": _gateway(stack, refund),
        "balance": describe_balance(ledger, Refund.from_item(refund)),
    }


def check_not_paused(stack: Stack, refund: Item) -> None:
    """A pause does not stop ReconcileRefunds, which would pay this refund."""
    control = Control(stack.dynamodb, stack["LedgerTableName"])
    for gateway in (None, refund["gateway"]):
        if (intake := control.intake(gateway)).paused:
            raise RefusedError(
                f"Requests are paused by {acting(intake.paused_by, intake.paused_on_behalf_of)} "
                f"since {intake.paused_at}: {intake.paused_why}. Nothing is approved meanwhile.",
                f"refunds resume --gateway {gateway}" if gateway else "refunds resume",
            )


def _shown(stack: Stack, refund: Item, options: dict[str, Any]) -> tuple[Identity, dict[str, str]]:
    """Who decides, and what they were shown. Both are recorded with the approval."""
    who = identify(stack, options["on_behalf_of"])
    evidence = evidence_of(stack, refund, options["evidence"])
    entries, _ = audit_entries(stack, refund["transaction_id"], refund["refund_id"])
    for entry in entries:
        print_note(story_of(entry))
    print_note(waits_because(refund))
    print_note(f"Requested by {refund['requested_by']}, sent by {refund.get('sent_by', 'nobody')}.")
    print_note(f"Gateway: {evidence['gateway']}.")
    print_note(f"Payment: {evidence['balance']}.")
    print_note(f"You are {acting(who.arn, who.on_behalf_of)}.")
    return who, evidence


def _gateway(stack: Stack, refund: Item) -> str:
    try:
        view = gateway_view(stack, refund)
    except NotReadyError as exc:
        return f"{refund['gateway']} can't be asked: {exc.what}"
    payment = view.payment
    of_payment = f"the payment is {payment.status.value}" if payment else "no such payment"
    return f"{describe_shown(view.name, view.refunds)}; {of_payment}"


def _agree(question: str, options: dict[str, Any]) -> None:
    if options["yes"]:
        return
    if not sys.stdin.isatty():
        raise RefusedError(
            "Nothing was recorded: no terminal to ask for confirmation.", "To do it: --yes"
        )
    if not click.confirm(question, err=True):
        raise RefusedError("Nothing was recorded.")


def _recorded(decide: Callable[[], Refund]) -> Refund:
    try:
        return decide()
    except ApprovalError as exc:
        raise RefusedError(sentence(exc)) from exc


def _go_on(stack: Stack, refund_id: str) -> None:
    """Have ReconcileRefunds pay the refund now. Otherwise its next run would."""
    try:
        stack.functions.invoke(
            FunctionName=stack["ReconcileRefundsFunctionName"],
            InvocationType="Event",
            Payload=json.dumps({"look_at": refund_id}).encode(),
        )
    except (ClientError, BotoCoreError, NotReadyError):
        print_note("It continues at ReconcileRefunds' next run, within minutes.")
