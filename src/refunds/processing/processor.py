"""One request from the queue: reserve, claim, call, finish.

Each step is one conditional write and a place to go on from after a crash; docs/protocol.md says
why. Nothing here knows of SQS or Lambda.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from refunds.domain.clock import Clock, Deadline, rfc3339
from refunds.domain.refund import Refund, Status
from refunds.domain.request import ErrorCode, RefundRequest, RefusedError
from refunds.gateways.contract import GatewayUnavailableError
from refunds.gateways.routing import Gateways
from refunds.processing.recorder import Later, Recorded
from refunds.processing.reserver import Contended, NotPossible, Reserved, Reserver, Seen
from refunds.processing.settler import Settler
from refunds.tables.audit_trail import AuditTable
from refunds.tables.ledger import LedgerTable
from refunds.tables.refunds import RefundsTable

MIN_START_SECONDS = 10.0
"""With less than this left of the invocation no request is begun; it goes back at once."""


class Processor:
    def __init__(
        self,
        *,
        refunds: RefundsTable,
        ledger: LedgerTable,
        audit: AuditTable,
        reserver: Reserver,
        settler: Settler,
        gateways: Gateways,
        clock: Clock,
    ) -> None:
        self._refunds = refunds
        self._ledger = ledger
        self._audit = audit
        self._reserver = reserver
        self._settler = settler
        self._gateways = gateways
        self._clock = clock

    def process(
        self, request: RefundRequest, deadline: Deadline, *, look_up_first: bool = False
    ) -> Recorded | Later:
        """Bring one request as far as it goes now.

        ``look_up_first``: a restore may have made the tables forget; see ``tables.state``.
        Raises ``RefusedError`` when its refund id belongs to another request; whatever else is
        raised means: not settled, come back.
        """
        if deadline.left_seconds() < MIN_START_SECONDS:
            return Later("too little time left to begin")
        try:
            return self._process(request, deadline, look_up_first)
        except GatewayUnavailableError as exc:
            return Later(str(exc), exc.retry_after_seconds)

    def _process(
        self, request: RefundRequest, deadline: Deadline, look_up_first: bool
    ) -> Recorded | Later:
        ledger = self._ledger.get(request.transaction_id)
        if ledger and request.refund_id in ledger.reservations:
            return self._seen_before(request, deadline)
        match self._reserver.reserve(request, ledger, deadline):
            case Seen():
                return self._seen_before(request, deadline)
            case Contended():
                return Later("many refunds of this transaction at once")
            case NotPossible(code=code, message=message):
                return self._reject(request, code, message, deadline)
            case Reserved(amount_minor=amount, seen_at_gateway=seen):
                return self._claim(request, amount, deadline, ask_first=seen or look_up_first)

    def _seen_before(self, request: RefundRequest, deadline: Deadline) -> Recorded | Later:
        """The ledger knows this refund id: a duplicate, or what a crash left behind."""
        if there := self._refunds.get(request.refund_id):
            return self._resume(request, there, deadline)
        ledger = self._ledger.get(request.transaction_id)
        held = ledger.reservations.get(request.refund_id) if ledger else None
        if not ledger or held is None:
            return Later("the reservation has gone")
        if held == 0:
            # It ended, and a hand has removed its record: paying "again" is for a person.
            return Later("released without a refund")
        if request.amount_minor not in (None, held) or request.currency != ledger.currency:
            raise _conflict()
        return self._claim(request, held, deadline, ask_first=True)

    def _claim(
        self,
        request: RefundRequest,
        amount_minor: int,
        deadline: Deadline,
        *,
        ask_first: bool,
    ) -> Recorded | Later:
        refund = self._draft(
            request,
            Status.PROCESSING,
            amount_minor=amount_minor,
            key_used_at=rfc3339(self._clock.now()),
            **self._settler.new_lease(deadline),
        )
        if ask_first and (last := self._audit.latest(request.transaction_id, request.refund_id)):
            # A refund that was removed by hand or by a restore: its chain goes on.
            refund = replace(
                refund,
                version=last["version"] + 1,
                previous_hash=last["entry_hash"],
                gateway=last["details"]["gateway"],
            )
        there = self._refunds.put_new(refund)
        if there is not None:
            return self._resume(request, there, deadline)
        if ask_first:
            return self._settler.ask_then_call(refund, deadline)
        return self._settler.call(refund, deadline, called_before=False)

    def _reject(
        self, request: RefundRequest, code: str, message: str, deadline: Deadline
    ) -> Recorded | Later:
        refund = self._draft(
            request,
            Status.REJECTED,
            amount_minor=request.amount_minor,
            failure_code=code,
            failure_message=message,
            attempt_token=self._settler.new_lease(deadline)["attempt_token"],
        )
        there = self._refunds.put_new(refund)
        if there is not None:
            return self._resume(request, there, deadline)
        return self._settler.give_back(refund)

    def _resume(
        self, request: RefundRequest, refund: Refund, deadline: Deadline
    ) -> Recorded | Later:
        """The refund id has a refund: whose is it, and how far has it come?"""
        self._settler.give_back_unused(refund, request.transaction_id)
        if not request.has_fingerprint(refund.fingerprint):
            raise _conflict()
        if refund.status is not Status.PROCESSING:
            return Recorded(refund)
        if left := self._settler.lease_left_seconds(refund):
            return Later("another attempt is at work", left)
        return self._settler.take_over(refund, deadline)

    def _draft(self, request: RefundRequest, status: Status, **more: Any) -> Refund:
        now = rfc3339(self._clock.now())
        return Refund(
            **request.recorded_fields(),
            **more,
            status=status,
            processed_by=self._settler.processed_by,
            gateway=self._gateways.for_new(request.transaction_id).name,
            created_at=now,
            updated_at=now,
            version=1,
            fingerprint=request.fingerprint(),
        )


def _conflict() -> RefusedError:
    return RefusedError(
        ErrorCode.IDEMPOTENCY_CONFLICT,
        "refund_id: already used by a request with other contents; a new refund needs a new one",
    )
