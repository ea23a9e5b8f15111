"""A refund in plain words: what happened, what happens next, and what the customer hears."""

from __future__ import annotations

from collections.abc import Mapping

from refunds.domain.audit_entry import DELETED_EVENT, PROPOSED_EVENT, RESTORED_EVENT
from refunds.domain.refund import Item, Status
from refunds_ops.amounts import amount_text
from refunds_ops.statuses import acting

NEXT: Mapping[str, str] = {
    "PROCESSING": "It is being processed. If that ends early, ReconcileRefunds continues it.",
    "PENDING": "The gateway has accepted it. ReconcileRefunds asks until it says how it ended.",
    "IN_REVIEW": "A person decides: refunds review decide REFUND_ID --paid|--not-paid",
    "AWAITING_APPROVAL": "A person decides: refunds approve REFUND_ID, or refunds deny REFUND_ID",
}
"""What happens next, by status. Nothing follows a final status."""

CUSTOMER: Mapping[str, str] = {
    "PROCESSING": "Your refund is on its way. We will confirm it as soon as it is done.",
    "PENDING": "Your bank is handling your refund. This can take up to ten working days.",
    "IN_REVIEW": "We are checking your refund with our payment provider. We will get back to you.",
    "AWAITING_APPROVAL": "Your refund has been requested and is being approved.",
    "SUCCEEDED": "We have refunded you. Banks take up to ten working days to show it.",
    "FAILED": "We could not refund you this way. We will contact you about another way.",
    "REJECTED": "This payment could not be refunded as requested. We will get back to you.",
    "REVERSED": "Your bank sent the refund back to us. Please give us another way to pay you.",
}
"""What to tell the customer, by status. A customer who is not paid yet must not hear that they
are."""


PAID_THERE_CUSTOMER = CUSTOMER["IN_REVIEW"]
PAID_THERE_NEXT = (
    "The gateway shows it as paid. A person puts that right: refunds correct REFUND_ID"
)


def tell_customer(refund: Item) -> str:
    """What to tell the customer. Nobody is promised another way while this one may have paid."""
    return PAID_THERE_CUSTOMER if _is_paid_there(refund) else CUSTOMER.get(refund["status"], "")


def what_follows(refund: Item) -> str:
    """What happens next; empty if nothing follows."""
    return PAID_THERE_NEXT if _is_paid_there(refund) else NEXT.get(refund["status"], "")


def _is_paid_there(refund: Item) -> bool:
    """Whether the gateway has shown a refund as paid that ended here without money."""
    ended = refund["status"] in (Status.FAILED, Status.REJECTED)
    return ended and bool(refund.get("seen_paid_at") or refund.get("kept_minor"))


SENTENCES: Mapping[str, str] = {
    "PROCESSING": "{asker} asked to refund {amount} of payment {payment} ({reason}).",
    "AWAITING_APPROVAL": "{amount} is over a limit: a person must approve it.",
    "REJECTED": "Refused before any money moved: {because}.",
    "PENDING": "{gateway} accepted it and has not settled it yet.",
    "SUCCEEDED": "{amount} was paid back through {gateway}.",
    "FAILED": "{gateway} did not pay it: {because}. The reserved money is free again.",
    "IN_REVIEW": "No safe automatic step is left: {because}. A person must decide.",
    "REVERSED": "The bank sent the money back. It can be refunded again.",
}
"""What an audit entry says, by status."""
DECIDED_FAILED = "Recorded as not paid. The reserved money is free again."
DECIDED_FAILED_MOVED = "Recorded as not paid, although the gateway has moved {kept} of the payment."
OTHER_STATUS = "Its status became {status}."
UPDATED = "Its record was updated: {}."
NOTHING_SHOWN = "nothing that is shown"
DELETED = "The refund's record was deleted."
NO_REASON = "no reason was given"
ALL_THAT_IS_LEFT = "all that is left"


def sentence(entry: Item) -> str:
    """One audit entry as a sentence, without its time."""
    details: Item = entry["details"]
    if entry["event"] == DELETED_EVENT:
        return DELETED
    if entry["event"] == PROPOSED_EVENT and (proposal := details.get("proposal")):
        return f"Proposed as {proposal.get('decision')} by {decision(proposal)}."
    if entry["event"] == RESTORED_EVENT and (restored := details.get("restored")):
        by = acting(restored.get("by"))
        return f"Its record was restored from {restored.get('source')} by {by}: {restored['why']}."
    changed = details.get("changed_fields") or ()
    if entry["status"] == Status.AWAITING_APPROVAL:
        return waits_because(details) + _last_approval(details)
    if entry["previous_status"] == entry["status"] and "review" not in changed:
        # Nothing happened to the money, and an earlier entry has the sentence of the status.
        trace = details.get("gateway_trace") if "gateway_trace" in changed else None
        return (
            f"The bank's number for it is {trace}."
            if trace
            else UPDATED.format(", ".join(changed) or NOTHING_SHOWN)
        )
    # Each value is one field of its own: nothing in it is read as a pattern.
    text = SENTENCES.get(entry["status"], OTHER_STATUS).format(
        asker=entry["requested_by"],
        amount=_amount(details),
        payment=entry["transaction_id"],
        reason=details.get("reason"),
        because=_because(details),
        gateway=details.get("gateway"),
        status=entry["status"],
    )
    if "approvals" in changed:
        text += _last_approval(details)
    if "review" in changed and (review := details.get("review")):
        if entry["status"] == Status.FAILED:
            kept_minor, currency = details.get("kept_minor"), details.get("currency", "")
            text = DECIDED_FAILED
            if kept_minor:
                text = DECIDED_FAILED_MOVED.format(kept=amount_text(kept_minor, currency))
        text += f" Decided by {decision(review)}."
    return text


def _last_approval(details: Item) -> str:
    if not (approvals := details.get("approvals")):
        return ""
    return f" {str(approvals[-1].get('decision')).capitalize()} by {decision(approvals[-1])}."


def waits_because(refund: Item) -> str:
    """Which limit a refund that waits for approval is over, and until when it waits."""
    if not (awaiting := refund.get("awaiting")):
        return f"{_amount(refund)} is over a limit: a person must approve it."
    rule, limit = str(awaiting.get("over")), str(awaiting.get("limit", ""))
    if rule != "user_count" and limit.isdigit():
        limit = amount_text(int(limit), refund["currency"])
    text = f"{_amount(refund)} is over a limit ({RULES.get(rule, rule)} {limit}):"
    needs = "two people" if awaiting.get("approvers") == "2" else "a person"
    return f"{text} {needs} must approve it by {awaiting.get('expires_at')}."


RULES: Mapping[str, str] = {
    "per_refund": "one refund,",
    "approve_above": "without approval,",
    "user_day": "one user and day,",
    "user_count": "refunds of one user and day,",
    "day": "all of a day,",
}


def decision(decided: Item) -> str:
    """A person's decision or proposal: who, why, by what evidence, and what was shown to them."""
    who = acting(decided.get("by"), decided.get("on_behalf_of"))
    if proposed_by := decided.get("proposed_by"):
        who += f", proposed by {acting(proposed_by)}"
    shown = [str(decided[name]) for name in ("gateway", "balance") if decided.get(name)]
    summary = f"{who}: {decided.get('why')}"
    if evidence := decided.get("evidence"):
        summary += f" ({evidence})"
    return f"{summary}; shown: {'; '.join(shown)}" if shown else summary


def because(refund: Item) -> str:
    """Why a refund has its status."""
    code, message = refund.get("failure_code"), refund.get("failure_message")
    return ": ".join(str(each) for each in (code, message) if each) or NO_REASON


def _because(refund: Item) -> str:
    """The same inside a sentence, which ends with a full stop of its own."""
    return because(refund).rstrip(".")


def _amount(refund: Item) -> str:
    if (minor := refund.get("amount_minor")) is None:
        return ALL_THAT_IS_LEFT
    return amount_text(minor, refund["currency"])
