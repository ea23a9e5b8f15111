"""One request from the queue: reserve, claim, call, finish.

Each step is one conditional write. After a crash, the next attempt continues from the stored state.
docs/protocol.md says why. Nothing here knows of SQS or Lambda.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from refunds.breaker.kill_switch import STOPPED_SECONDS, StoppedError
from refunds.domain.clock import Clock, Deadline, rfc3339
from refunds.domain.limits import DAY
from refunds.domain.refund import ENDED_WITHOUT_MONEY, Refund, Status
from refunds.domain.request import (
    ErrorCode,
    RefundRequest,
    RefusedError,
    idempotency_conflict,
)
from refunds.gateways.contract import GatewayMisconfiguredError, GatewayUnavailableError
from refunds.gateways.routing import Gateways
from refunds.processing.delivery import NOTHING_KNOWN, Delivery
from refunds.processing.limit_checks import CountersContendedError, LimitChecks, Over
from refunds.processing.lost_records import LostRecords, continue_chain
from refunds.processing.recorder import Later, Recorded
from refunds.processing.reserver import MAY_PASS, Contended, NotPossible, Reserved, Reserver, Seen
from refunds.processing.settler import LONG_AGO, Settler
from refunds.tables.ledger import Ledger, LedgerTable
from refunds.tables.refunds import RefundsTable

MIN_START_SECONDS = 10.0
"""With less than this left of the invocation, no request is started. It goes back to the queue at
once."""


class Processor:
    """``not_ready_for``: how long after it was sent a request waits for a payment that is not
    captured, or not visible, yet."""

    def __init__(  # noqa: PLR0913 - its parts, each by keyword
        self,
        *,
        refunds: RefundsTable,
        ledger: LedgerTable,
        lost: LostRecords,
        reserver: Reserver,
        settler: Settler,
        limits: LimitChecks,
        gateways: Gateways,
        clock: Clock,
        not_ready_for: timedelta = timedelta(0),
    ) -> None:
        self._refunds = refunds
        self._ledger = ledger
        self._lost = lost
        self._reserver = reserver
        self._settler = settler
        self._limits = limits
        self._gateways = gateways
        self._clock = clock
        self._not_ready_for = not_ready_for

    def process(
        self, request: RefundRequest, deadline: Deadline, delivery: Delivery = NOTHING_KNOWN
    ) -> Recorded | Later:
        """Process one request as far as possible now.

        Raises ``RefusedError`` when its refund id belongs to another request. Any other exception
        means that it is not settled and must be delivered again.
        """
        if deadline.left_seconds() < MIN_START_SECONDS:
            return Later("too little time left to begin")
        try:
            return self._process(request, deadline, delivery)
        except GatewayMisconfiguredError as exc:
            return Later(str(exc), exc.retry_after_seconds, misconfiguration=exc.reason.value)
        except GatewayUnavailableError as exc:
            return Later(str(exc), exc.retry_after_seconds)
        except CountersContendedError:
            return Later("many refunds are counted at once")
        except StoppedError as exc:
            return Later(str(exc), STOPPED_SECONDS)

    def resume_reserved(self, request: RefundRequest, deadline: Deadline) -> Refund | None:
        """Turn a reservation whose message is leaving the queues into a refund that the reconciler
        finds. Returns the refund, or None when the ledger holds nothing for it.

        Without its message, nothing else would continue a request that was reserved but never
        claimed.
        """
        if (there := self._refunds.get(request.refund_id)) is not None:
            return there
        ledger = self._ledger.get(request.transaction_id)
        held = ledger.reservations.get(request.refund_id, 0) if ledger else 0
        if ledger is None or held <= 0 or not _fits(request, held, ledger.currency):
            return None
        last = self._lost.last_entry(request)
        try:
            known = self._lost.rebuilt(request, last) if last else None
        except RefusedError:
            return None  # another request's; its own message or a person handles it
        if known is not None:
            return self._refunds.put_new(known) or known
        refund = self._draft(request, Status.PROCESSING, amount_minor=held)
        refund = replace(
            refund,
            key_used_at=refund.created_at,
            attempt_token=self._settler.new_token(),
        )
        adopted = last is None and self._reserver.is_listed(request, deadline)
        if adopted:
            refund = replace(refund, key_used_at=LONG_AGO)
        if last:
            refund = continue_chain(refund, last)
            if last.get("status") not in (Status.PROCESSING, Status.PENDING):
                refund = replace(refund, key_used_at=LONG_AGO)  # it had ended: never called again
        admitted = self._admit(refund, adopted=adopted, message_goes=True)
        opened = self._settler.recorder.opened(admitted)
        return self._refunds.put_new(opened) or opened

    def give_back_unused(
        self, refund: Refund, request: RefundRequest, deadline: Deadline, *, adopted: bool = False
    ) -> str | None:
        """Release money that ``request`` may hold without need: the refund of its id has ended
        without money, or is another payment's.

        The requested payment may also have a refund of this id, whose record was lost: its audit
        trail or the gateway knows it. Money that is held for that refund stays held. ``adopted``:
        the gateway has shown it to this attempt. Returns what is known of it, or None. Raises
        ``GatewayUnavailableError``.
        """
        if refund.transaction_id != request.transaction_id:
            last = self._lost.last_entry(request)
            if last is not None and last.get("status") not in ENDED_WITHOUT_MONEY:
                return str(last.get("status"))
            ledger = self._ledger.get(request.transaction_id)
            held = ledger.reservations.get(request.refund_id, 0) if ledger else 0
            if held and (adopted or self._reserver.is_shown(request, deadline)):
                return "the gateway shows it"
        self._settler.recorder.give_back_unused(refund, request.transaction_id)
        return None

    def _process(
        self, request: RefundRequest, deadline: Deadline, delivery: Delivery
    ) -> Recorded | Later:
        # The ledger may have changed since the batch began. A reservation succeeds only on the
        # current ledger. If it fails, the ledger is read again.
        read = delivery.read
        ledger = read.ledger if read else self._ledger.get(request.transaction_id)
        if ledger and request.refund_id in ledger.reservations:
            return self._seen_before(request, deadline, delivery)
        look_up_first = delivery.look_up_first or _may_have_forgotten(ledger)
        delivery = replace(delivery, look_up_first=look_up_first)
        asked = request
        if delivery.look_up_first and (known := self._lost.last_known(request)) is not None:
            # Reserve the amount that the trail has for it, and nothing for another request of its
            # id.
            asked = request.model_copy(update={"amount_minor": known.amount_minor})
        answer = self._reserver.reserve(
            asked,
            ledger,
            deadline,
            look_up_first=delivery.look_up_first,
            forgotten_minor=lambda: self._lost.amount_minor(request),
        )
        match answer:
            case Seen():
                return self._seen_before(request, deadline, delivery)
            case Contended():
                return Later("it is not clear yet what is left of the payment")
            case NotPossible(code=code) if code in MAY_PASS and self._may_pass(request, delivery):
                return Later(f"{code}: the payment may still change")
            case NotPossible():
                return self._reject(request, answer, deadline, delivery)
            case Reserved(amount_minor=amount, seen_at_gateway=seen, adopted=adopted):
                if request.amount_minor not in (None, amount):
                    raise idempotency_conflict()  # the trail has the refund with another amount
                ask_first = seen or delivery.look_up_first
                if delivery.look_up_first and ledger and not seen:
                    # The ledger may have begun with another refund, after this one was paid.
                    adopted = self._reserver.is_listed(request, deadline)
                return self._claim(
                    request, amount, deadline, delivery, ask_first=ask_first, adopted=adopted
                )

    def _seen_before(
        self, request: RefundRequest, deadline: Deadline, delivery: Delivery
    ) -> Recorded | Later:
        """The ledger has this refund id: the message is a duplicate, or an attempt crashed."""
        if there := self._refunds.get(request.refund_id):
            return self._resume(request, there, deadline)
        ledger = self._ledger.get(request.transaction_id)
        held = ledger.reservations.get(request.refund_id) if ledger else None
        if ledger is None or held is None:
            return Later("the reservation no longer exists")
        if held and not _fits(request, held, ledger.currency):
            raise idempotency_conflict()
        amount = held or request.amount_minor or 0
        # An attempt that adopted it may have died before its claim, or its record was lost.
        adopted = self._reserver.is_listed(request, deadline)
        return self._claim(
            request,
            amount,
            deadline,
            delivery,
            ask_first=True,
            may_call=bool(held),
            adopted=adopted,
        )

    def _claim(  # noqa: PLR0913 - the request, its reservation and what is known of both
        self,
        request: RefundRequest,
        amount_minor: int,
        deadline: Deadline,
        delivery: Delivery,
        *,
        ask_first: bool,
        may_call: bool = True,
        adopted: bool = False,
    ) -> Recorded | Later:
        """Claim the refund and continue it. ``may_call`` False: it had ended, and its record is
        lost. Only a person may decide to pay it again. ``adopted``: the gateway has shown it
        before, so its key is no longer used, even if the gateway no longer shows it."""
        lease = self._settler.new_lease(deadline)
        now = rfc3339(self._clock.now())
        refund = self._draft(
            request,
            Status.PROCESSING,
            at=now,
            amount_minor=amount_minor or None,
            attempt_token=lease.token,
            lease_until=lease.until,
            key_used_at=LONG_AGO if adopted else now,
        )
        if ask_first and (last := self._lost.last_entry(request)):
            if (known := self._lost.rebuilt(request, last)) is not None:
                # Its record was lost but its trail was not, so it continues from the trail.
                there = self._refunds.put_new(known)
                return self._resume(request, there or known, deadline)
            refund = continue_chain(refund, last)
            may_call = may_call and last.get("status") in (Status.PROCESSING, Status.PENDING)
        if not may_call:
            refund = replace(refund, key_used_at=LONG_AGO)  # no later attempt calls it either
        else:
            refund = self._admit(refund, deadline if ask_first else None, adopted=adopted)
        if delivery.is_old(self._clock.now()):
            refund = self._settler.recorder.opened(refund)
        there = self._refunds.put_new(refund)
        if there is not None:
            return self._resume(request, there, deadline, adopted=adopted)
        if refund.status is Status.AWAITING_APPROVAL:
            return Recorded(refund)
        if not may_call:
            return self._settler.ask_then_review(refund, deadline)
        if ask_first:
            return self._settler.ask_then_call(refund, deadline)
        return self._settler.call(refund, deadline)

    def _admit(
        self,
        refund: Refund,
        ask_within: Deadline | None = None,
        *,
        adopted: bool = False,
        message_goes: bool = False,
    ) -> Refund:
        """The refund as it may be claimed: counted against its limits, or waiting for approval.

        ``ask_within``: the refund may have been paid before, so the gateway is asked before a
        person is. ``adopted``: the gateway has shown it already, so no approval can hold it back.
        ``message_goes``: its message can't wait until a person resumes, so it waits for approval
        instead. Raises ``GatewayUnavailableError``, ``CountersContendedError``, ``StoppedError``.
        """
        try:
            admitted = self._limits.admit(refund)
        except StoppedError:
            if not message_goes:
                raise
            admitted = Over(DAY, (self._limits.limits.stop_above or {}).get(refund.currency, 0))
        if not isinstance(admitted, Over):
            return admitted
        if adopted or (
            ask_within is not None and self._settler.evidence.is_at_gateway(refund, ask_within)
        ):
            return replace(refund, key_used_at=LONG_AGO)
        waiting = self._settler.recorder.opened(self._limits.waiting(refund, admitted))
        # Nothing is sent before the approval. Only if it continues an earlier chain may it have
        # been sent.
        return waiting if refund.version > 1 else replace(waiting, key_used_at=None)

    def _reject(
        self, request: RefundRequest, why: NotPossible, deadline: Deadline, delivery: Delivery
    ) -> Recorded | Later:
        message = why.message
        if why.code in MAY_PASS and self._not_ready_for and delivery.sent_at is not None:
            message += f", {int(self._not_ready_for.total_seconds())} s after the request"
        refund = self._draft(
            request,
            Status.REJECTED,
            amount_minor=request.amount_minor,
            failure_code=why.code,
            failure_message=message,
            attempt_token=self._settler.new_token(),
        )
        last = self._lost.last_entry(request)
        known = self._lost.rebuilt(request, last) if last else None
        if known is not None:
            refund = known
        elif last and Status(last["status"]) not in ENDED_WITHOUT_MONEY:
            # It may have been paid before its record was removed.
            return self._claim(
                request,
                last["details"].get("amount_minor") or request.amount_minor or 0,
                deadline,
                delivery,
                ask_first=True,
                may_call=False,
            )
        elif found := self._settler.evidence.look_up(refund, deadline):
            if any(each.transaction_id != request.transaction_id for each in found):
                raise idempotency_conflict()  # another payment's refund, whose record was lost
            # Tables and trail no longer have it, and the payment can't be refunded any more.
            return Later(f"{why.code}, and the gateway shows a refund of this id")
        elif last:
            refund = continue_chain(refund, last)
        there = self._refunds.put_new(refund)
        if there is not None:
            return self._resume(request, there, deadline)
        if refund.status is not Status.REJECTED:
            return self._resume(request, refund, deadline)
        return self._settler.recorder.give_back(refund)

    def _resume(
        self, request: RefundRequest, refund: Refund, deadline: Deadline, *, adopted: bool = False
    ) -> Recorded | Later:
        """The refund id has a refund. Find out whose it is and how far it has come, and continue
        it."""
        if lost := self.give_back_unused(refund, request, deadline, adopted=adopted):
            raise _namesake(lost)
        if not request.has_fingerprint(refund.fingerprint):
            raise idempotency_conflict()
        if refund.status is not Status.PROCESSING:
            return Recorded(refund)
        if left := self._settler.lease_left_seconds(refund):
            return Later("another attempt is at work", left)
        return self._settler.take_over(refund, deadline)

    def _draft(
        self, request: RefundRequest, status: Status, *, at: str | None = None, **more: Any
    ) -> Refund:
        now = at or rfc3339(self._clock.now())
        gateway = self._gateways.for_new(request.transaction_id)
        order_format = gateway.body_format
        return Refund(
            **request.recorded_fields(),
            **more,
            status=status,
            processed_by=self._settler.recorder.processed_by,
            gateway=gateway.name,
            gateway_account=gateway.account,
            gateway_reference=gateway.reference_for(request.refund_id),
            order_format=order_format if order_format > 1 else None,
            created_at=now,
            updated_at=now,
            version=1,
            fingerprint=request.fingerprint(),
        )

    def _may_pass(self, request: RefundRequest, delivery: Delivery) -> bool:
        if delivery.sent_at is None:
            return False
        return self._clock.now() - delivery.sent_at < self._not_ready_for


def _may_have_forgotten(ledger: Ledger | None) -> bool:
    """Whether the payment shows a refund that its ledger has never held. It may be any request's:
    the ledger may have begun for another refund after tables were lost."""
    return ledger is not None and ledger.moved_unreserved_minor > 0


def _fits(request: RefundRequest, held_minor: int, currency: str | None) -> bool:
    return request.amount_minor in (None, held_minor) and request.currency == currency


def _namesake(known: str) -> RefusedError:
    return RefusedError(
        ErrorCode.IDEMPOTENCY_CONFLICT,
        "refund_id: its record is of a request for another payment, and this payment has a refund "
        f"of this id too ({known}), whose record was lost. See the runbook, DeadLetters",
    )
