"""One refund as its gateway shows it, compared with ours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from refunds.domain.refund import Item, Status
from refunds_ops.amounts import amount_text

if TYPE_CHECKING:
    from refunds.gateways.contract import GatewayRefund, Payment
    from refunds_ops.stack.stack import Stack

_AGREES = {
    Status.SUCCEEDED: "succeeded",
    Status.FAILED: "failed",
    Status.REVERSED: "failed",
}
"""What a gateway shows for each final status. An open refund may have changed at the gateway."""


@dataclass(frozen=True)
class GatewayView:
    name: str
    refunds: Sequence[GatewayRefund]
    """The refunds with this refund's reference. More than one would be a double payment."""
    payment: Payment | None
    refund: Item

    @property
    def differs(self) -> list[str]:
        """How the gateway's view contradicts ours."""
        status, shown = self.refund["status"], self.refunds
        found = []
        if len(shown) > 1:
            found.append(f"{self.name} shows {len(shown)} refunds under this reference")
        if not shown and status in (Status.SUCCEEDED, Status.REVERSED):
            found.append(f"{self.name} does not know this refund, which is {status} here")
        for each in shown:
            agreed = _AGREES.get(status)
            if status == Status.REJECTED or (agreed and each.status.value != agreed):
                found.append(f"{self.name} shows it {each.status.value}; here it is {status}")
            if each.amount_minor != self.refund.get("amount_minor"):
                amount = amount_text(each.amount_minor, each.currency)
                found.append(f"{self.name} shows {amount}")
        return found

    def lines(self) -> list[str]:
        """For people."""
        lines = []
        for each in self.refunds:
            amount = amount_text(each.amount_minor, each.currency)
            trace = f", trace number {each.trace}" if each.trace else ""
            lines.append(
                f"{self.name}: {each.gateway_refund_id} {each.status.value}, {amount}{trace}"
            )
        if not self.refunds:
            lines.append(f"{self.name}: no refund with this reference")
        if (payment := self.payment) is not None:
            captured = amount_text(payment.captured_minor, payment.currency)
            refunded = amount_text(payment.refunded_minor, payment.currency)
            lines.append(
                f"{self.name}: the payment is {payment.status.value}, {captured} captured, "
                f"{refunded} refunded"
            )
        else:
            lines.append(f"{self.name}: the payment is not known")
        return [*lines, *(f"✗ {each}" for each in self.differs)]

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "refunds": [asdict(each) for each in self.refunds],
            "payment": asdict(self.payment) if self.payment else None,
            "differs": self.differs,
        }


def gateway_view(stack: Stack, refund: Item) -> GatewayView:
    """Ask the refund's own gateway. Raises ``NotReadyError`` when it can't be asked."""
    from refunds_ops.audit import sources

    gateways = sources.gateways(stack)
    name, payment_id = refund["gateway"], refund["transaction_id"]
    # The reference that was stored when the refund began, whatever the current stage is.
    reference = refund.get("gateway_reference") or refund["refund_id"]
    account = refund.get("gateway_account")
    return GatewayView(
        name,
        sources.refunds_at(gateways, name, reference, payment_id, account),
        sources.payment_at(gateways, name, payment_id, account),
        refund,
    )
