"""Holds a payment's money for a refund before the gateway is asked to move it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from refunds.domain.clock import Deadline
from refunds.domain.request import RefundRequest
from refunds.gateways.contract import (
    BALANCE_EXCEEDED,
    Gateway,
    Payment,
    PaymentStatus,
)
from refunds.gateways.routing import Gateways
from refunds.processing.balance import (
    Balance,
    BalanceContendedError,
    PaymentGoneError,
    is_named,
    read_payment,
    refunds_of,
)
from refunds.tables.ledger import Ledger, LedgerTable

RESERVE_TRIES = 8

PAYMENT_NOT_FOUND = "payment_not_found"
PAYMENT_NOT_CAPTURED = "payment_not_captured"
REFUNDABLE_MISMATCH = "refundable_mismatch"

MAY_PASS = frozenset({PAYMENT_NOT_FOUND, PAYMENT_NOT_CAPTURED})
"""Reasons that may end by themselves: the payment may be captured, or become visible, a moment
later."""


@dataclass(frozen=True)
class Reserved:
    """The amount that is now reserved. ``seen_at_gateway``: the payment shows refunds that the
    ledger did not have, so this one may be among them. ``adopted``: it is among them, or was and
    has failed."""

    amount_minor: int
    seen_at_gateway: bool = False
    adopted: bool = False


@dataclass(frozen=True)
class NotPossible:
    """A well-formed request that can't be done: ``code`` becomes the refund's failure code."""

    code: str
    message: str


@dataclass(frozen=True)
class Seen:
    """The ledger already has this refund, from another delivery of the request."""


@dataclass(frozen=True)
class Contended:
    """Others kept changing the ledger, or it is not clear yet what is left of the payment. Try
    again later."""


Answer = Reserved | NotPossible | Seen | Contended


class Reserver:
    def __init__(self, ledger: LedgerTable, gateways: Gateways, balance: Balance) -> None:
        self._ledger = ledger
        self._gateways = gateways
        self._balance = balance

    def reserve(
        self,
        request: RefundRequest,
        read: Ledger | None,
        deadline: Deadline,
        *,
        look_up_first: bool = False,
        forgotten_minor: Callable[[], int | None] | None = None,
    ) -> Answer:
        """Reserve the request's amount, or all that remains. ``read`` is the ledger that was just
        read.

        ``look_up_first``: the tables may have lost refunds, so a new ledger begins with what the
        gateway shows. ``forgotten_minor`` gives the amount of a refund that they have lost; None:
        the request's. Raises ``GatewayUnavailableError``.
        """
        if read is not None and request.refund_id in read.reservations:
            return Seen()
        forgotten_minor = forgotten_minor or (lambda: request.amount_minor)
        gateway = self._gateways.for_new(request.transaction_id)
        try:
            if read is not None and read.captured is not None:
                return self._from_ledger(request, read, gateway, deadline, forgotten_minor)
            return self._from_gateway(request, gateway, deadline, look_up_first, forgotten_minor)
        except PaymentGoneError:
            return NotPossible(PAYMENT_NOT_FOUND, "the gateway knows no such payment")
        except BalanceContendedError:
            return Contended()

    def is_listed(self, request: RefundRequest, deadline: Deadline) -> bool:
        """Whether the payment's refunds at the gateway include it, in any status: a refund that the
        bank sent back was paid before. In any stage, too: tables that were lost may have had
        another. Raises ``GatewayUnavailableError``."""
        gateway = self._gateways.for_new(request.transaction_id)
        return any(
            is_named(each, request.refund_id)
            for each in refunds_of(gateway, request.transaction_id, deadline)
        )

    def is_shown(self, request: RefundRequest, deadline: Deadline) -> bool:
        """As ``is_listed``, and by reference too: the payment's list may lag behind the look-up."""
        if self.is_listed(request, deadline):
            return True
        gateway = self._gateways.for_new(request.transaction_id)
        found = gateway.find_refunds(
            gateway.reference_for(request.refund_id),
            request.transaction_id,
            deadline.within(gateway.timeout_seconds),
        )
        return any(each.transaction_id == request.transaction_id for each in found)

    def _from_ledger(
        self,
        request: RefundRequest,
        ledger: Ledger,
        gateway: Gateway,
        deadline: Deadline,
        forgotten_minor: Callable[[], int | None],
    ) -> Answer:
        """The payment has a ledger. It accepts an amount that fits. Only the gateway can refuse
        one."""
        if not _depends_on_balance(request):
            answer = self._hold(request, ledger)
            if not (isinstance(answer, NotPossible) and answer.code == BALANCE_EXCEEDED):
                return answer
        return self._count_and_hold(request, gateway, deadline, forgotten_minor)

    def _from_gateway(  # noqa: PLR0911 - one return a case
        self,
        request: RefundRequest,
        gateway: Gateway,
        deadline: Deadline,
        look_up_first: bool,
        forgotten_minor: Callable[[], int | None],
    ) -> Answer:
        """The payment has no ledger yet. Ask the gateway for it."""
        payment = read_payment(gateway, request.transaction_id, deadline)
        if why := _not_refundable(payment, request.currency):
            return why
        # The payment may have refunds that no ledger of ours has: another system's, or ours from
        # lost tables.
        if payment.refunded_minor or look_up_first:
            seen = payment.refunded_minor > 0
            return self._count_and_hold(
                request, gateway, deadline, forgotten_minor, payment=payment, seen=seen
            )
        left = payment.refundable_minor
        amount = _amount_of(request, left)
        if isinstance(amount, NotPossible):
            return amount
        if self._ledger.open(
            request.transaction_id,
            captured_minor=payment.captured_minor,
            remaining_minor=left,
            currency=payment.currency,
            refund_id=request.refund_id,
            amount_minor=amount,
        ):
            return Reserved(amount)
        # Another delivery has created the ledger, for this refund or for another one.
        if (ledger := self._ledger.get(request.transaction_id)) is None:
            return Contended()
        if request.refund_id in ledger.reservations:
            return Seen()
        return self._from_ledger(request, ledger, gateway, deadline, forgotten_minor)

    def _count_and_hold(  # noqa: PLR0913 - the request and its payment
        self,
        request: RefundRequest,
        gateway: Gateway,
        deadline: Deadline,
        forgotten_minor: Callable[[], int | None],
        *,
        payment: Payment | None = None,
        seen: bool = False,
    ) -> Answer:
        """Count the payment at the gateway, then reserve."""
        counted = self._balance.count(
            request.transaction_id,
            request.refund_id,
            gateway,
            deadline,
            payment=payment,
            forgotten_minor=forgotten_minor,
        )
        if counted.adopted is not None:
            return Reserved(counted.adopted_minor, seen_at_gateway=True, adopted=True)
        if why := _not_refundable(counted.payment, request.currency):
            return why
        if counted.unclear_minor and _depends_on_balance(request):
            return Contended()
        answer = self._hold(request, None, seen=seen or counted.listed)
        if isinstance(answer, Reserved) and counted.listed:
            answer = replace(answer, adopted=True)
        if isinstance(answer, NotPossible) and (counted.unclear_minor or counted.listed_live):
            # An unclear amount counts as refunded. So an amount that fits now is safe, and one that
            # does not fit may fit later. What is paid under this id was not refused.
            return Contended()
        return answer

    def _hold(self, request: RefundRequest, ledger: Ledger | None, *, seen: bool = False) -> Answer:
        for _ in range(RESERVE_TRIES):
            ledger = ledger or self._ledger.get(request.transaction_id)
            if ledger is None or ledger.currency is None:
                return Contended()
            if request.refund_id in ledger.reservations:
                return Seen()
            if request.currency != ledger.currency:
                return _other_currency(request.currency, ledger.currency)
            remaining = ledger.remaining or 0
            amount = _amount_of(request, remaining)
            if isinstance(amount, NotPossible):
                return amount
            if self._ledger.reserve(
                request.transaction_id,
                request.refund_id,
                amount,
                # The amount depends on the balance, so it is reserved only if the balance has not
                # changed.
                remaining_minor=remaining if _depends_on_balance(request) else None,
            ):
                return Reserved(amount, seen_at_gateway=seen)
            ledger = None
        return Contended()


def _depends_on_balance(request: RefundRequest) -> bool:
    return request.amount_minor is None or request.expected_refundable_minor is not None


def _amount_of(request: RefundRequest, left_minor: int) -> int | NotPossible:
    """The amount to reserve, or why nothing can be reserved."""
    expected = request.expected_refundable_minor
    if expected is not None and expected != left_minor:
        return NotPossible(
            REFUNDABLE_MISMATCH,
            f"the sender expected {expected} to be refundable, it is {max(0, left_minor)}",
        )
    amount = request.amount_minor or left_minor
    if 0 < amount <= left_minor:
        return amount
    if request.amount_minor is None:
        return NotPossible("nothing_to_refund", "all of the payment is refunded or reserved")
    return NotPossible(BALANCE_EXCEEDED, "more than what is still refundable of the payment")


def _not_refundable(payment: Payment, currency: str) -> NotPossible | None:
    match payment.status:
        case PaymentStatus.DISPUTED:
            return NotPossible("payment_disputed", "the payment is disputed")
        case PaymentStatus.AUTHORIZED | PaymentStatus.VOIDED:
            return NotPossible(
                PAYMENT_NOT_CAPTURED, f"the payment is {payment.status}, not captured"
            )
    if payment.currency != currency:
        return _other_currency(currency, payment.currency)
    return None


def _other_currency(asked: str, paid: str) -> NotPossible:
    return NotPossible("currency_mismatch", f"asked for {asked}, the payment is in {paid}")
