"""Holding a transaction's money for a refund before anyone is asked to move it.

Everything that the ledger doesn't know it learns from the gateway: the payment, and refunds that
others made.
"""

from __future__ import annotations

from dataclasses import dataclass

from refunds.domain.clock import Deadline
from refunds.domain.request import RefundRequest
from refunds.gateways.contract import (
    BALANCE_EXCEEDED,
    Gateway,
    GatewayRefund,
    GatewayStatus,
    GatewayUnavailableError,
    Payment,
    PaymentStatus,
)
from refunds.gateways.routing import Gateways
from refunds.tables.ledger import Ledger, LedgerTable

RESERVE_TRIES = 8
MAX_REFUND_PAGES = 50
"""Pages of 100 of one transaction's refunds that are read before giving up."""


@dataclass(frozen=True)
class Reserved:
    """The amount now held. ``seen_at_gateway``: the gateway already had a refund of this id."""

    amount_minor: int
    seen_at_gateway: bool = False


@dataclass(frozen=True)
class NotPossible:
    """A well-formed request that can't be done: ``code`` becomes the refund's failure code."""

    code: str
    message: str


@dataclass(frozen=True)
class Seen:
    """The ledger already has this refund: another delivery of the request was here."""


@dataclass(frozen=True)
class Contended:
    """Others kept changing the ledger; try again later."""


class Reserver:
    def __init__(self, ledger: LedgerTable, gateways: Gateways) -> None:
        self._ledger = ledger
        self._gateways = gateways

    def reserve(
        self, request: RefundRequest, read: Ledger | None, deadline: Deadline
    ) -> Reserved | NotPossible | Seen | Contended:
        """Hold the request's amount (or all that remains). ``read`` is the ledger just read.

        Raises ``GatewayUnavailableError``.
        """
        transaction_id, refund_id = request.transaction_id, request.refund_id
        gateway = self._gateways.for_new(transaction_id)
        counted = False
        for attempt in range(RESERVE_TRIES):
            ledger = read if attempt == 0 else self._ledger.get(transaction_id)
            if ledger is not None and refund_id in ledger.reservations:
                return Seen()
            if ledger is None or ledger.captured is None:
                if (payment := _payment(gateway, transaction_id, deadline)) is None:
                    return NotPossible("payment_not_found", "the gateway knows no such payment")
                if why := _not_refundable(payment, request.currency):
                    return why
                left = payment.refundable_minor
                amount = request.amount_minor or left
                if 0 < amount <= left:
                    if self._ledger.open(
                        transaction_id,
                        captured_minor=payment.captured_minor,
                        remaining_minor=left,
                        currency=payment.currency,
                        refund_id=refund_id,
                        amount_minor=amount,
                    ):
                        return Reserved(amount)
                    continue
            else:
                if request.currency != ledger.currency:
                    return _other_currency(request.currency, str(ledger.currency))
                left = ledger.remaining or 0
                amount = request.amount_minor or left
                if 0 < amount <= left:
                    hold = (
                        self._ledger.reserve if request.amount_minor else self._ledger.reserve_all
                    )
                    if hold(transaction_id, refund_id, amount):
                        return Reserved(amount)
                    continue
            if counted:
                return _nothing_left(request)
            # Before rejecting for the balance: the ledger may be behind what others did.
            answer = self.recount(transaction_id, refund_id, deadline, gateway=gateway)
            if isinstance(answer, GatewayRefund):
                return Reserved(request.amount_minor or answer.amount_minor, seen_at_gateway=True)
            if isinstance(answer, Payment):
                counted = True
                if why := _not_refundable(answer, request.currency):
                    return why
        return Contended()

    def recount(
        self, transaction_id: str, refund_id: str, deadline: Deadline, *, gateway: Gateway
    ) -> Payment | GatewayRefund | None:
        """Bring the ledger up to the gateway: payment first, then its refunds, **then** the ledger.

        In that order a refund of ours that starts meanwhile counts as reserved, never as missing.
        Returns the payment; or the refund that the gateway already has under ``refund_id`` and
        the ledger had not, now held; or None when the ledger changed meanwhile.
        Raises ``GatewayUnavailableError``.
        """
        payment = _payment(gateway, transaction_id, deadline)
        if payment is None:
            raise GatewayUnavailableError("the gateway no longer shows a payment it had")
        at_gateway = _refunds_of(gateway, transaction_id, deadline)
        ledger = self._ledger.get(transaction_id) or Ledger(transaction_id)
        moved = [each for each in at_gateway if each.status is not GatewayStatus.FAILED]
        foreign = sum(
            each.amount_minor for each in moved if ledger.reservations.get(each.reference, 0) <= 0
        )
        reserved = sum(ledger.reservations.values())
        remaining = payment.captured_minor - payment.disputed_minor - foreign - reserved
        ours = next((each for each in moved if each.reference == refund_id), None)
        adopt = ours if ours and refund_id not in ledger.reservations else None
        # An adopted refund's amount is already off ``remaining``, as foreign.
        done = self._ledger.recount(
            ledger,
            captured_minor=payment.captured_minor,
            remaining_minor=remaining,
            currency=payment.currency,
            adopt=(refund_id, adopt.amount_minor) if adopt else None,
        )
        if not done:
            return None
        return adopt or payment


def _payment(gateway: Gateway, transaction_id: str, deadline: Deadline) -> Payment | None:
    return gateway.get_payment(transaction_id, deadline.within(gateway.timeout_seconds))


def _refunds_of(gateway: Gateway, transaction_id: str, deadline: Deadline) -> list[GatewayRefund]:
    found: list[GatewayRefund] = []
    cursor: str | None = None
    for _ in range(MAX_REFUND_PAGES):
        page = gateway.list_refunds(
            deadline.within(gateway.timeout_seconds),
            transaction_id=transaction_id,
            cursor=cursor,
        )
        found += page.refunds
        if (cursor := page.next_cursor) is None:
            return found
    raise RuntimeError(f"more than {MAX_REFUND_PAGES} pages of refunds of one transaction")


def _not_refundable(payment: Payment, currency: str) -> NotPossible | None:
    match payment.status:
        case PaymentStatus.DISPUTED:
            return NotPossible("payment_disputed", "the payment is disputed")
        case PaymentStatus.AUTHORIZED | PaymentStatus.VOIDED:
            return NotPossible(
                "payment_not_captured", f"the payment is {payment.status}, not captured"
            )
    if payment.currency != currency:
        return _other_currency(currency, payment.currency)
    return None


def _other_currency(asked: str, paid: str) -> NotPossible:
    return NotPossible("currency_mismatch", f"asked for {asked}, the payment is in {paid}")


def _nothing_left(request: RefundRequest) -> NotPossible:
    if request.amount_minor is None:
        return NotPossible("nothing_to_refund", "all of the payment is refunded or reserved")
    return NotPossible(BALANCE_EXCEEDED, "more than what is still refundable of the payment")
