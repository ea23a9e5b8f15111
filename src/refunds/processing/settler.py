"""From a claimed refund to its recorded outcome: ask, call, finish, give back.

The queue's messages and the reconciler both come through here. docs/protocol.md has the timeline
and says for each crash point why it is safe; the numbers in comments are its rules.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from refunds.domain.card_numbers import redacted
from refunds.domain.clock import Clock, Deadline, from_rfc3339, rfc3339
from refunds.domain.refund import Refund, Status, short_text
from refunds.gateways.contract import (
    Accepted,
    Declined,
    Gateway,
    GatewayRefund,
    GatewayStatus,
    GatewayUnavailableError,
    KeyReused,
    KeyTooOld,
    Misconfigured,
    RefundOrder,
    Retryable,
    Unknown,
)
from refunds.gateways.routing import Gateways
from refunds.processing.recorder import Later, Recorded, Recorder
from refunds.processing.reserver import Reserver
from refunds.tables.ledger import LedgerTable
from refunds.tables.refunds import RefundsTable

LEASE_MARGIN_SECONDS = 10.0
"""A lease ends this long after its invocation must have: clocks differ a little."""

FINISH_SECONDS = 5.0
"""Kept free after a call to the gateway for recording what it said."""

MIN_CALL_SECONDS = 2.0
"""With less than this left for a call, none is begun."""

KEY_MARGIN = timedelta(minutes=10)
"""For clocks that differ, and for bytes that are slow on their way."""

MAX_READ_CHARACTERS = 2000
"""Of a gateway's text; looking for card numbers in a megabyte would take seconds."""

PENDING_UNSEEN = timedelta(hours=24)
"""How long the gateway may not show a refund that it said was pending, before a person looks."""


class Settler(Recorder):
    """A ``Recorder`` that can ask a refund's gateway: the one it was started with, always.

    ``new_token`` gives text that never repeats.
    """

    def __init__(
        self,
        *,
        refunds: RefundsTable,
        ledger: LedgerTable,
        reserver: Reserver,
        gateways: Gateways,
        clock: Clock,
        new_token: Callable[[], str],
        processed_by: str,
        recheck_after: timedelta,
    ) -> None:
        super().__init__(
            refunds=refunds,
            ledger=ledger,
            clock=clock,
            processed_by=processed_by,
            recheck_after=recheck_after,
        )
        self._reserver = reserver
        self._gateways = gateways
        self._new_token = new_token

    def new_lease(self, deadline: Deadline) -> dict[str, Any]:
        """A fresh attempt's token, and its lease to just past the invocation's end."""
        until = self._clock.now() + timedelta(
            seconds=deadline.left_seconds() + LEASE_MARGIN_SECONDS
        )
        return {"attempt_token": self._new_token(), "lease_until": rfc3339(until)}

    def lease_left_seconds(self, refund: Refund) -> float:
        """How long another attempt may still be at work; 0 when none is."""
        if refund.lease_until is None:
            return 0.0
        left = from_rfc3339(refund.lease_until) - self._clock.now()
        return max(0.0, left.total_seconds())

    def take_over(self, refund: Refund, deadline: Deadline) -> Recorded | Later:
        """Go on with a refund whose attempt ended without a word. Its outcome is unknown, so it
        enters the index of open refunds, and the gateway is asked before anything else."""
        taken = replace(self._opened(refund), **self.new_lease(deadline))
        if not self._refunds.save(refund, taken):
            return Later("another attempt took the refund on")
        return self.ask_then_call(taken, deadline)

    def ask_then_call(self, refund: Refund, deadline: Deadline) -> Recorded | Later:
        """Settle by what the gateway shows; call again only if it shows nothing (rule 6)."""
        try:
            found = self._look_up(refund, deadline)
        except GatewayUnavailableError as exc:
            return self._leave(refund, f"look-up: {exc}", exc.retry_after_seconds)
        if found:
            return self._by_evidence(refund, found)
        if refund.status is Status.PENDING:
            return self._not_shown(refund)
        return self.call(refund, deadline, called_before=True)

    def call(self, refund: Refund, deadline: Deadline, *, called_before: bool) -> Recorded | Later:
        """Call the gateway, once, under our claim, and record what it says.

        ``called_before``: an earlier attempt may have reached the gateway, so a decline of this
        call is no proof that no money moved (rule 8).
        """
        try:
            gateway = self._gateways.named(refund.gateway)
        except GatewayUnavailableError as exc:
            return self._leave(refund, str(exc))
        within = deadline.within(gateway.timeout_seconds, reserve_seconds=FINISH_SECONDS)
        if within.left_seconds() < min(MIN_CALL_SECONDS, gateway.timeout_seconds / 2):
            return self._leave(refund, "too little time left for a call")
        assert refund.amount_minor is not None
        order = RefundOrder(
            refund.refund_id,
            refund.transaction_id,
            refund.amount_minor,
            refund.currency,
            refund.reason,
            reference=gateway.reference_for(refund.refund_id),
        )
        answer = gateway.create_refund(
            order, within, not_after=_key_young_until(refund, gateway, deadline)
        )
        match answer:
            case Accepted(refund=shown):
                return self._by_evidence(refund, (shown,))
            case Declined():
                return self._declined(refund, answer, deadline, called_before=called_before)
            case Retryable(reason=reason, retry_after_seconds=wait):
                return self._leave(refund, reason, wait)
            case Misconfigured(reason=reason):
                return self._leave(refund, f"misconfigured: {reason.value}")
            case Unknown(reason=reason):
                return self._leave(refund, reason)
            case KeyReused():
                return self._review(
                    refund,
                    "idempotency_key_reused",
                    "the gateway has this refund's key with other contents",
                )
            case KeyTooOld():
                return self._review(
                    refund,
                    "idempotency_key_expired",
                    "the gateway shows no refund, and calling again might pay twice",
                )

    def reverse(self, refund: Refund, shown: GatewayRefund) -> Recorded | Later:
        """The bank has sent a paid refund back: ``shown`` is the gateway's word for it."""
        return self.finish(
            refund,
            Status.REVERSED,
            failure_code=_told(shown.failure_code) or "reversed",
            failure_message=_told(shown.failure_message),
        )

    def _look_up(self, refund: Refund, deadline: Deadline) -> Sequence[GatewayRefund]:
        gateway = self._gateways.named(refund.gateway)
        within = deadline.within(gateway.timeout_seconds, reserve_seconds=FINISH_SECONDS)
        reference = gateway.reference_for(refund.refund_id)
        return gateway.find_refunds(reference, refund.transaction_id, within)

    def _by_evidence(self, refund: Refund, found: Sequence[GatewayRefund]) -> Recorded | Later:
        shown = found[0]
        if len(found) > 1:
            return self._review(
                refund, "gateway_duplicate", f"the gateway shows {len(found)} refunds of this id"
            )
        if mismatch := _mismatch(refund, shown):
            return self._review(
                refund, "gateway_mismatch", f"the gateway's refund has another {mismatch}"
            )
        told = {"gateway_refund_id": shown.gateway_refund_id}
        match shown.status:
            case GatewayStatus.SUCCEEDED:
                return self.finish(refund, Status.SUCCEEDED, **told)
            case GatewayStatus.FAILED:
                return self.finish(
                    refund,
                    Status.FAILED,
                    failure_code=_told(shown.failure_code) or "failed",
                    failure_message=_told(shown.failure_message),
                    **told,
                )
            case GatewayStatus.PENDING if refund.status is Status.PENDING:
                return self._still_open(refund)
            case GatewayStatus.PENDING:
                return self.finish(refund, Status.PENDING, **told)

    def _declined(
        self, refund: Refund, answer: Declined, deadline: Deadline, *, called_before: bool
    ) -> Recorded | Later:
        if called_before:
            try:
                found = self._look_up(refund, deadline)
            except GatewayUnavailableError as exc:
                return self._leave(refund, f"look-up: {exc}", exc.retry_after_seconds)
            if found:
                return self._by_evidence(refund, found)
        result = self.finish(
            refund,
            Status.FAILED,
            failure_code=_told(answer.code),
            failure_message=_told(answer.message),
        )
        if answer.over_balance and isinstance(result, Recorded):
            # Others refunded without us: let the ledger know, for the requests after this one.
            try:
                self._reserver.recount(
                    refund.transaction_id,
                    refund.refund_id,
                    deadline,
                    gateway=self._gateways.named(refund.gateway),
                )
            except GatewayUnavailableError:
                return result  # the next rejection recounts
        return result

    def _not_shown(self, refund: Refund) -> Recorded | Later:
        since = from_rfc3339(refund.open_since or refund.updated_at)
        if self._clock.now() - since < PENDING_UNSEEN:
            return self._still_open(refund)
        return self._review(
            refund, "gateway_forgot", "the gateway said pending, and now shows no such refund"
        )

    def _review(self, refund: Refund, code: str, message: str) -> Recorded | Later:
        """No safe automatic step is left: a person decides, the money stays reserved (I6)."""
        return self.finish(refund, Status.IN_REVIEW, failure_code=code, failure_message=message)

    def _leave(
        self, refund: Refund, reason: str, delay_seconds: float | None = None
    ) -> Recorded | Later:
        """Leave it unfinished: into the index of open refunds, lease over (rule 10)."""
        left = replace(self._opened(refund, again=True), lease_until=None)
        self._refunds.save(refund, left)
        return Later(reason, delay_seconds)

    def _still_open(self, refund: Refund) -> Recorded | Later:
        left = replace(self._opened(refund, again=True), lease_until=None)
        self._refunds.save(refund, left)
        return Recorded(left)


def _key_young_until(refund: Refund, gateway: Gateway, deadline: Deadline) -> datetime:
    assert refund.key_used_at is not None
    on_the_way = timedelta(seconds=gateway.timeout_seconds + deadline.left_seconds())
    return from_rfc3339(refund.key_used_at) + gateway.key_lifetime - on_the_way - KEY_MARGIN


def _mismatch(refund: Refund, shown: GatewayRefund) -> str | None:
    if shown.reference != refund.refund_id:
        return "reference"
    if shown.transaction_id != refund.transaction_id:
        return "transaction"
    if (shown.amount_minor, shown.currency) != (refund.amount_minor, refund.currency):
        return "amount"
    return None


def _told(text: str | None) -> str | None:
    """A gateway's own words, short and without card numbers."""
    return short_text(redacted(text[:MAX_READ_CHARACTERS])) if text else None
