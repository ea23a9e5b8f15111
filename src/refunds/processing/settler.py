"""From a claimed refund to its recorded outcome: ask, call, finish.

The queue's messages and the reconciler both come through here. docs/protocol.md has the timeline
and says for each crash point why it is safe. The numbers in comments are its rules.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import NamedTuple

from refunds.domain.clock import Clock, Deadline, from_rfc3339, rfc3339
from refunds.domain.refund import Refund, Status, short_text
from refunds.gateways.contract import (
    Accepted,
    Declined,
    Gateway,
    GatewayMisconfiguredError,
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
from refunds.processing.balance import BalanceContendedError
from refunds.processing.evidence import (
    FINISH_SECONDS,
    Evidence,
    is_live,
    mismatch,
    safe_text,
    summary,
)
from refunds.processing.recorder import RECORD_LOST, Later, Recorded, Recorder
from refunds.tables.refunds import RefundsTable

LEASE_MARGIN_SECONDS = 10.0
"""A lease ends this long after its invocation must have ended, since clocks differ a little."""

MIN_CALL_SECONDS = 2.0
"""With less time than this left, no call is begun."""

KEY_MARGIN = timedelta(minutes=10)
"""Allows for clocks that differ, and for requests that are slow to arrive."""

CALL_UNDER_WAY_AT_MOST = timedelta(minutes=30)
"""How long after the start of its attempt a call may still reach the gateway. An invocation lasts
at most 15 minutes, and its request may take as long again to arrive."""

PENDING_UNSEEN = timedelta(hours=24)
"""How long a refund that the gateway called pending may be missing there before a person looks."""

GATEWAY_FORGOT = "gateway_forgot"

LONG_AGO = "1970-01-01T00:00:00.000000Z"
"""Stands for the first use of a key that no gateway remembers any more."""

MAY_BE_SHOWN_LATER = frozenset({GATEWAY_FORGOT, "idempotency_key_expired", RECORD_LOST})
"""Reasons of reviews that began because the gateway showed nothing. It may show the refund
later."""


class Lease(NamedTuple):
    """An attempt's token, and until when the attempt may still be running."""

    token: str
    until: str


class Settler:
    """Calls a refund's gateway, and settles the refund by what the gateway answers or shows: always
    the gateway and the account that the refund began with.

    ``new_token`` gives text that never repeats.
    """

    def __init__(
        self,
        *,
        refunds: RefundsTable,
        recorder: Recorder,
        evidence: Evidence,
        clock: Clock,
        new_token: Callable[[], str],
    ) -> None:
        self._refunds = refunds
        self.recorder = recorder
        self.evidence = evidence
        self._clock = clock
        self.new_token = new_token

    def new_lease(self, deadline: Deadline) -> Lease:
        """A lease that ends shortly after the invocation must have ended."""
        until = self._clock.now() + timedelta(
            seconds=deadline.left_seconds() + LEASE_MARGIN_SECONDS
        )
        return Lease(self.new_token(), rfc3339(until))

    def lease_left_seconds(self, refund: Refund) -> float:
        """How long another attempt may still be at work; 0 when none is."""
        if refund.lease_until is None:
            return 0.0
        left = from_rfc3339(refund.lease_until) - self._clock.now()
        return max(0.0, left.total_seconds())

    def take_over(self, refund: Refund, deadline: Deadline) -> Recorded | Later:
        """Continue a refund whose last attempt ended without an outcome. It enters the index of
        open refunds, and the gateway is asked before anything else."""
        lease = self.new_lease(deadline)
        taken = replace(
            self.recorder.opened(refund),
            attempt_token=lease.token,
            lease_until=lease.until,
            called_at=rfc3339(self._clock.now()),
        )
        if not self._refunds.save(refund, taken):
            return Later("another attempt has taken the refund over")
        return self.ask_then_call(taken, deadline, unanswered=refund)

    def ask_then_call(
        self, refund: Refund, deadline: Deadline, *, unanswered: Refund | None = None
    ) -> Recorded | Later:
        """Settle by what the gateway shows; call again only if it shows nothing (6).

        ``unanswered``: the refund as its last attempt left it.
        """
        try:
            found = self.evidence.look_up(refund, deadline)
        except GatewayUnavailableError as exc:
            return self._leave_unasked(refund, exc, uncalled=unanswered)
        if found:
            return self._by_evidence(refund, found, deadline)
        if refund.status is Status.PENDING:
            return self._not_shown(refund)
        if refund.amount_minor is None or not self.recorder.holds(refund):
            # It had ended before its record was lost, or its ledger was lost. Paying it now could
            # overdraw the payment.
            return self._review(refund, RECORD_LOST, "nothing is reserved for it any more")
        return self.call(refund, deadline, unanswered=unanswered or refund)

    def ask_then_review(self, refund: Refund, deadline: Deadline) -> Recorded | Later:
        """Settle by what the gateway shows. If it shows nothing, a person decides.

        For a refund that had ended and whose record was lost: the gateway is never called for it
        again.
        """
        try:
            found = self.evidence.search(refund, deadline)
        except GatewayUnavailableError as exc:
            return self._leave_unasked(refund, exc)
        if found:
            if is_live(found):
                self.recorder.hold_again(refund)
            return self._by_evidence(refund, found, deadline)
        return self._review(
            refund, RECORD_LOST, "the refund had ended before, and its record was lost"
        )

    def look_again(self, refund: Refund, deadline: Deadline) -> Recorded | Later:
        """Settle a refund in review if the gateway has an answer by now.

        Only its own clear evidence ends a review without a person: one refund, as it was asked for,
        paid or failed. Raises ``GatewayUnavailableError``.
        """
        found = self.evidence.search(refund, deadline)
        clear = (
            len(found) == 1
            and mismatch(refund, found[0]) is None
            and found[0].status is not GatewayStatus.PENDING
        )
        return self._by_evidence(refund, found, deadline) if clear else Recorded(refund)

    def call(  # noqa: PLR0911 - one line a kind of answer
        self, refund: Refund, deadline: Deadline, *, unanswered: Refund | None = None
    ) -> Recorded | Later:
        """Call the gateway, once, under our claim, and record what it says.

        ``unanswered``: the refund as an earlier attempt left it, which may have reached the
        gateway. A decline of this call is then no proof that no money moved (8).
        """
        try:
            gateway = self.evidence.gateway_of(refund)
        except GatewayUnavailableError as exc:
            return self._leave_unasked(refund, exc)
        within = deadline.within(gateway.timeout_seconds, reserve_seconds=FINISH_SECONDS)
        if within.left_seconds() < min(MIN_CALL_SECONDS, gateway.timeout_seconds / 2):
            return self._leave(refund, "too little time left for a call")
        answer = gateway.create_refund(
            _order(refund), within, not_after=_key_young_until(refund, gateway, deadline)
        )
        match answer:
            case Accepted(refund=shown):
                return self._by_evidence(refund, (shown,), deadline)
            case Declined():
                return self._after_decline(refund, answer, deadline, unanswered)
            case Retryable(reason=reason, retry_after_seconds=wait):
                return self._leave(refund, reason, wait, uncalled=unanswered)
            case Misconfigured(reason=why):
                left = self._leave(refund, f"misconfigured: {why.value}", uncalled=unanswered)
                return replace(left, misconfiguration=why.value)
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

    def _by_evidence(
        self, refund: Refund, found: Sequence[GatewayRefund], deadline: Deadline
    ) -> Recorded | Later:
        shown = found[0]
        if len(found) > 1:
            return self._review_counted(
                refund,
                deadline,
                shown,
                "gateway_duplicate",
                f"the gateway shows {len(found)} refunds of this id: {summary(found)}",
            )
        if different := mismatch(refund, shown):
            return self._review_counted(
                refund,
                deadline,
                shown,
                "gateway_mismatch",
                f"the gateway's refund has another {different}: {summary(found)}",
            )
        seen = {
            "gateway_refund_id": shown.gateway_refund_id,
            "gateway_trace": safe_text(shown.trace) or refund.gateway_trace,
            "balance_short_at": rfc3339(self._clock.now()) if shown.waits_for_balance else None,
        }
        match shown.status:
            case GatewayStatus.SUCCEEDED:
                return self.recorder.finish(refund, Status.SUCCEEDED, **seen)
            case GatewayStatus.FAILED:
                return self.recorder.finish(
                    refund,
                    Status.FAILED,
                    failure_code=safe_text(shown.failure_code) or "failed",
                    failure_message=safe_text(shown.failure_message),
                    **seen,
                )
            case GatewayStatus.PENDING:
                shown_at = rfc3339(self._clock.now())
                if refund.status is Status.PENDING:
                    short_at = seen["balance_short_at"]
                    shown_now = replace(refund, shown_at=shown_at, balance_short_at=short_at)
                    return self._still_open(shown_now, refund)
                return self.recorder.finish(refund, Status.PENDING, shown_at=shown_at, **seen)

    def _after_decline(
        self, refund: Refund, answer: Declined, deadline: Deadline, unanswered: Refund | None
    ) -> Recorded | Later:
        if unanswered is not None:
            try:
                found = self.evidence.search(refund, deadline)
            except GatewayUnavailableError as exc:
                return self._leave_unasked(refund, exc)
            if found:
                return self._by_evidence(refund, found, deadline)
            gateway = self.evidence.gateway_of(refund)
            if not gateway.remembers_declines and self._may_arrive(unanswered):
                reason = "declined, and an earlier call may still be on its way"
                return self._leave(refund, reason, uncalled=unanswered)
        result = self.recorder.finish(
            refund,
            Status.FAILED,
            failure_code=safe_text(answer.code),
            failure_message=safe_text(answer.message),
            balance_short_at=rfc3339(self._clock.now()) if answer.insufficient_funds else None,
        )
        if answer.over_balance and isinstance(result, Recorded):
            # Another system has refunded the payment. Update the ledger for later requests. If that
            # fails now, the next rejection counts again.
            with suppress(GatewayUnavailableError, BalanceContendedError):
                self.evidence.count_balance(result.refund, deadline)
        return result

    def _may_arrive(self, unanswered: Refund) -> bool:
        began_at = unanswered.called_at or unanswered.key_used_at
        assert began_at is not None
        return self._clock.now() - from_rfc3339(began_at) < CALL_UNDER_WAY_AT_MOST

    def _not_shown(self, refund: Refund) -> Recorded | Later:
        since = from_rfc3339(refund.shown_at or refund.open_since or refund.updated_at)
        if self._clock.now() - since < PENDING_UNSEEN:
            return self._still_open(refund, refund)
        return self._review(
            refund, GATEWAY_FORGOT, "the gateway said pending, and now shows no such refund"
        )

    def _review_counted(
        self, refund: Refund, deadline: Deadline, shown: GatewayRefund, code: str, message: str
    ) -> Recorded | Later:
        """A person decides, because the gateway moved money in another way than it was asked to.
        First that money is counted against the payment, so that no other refund can overdraw it
        (I2)."""
        try:
            self.evidence.count_balance(refund, deadline)
        except GatewayUnavailableError as exc:
            return self._leave_unasked(refund, exc)
        except BalanceContendedError:
            return self._leave(refund, "many refunds of this transaction at once")
        return self._review(refund, code, message, gateway_refund_id=shown.gateway_refund_id)

    def _review(
        self, refund: Refund, code: str, message: str, **seen: str | None
    ) -> Recorded | Later:
        """No safe automatic step is left. The money stays reserved until a person decides (I6)."""
        return self.recorder.finish(
            refund,
            Status.IN_REVIEW,
            failure_code=code,
            failure_message=short_text(message),
            **seen,
        )

    def _leave_unasked(
        self, refund: Refund, error: GatewayUnavailableError, uncalled: Refund | None = None
    ) -> Later:
        reason = f"look-up: {error}"
        left = self._leave(refund, reason, error.retry_after_seconds, uncalled=uncalled)
        if isinstance(error, GatewayMisconfiguredError):
            return replace(left, misconfiguration=error.reason.value)
        return left

    def _leave(
        self,
        refund: Refund,
        reason: str,
        delay_seconds: float | None = None,
        *,
        uncalled: Refund | None = None,
    ) -> Later:
        """Leave the refund unfinished: put it into the index of open refunds and end its lease
        (10).

        ``uncalled``: the refund as it was before this attempt, which has left no call unanswered.
        """
        left = replace(self.recorder.opened(refund, again=True), lease_until=None)
        if uncalled is not None:
            left = replace(left, called_at=uncalled.called_at)
        self._refunds.save(refund, left)
        return Later(reason, delay_seconds)

    def _still_open(self, refund: Refund, stored: Refund) -> Recorded | Later:
        left = replace(self.recorder.opened(refund, again=True), lease_until=None)
        self._refunds.save(stored, left)
        return Recorded(left)


def _order(refund: Refund) -> RefundOrder:
    assert refund.amount_minor is not None
    return RefundOrder(
        refund_id=refund.refund_id,
        transaction_id=refund.transaction_id,
        amount_minor=refund.amount_minor,
        currency=refund.currency,
        reason=refund.reason,
        reference=refund.reference,
        format=refund.order_format or 1,
    )


def _key_young_until(refund: Refund, gateway: Gateway, deadline: Deadline) -> datetime:
    assert refund.key_used_at is not None
    on_the_way = timedelta(seconds=gateway.timeout_seconds + deadline.left_seconds())
    return from_rfc3339(refund.key_used_at) + gateway.key_lifetime - on_the_way - KEY_MARGIN
