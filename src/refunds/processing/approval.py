"""Refunds over a limit: people approve or deny them, and approval expires.

An approval only records the decision, in one conditional write. After that the refund is an
ordinary PROCESSING refund in the index of open refunds. The reconciler or its message, whichever
comes first, continues it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from refunds.domain.audit_entry import audit_entry
from refunds.domain.card_numbers import has_card_number
from refunds.domain.clock import Clock, Deadline, rfc3339
from refunds.domain.identity import Identity
from refunds.domain.limits import SENT_AGAIN
from refunds.domain.refund import Refund, Status, approved_version, change_status, short_text
from refunds.domain.text import is_blank
from refunds.gateways.contract import GatewayRefund, GatewayStatus, GatewayUnavailableError
from refunds.processing.recorder import Later
from refunds.processing.review import describe_shown
from refunds.processing.settler import LONG_AGO, Settler
from refunds.tables.refunds import RefundsTable

APPROVED = "approved"
DENIED = "denied"
ALREADY_PAID = "already_paid"

APPROVAL_DENIED = "approval_denied"
APPROVAL_EXPIRED = "approval_expired"


class ApprovalError(Exception):
    """The decision can't be recorded; the text says why and what to do."""


class NotAllowedError(ApprovalError):
    """This person may not decide on this refund."""


class Approvals:
    def __init__(self, *, refunds: RefundsTable, settler: Settler, clock: Clock) -> None:
        self._refunds = refunds
        self._settler = settler
        self._clock = clock

    def approve(
        self, refund_id: str, by: Identity, why: str, evidence: Mapping[str, str]
    ) -> Refund:
        """Record an approval, and return the refund's new state.

        ``evidence``: what this person saw (``evidence``, ``gateway``, ``balance``). The refund
        becomes PROCESSING with the last approval that it needs, and stays AWAITING_APPROVAL until
        then. Calls no gateway. Raises ``ApprovalError``.
        """
        refund = self._waiting(refund_id)
        _check_person(refund, by)
        at = rfc3339(self._clock.now())
        if has_expired(refund, at):
            raise ApprovalError(
                f"{refund_id}: approval expired at {_expires_at(refund)}; send a new request"
            )
        approvals = (*(refund.approvals or ()), _entry(APPROVED, by, why, evidence, at))
        if len(approvals) < approvers_needed(refund):
            new = approved_version(
                refund,
                approvals,
                at=at,
                by=self._settler.recorder.processed_by,
                previous_hash=audit_entry(refund.item())["entry_hash"],
            )
        else:
            new = self._processing(refund, at, approvals)
        if not self._refunds.save(refund, new):
            raise ApprovalError(f"{refund_id} was changed meanwhile; look at it again")
        return new

    def deny(
        self,
        refund_id: str,
        by: Identity,
        why: str,
        evidence: Mapping[str, str],
        deadline: Deadline,
    ) -> Refund:
        """Reject a waiting refund, which frees its money.

        The gateway is asked first: if tables were lost, they may no longer show that it was paid.
        Raises ``ApprovalError``.
        """
        refund = self._waiting(refund_id)
        _check_person(refund, by)
        entry = _entry(DENIED, by, why, evidence, rfc3339(self._clock.now()))
        try:
            live = self._live(refund, deadline)
        except GatewayUnavailableError as exc:
            raise ApprovalError(f"{refund.gateway} can't be asked: {exc}; try again") from exc
        if live:
            raise ApprovalError(
                f"{describe_shown(refund.gateway, live)}: it was paid before, and can't be denied"
            )
        result = self._settler.recorder.finish(
            refund,
            Status.REJECTED,
            failure_code=APPROVAL_DENIED,
            failure_message=short_text(f"denied by {by.name}"),
            approvals=(*(refund.approvals or ()), entry),
        )
        if isinstance(result, Later):
            raise ApprovalError(f"{refund_id} was changed meanwhile; look at it again")
        return result.refund

    def look_again(self, refund: Refund, deadline: Deadline) -> Refund:
        """The reconciler's step for a waiting refund: reject it when its time is over, or else
        postpone its next check. Raises ``GatewayUnavailableError``."""
        at = rfc3339(self._clock.now())
        if not has_expired(refund, at):
            self._settler.recorder.recheck(refund)
            return refund
        if self._settler.evidence.is_at_gateway(refund, deadline):
            return self._take_up_paid(refund, at, deadline)
        result = self._settler.recorder.finish(
            refund,
            Status.REJECTED,
            failure_code=APPROVAL_EXPIRED,
            failure_message=f"nobody approved it by {_expires_at(refund)}",
        )
        return refund if isinstance(result, Later) else result.refund

    def _take_up_paid(self, refund: Refund, at: str, deadline: Deadline) -> Refund:
        # Its tables were lost, and the gateway still had it. Rejecting it would free money that has
        # moved.
        entry = {"decision": ALREADY_PAID, "by": self._settler.recorder.processed_by, "at": at}
        new = self._processing(refund, at, (*(refund.approvals or ()), entry))
        # The gateway was called for it at an unknown time, and nobody has approved it: never call
        # again.
        new = replace(new, key_used_at=LONG_AGO)
        if not self._refunds.save(refund, new):
            return refund
        result = self._settler.take_over(new, deadline)
        return new if isinstance(result, Later) else result.refund

    def _processing(
        self, refund: Refund, at: str, approvals: tuple[Mapping[str, str], ...]
    ) -> Refund:
        new = change_status(
            refund,
            Status.PROCESSING,
            at=at,
            by=self._settler.recorder.processed_by,
            previous_hash=audit_entry(refund.item())["entry_hash"],
            approvals=approvals,
        )
        # No call was made before, unless its record was lost. In that case the key keeps its age.
        key_used_at = refund.key_used_at or at
        opened = self._settler.recorder.opened(replace(new, open_since=None))
        return replace(opened, key_used_at=key_used_at, lease_until=None, check_at=at)

    def _waiting(self, refund_id: str) -> Refund:
        refund = self._refunds.get(refund_id)
        if refund is None:
            raise ApprovalError(f"there is no refund {refund_id}")
        if refund.status is not Status.AWAITING_APPROVAL:
            raise ApprovalError(
                f"{refund_id} is {refund.status}; only refunds AWAITING_APPROVAL are approved"
                " or denied"
            )
        return refund

    def _live(self, refund: Refund, deadline: Deadline) -> list[GatewayRefund]:
        found = self._settler.evidence.search(refund, deadline)
        return [each for each in found if each.status is not GatewayStatus.FAILED]


def approvers_needed(refund: Refund) -> int:
    return int((refund.awaiting or {}).get("approvers", "1"))


def has_expired(refund: Refund, at: str) -> bool:
    """Whether approval has expired at the instant ``at``, in ``rfc3339`` form."""
    return at >= _expires_at(refund)


def _check_person(refund: Refund, by: Identity) -> None:
    refund_id = refund.refund_id
    if by.is_any_of(refund.requested_by):
        raise NotAllowedError(f"{by.name} requested {refund_id}: somebody else must decide")
    # A message that was sent again has both senders: "AROAEXAMPLE:jo via AROAOTHER:function".
    if by.is_any_of(*(refund.sent_by or "").split(SENT_AGAIN)):
        raise NotAllowedError(f"{by.name} sent {refund_id}: somebody else must decide")
    if by.is_any_of(*(each.get("by") for each in refund.approvals or ())):
        raise NotAllowedError(f"{by.name} has approved {refund_id} already: another person must")


def _entry(
    decision: str, by: Identity, why: str, evidence: Mapping[str, str], at: str
) -> dict[str, str]:
    if is_blank(why):
        raise ApprovalError("say why: the audit trail keeps it")
    if any(map(has_card_number, (why, *evidence.values()))):
        raise ApprovalError("leave card numbers out: the audit trail is kept for years")
    shown = {name: short_text(value) or "" for name, value in evidence.items() if value}
    who = by.recorded() | {"why": short_text(why) or ""}
    return {**shown, "decision": decision, **who, "at": at}


def _expires_at(refund: Refund) -> str:
    # A waiting refund without it must have been changed by hand. It counts as expired.
    return (refund.awaiting or {}).get("expires_at", "")
