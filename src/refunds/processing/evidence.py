"""What a refund's gateway shows of it: asks, compares, and puts it into words."""

from __future__ import annotations

from collections.abc import Sequence

from refunds.domain.card_numbers import redacted
from refunds.domain.clock import Deadline
from refunds.domain.money import Money
from refunds.domain.refund import ENDED_WITHOUT_MONEY, Refund, short_text
from refunds.gateways.contract import Gateway, GatewayRefund, GatewayStatus
from refunds.gateways.routing import Gateways
from refunds.processing.balance import Balance, PaymentGoneError, listed_under

FINISH_SECONDS = 5.0
"""Kept free after a call to the gateway for recording its answer."""

MAX_GATEWAY_TEXT_CHARACTERS = 2000
"""The longest text of a gateway that is searched. Searching a megabyte for card numbers takes
seconds."""


class Evidence:
    """Asks a refund's gateway. Nothing here calls it to pay, and nothing changes the refund."""

    def __init__(self, gateways: Gateways, balance: Balance) -> None:
        self._gateways = gateways
        self._balance = balance

    def gateway_of(self, refund: Refund) -> Gateway:
        """The gateway and the account that the refund began with."""
        return self._gateways.named(refund.gateway, refund.gateway_account)

    def look_up(self, refund: Refund, deadline: Deadline) -> Sequence[GatewayRefund]:
        """The refunds that the gateway has under the refund's reference. Raises
        ``GatewayUnavailableError``."""
        gateway = self.gateway_of(refund)
        within = deadline.within(gateway.timeout_seconds, reserve_seconds=FINISH_SECONDS)
        return gateway.find_refunds(refund.reference, refund.transaction_id, within)

    def search(self, refund: Refund, deadline: Deadline) -> Sequence[GatewayRefund]:
        """As ``look_up``. If that shows nothing, the payment's list is read: a look-up by reference
        may lag behind it, or never show the refund.

        For every decision but a call, which the key protects. Raises ``GatewayUnavailableError``.
        """
        if found := self.look_up(refund, deadline):
            return found
        in_time = deadline.within(deadline.left_seconds(), reserve_seconds=FINISH_SECONDS)
        gateway = self.gateway_of(refund)
        return listed_under(gateway, refund.transaction_id, refund.reference, in_time)

    def is_at_gateway(self, refund: Refund, deadline: Deadline) -> bool:
        """Whether the gateway shows the refund as paid or pending. Raises
        ``GatewayUnavailableError``."""
        return is_live(self.search(refund, deadline))

    def count_balance(self, refund: Refund, deadline: Deadline) -> None:
        """Update the payment's ledger to what the gateway shows.

        Raises ``GatewayUnavailableError``, ``BalanceContendedError``.
        """
        try:
            in_time = deadline.within(deadline.left_seconds(), reserve_seconds=FINISH_SECONDS)
            self._balance.count(
                refund.transaction_id,
                refund.refund_id,
                self.gateway_of(refund),
                in_time,
                ended=refund.status in ENDED_WITHOUT_MONEY,
            )
        except PaymentGoneError:
            return  # The payment is gone: no more of it can be refunded, so it can't be overdrawn.


def is_live(found: Sequence[GatewayRefund]) -> bool:
    """Whether one of them is paid or pending."""
    return any(each.status is not GatewayStatus.FAILED for each in found)


def mismatch(refund: Refund, shown: GatewayRefund) -> str | None:
    """How the gateway's refund differs from the one that was asked for; None if it doesn't."""
    if (shown.gateway_reference or shown.refund_id) != refund.reference:
        return "reference"
    if shown.transaction_id != refund.transaction_id:
        return "transaction"
    if (shown.amount_minor, shown.currency) != (refund.amount_minor, refund.currency):
        return "amount"
    return None


def summary(found: Sequence[GatewayRefund]) -> str:
    """The gateway's refunds in a line."""
    return ", ".join(
        f"{safe_text(each.gateway_refund_id)} {Money(each.amount_minor, each.currency)} "
        f"{each.status}"
        for each in found[:3]
    )


def safe_text(text: str | None) -> str | None:
    """A gateway's text, shortened and without card numbers."""
    return short_text(redacted(text[:MAX_GATEWAY_TEXT_CHARACTERS])) if text else None
