"""A gateway in memory for the unit tests."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from tests.support.builders import payment

from refunds.domain.clock import Deadline
from refunds.gateways.contract import (
    Accepted,
    Answer,
    GatewayRefund,
    GatewayStatus,
    GatewayUnavailableError,
    Payment,
    RefundOrder,
    RefundPage,
)


class FakeGateway:
    """A gateway in memory.

    The next calls of ``create_refund`` return ``answers``, in order; an answer that is a function
    is called with the order.
    """

    name = "flair"
    key_lifetime = timedelta(hours=24)
    account = "https://flair.example"
    remembers_declines = True
    shows_refunds = True
    look_up_lag = timedelta(0)
    can_reverse = True
    body_format = 1
    timeout_seconds = 15.0

    def __init__(self) -> None:
        self.payments: dict[str, Payment] = {"payment-1": payment()}
        self.refunds: list[GatewayRefund] = []
        self.answers: list[Answer | Callable[[RefundOrder], Answer]] = []
        self.orders: list[RefundOrder] = []
        self.not_after: datetime | None = None
        self.calls: list[str] = []
        self.down = False
        self.on_call: Callable[[str], None] = lambda name: None
        self.page_size = 100
        self.unreadable = 0
        self.expired_cursors: set[str] = set()
        self.unlisted: set[str] = set()
        """Gateway ids that look-ups show and lists do not show yet."""

    def _called(self, name: str) -> None:
        self.calls.append(name)
        self.on_call(name)
        if self.down:
            raise GatewayUnavailableError("HTTP 503", 7.0)

    def reference_for(self, refund_id: str) -> str:
        return refund_id

    def get_payment(self, transaction_id: str, deadline: Deadline) -> Payment | None:
        self._called("get_payment")
        return self.payments.get(transaction_id)

    def create_refund(
        self, order: RefundOrder, deadline: Deadline, *, not_after: datetime
    ) -> Answer:
        self.calls.append("create_refund")
        self.on_call("create_refund")
        self.orders.append(order)
        self.not_after = not_after
        if self.answers:
            answer = self.answers.pop(0)
            return answer(order) if callable(answer) else answer
        return Accepted(self.move(order))

    def move(
        self, order: RefundOrder, status: GatewayStatus = GatewayStatus.SUCCEEDED
    ) -> GatewayRefund:
        """Move the money, at most once for a reference."""
        for there in self.refunds:
            if there.gateway_reference == order.reference:
                return there
        made = GatewayRefund(
            gateway_refund_id=f"gw-{len(self.refunds) + 1}",
            transaction_id=order.transaction_id,
            refund_id=order.refund_id,
            gateway_reference=order.reference,
            amount_minor=order.amount_minor,
            currency=order.currency,
            status=status,
        )
        self.refunds.append(made)
        return made

    def find_refunds(
        self, reference: str, transaction_id: str, deadline: Deadline
    ) -> tuple[GatewayRefund, ...]:
        self._called("find_refunds")
        return tuple(each for each in self.refunds if each.gateway_reference == reference)

    def list_refunds(
        self,
        deadline: Deadline,
        *,
        transaction_id: str | None = None,
        created_from: datetime | None = None,
        cursor: str | None = None,
    ) -> RefundPage:
        self._called("list_refunds")
        if cursor in self.expired_cursors:
            raise GatewayUnavailableError("HTTP 400")
        listed = [
            each
            for each in self.refunds
            if transaction_id in (None, each.transaction_id)
            and each.gateway_refund_id not in self.unlisted
        ]
        start = int(cursor or 0)
        end = start + self.page_size
        next_cursor = str(end) if end < len(listed) else None
        return RefundPage(tuple(listed[start:end]), next_cursor, self.unreadable)
