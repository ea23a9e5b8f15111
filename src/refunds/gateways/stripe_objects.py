"""Stripe's objects in the contract's terms, and our orders in Stripe's.

Models have only the fields that are used. Amounts are converted to ISO 4217 minor units.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from refunds.gateways.contract import (
    REFERENCE_KEY,
    GatewayRefund,
    GatewayStatus,
    PaymentStatus,
    RefundOrder,
    Stage,
)
from refunds.gateways.stripe_amounts import from_stripe, to_stripe

REASONS = frozenset({"requested_by_customer", "duplicate", "fraudulent"})
"""The reasons that Stripe also has. ``fraudulent`` also puts the card on Stripe's block list."""

STATUSES = {
    "succeeded": GatewayStatus.SUCCEEDED,
    "failed": GatewayStatus.FAILED,
    "canceled": GatewayStatus.FAILED,
    "pending": GatewayStatus.PENDING,
    # The customer has to say where the money should go.
    "requires_action": GatewayStatus.PENDING,
}

_REFUNDABLE_DISPUTES = {"won", "warning_needs_response", "warning_under_review", "warning_closed"}
"""An inquiry (``warning_…``) takes no money, and a dispute that was won gave it back. Under any
other status the bank has the money: still open, ``lost``, or ``prevented`` (the card network has
credited the customer before a dispute was filed)."""

_TRACE = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)

# The text of a validation error may be logged, so it must not quote Stripe's answer.
_STRICT = ConfigDict(strict=True, hide_input_in_errors=True)


class Charge(BaseModel):
    model_config = _STRICT
    id: str
    status: str
    disputed: bool
    currency: str
    amount_captured: int = Field(ge=0)
    amount_refunded: int = Field(ge=0)


class PaymentIntent(BaseModel):
    model_config = _STRICT
    id: str
    status: str
    currency: str
    latest_charge: Charge | None = None


class _Dispute(BaseModel):
    model_config = _STRICT
    status: str
    amount: int = Field(ge=0)
    currency: str


class Disputes(BaseModel):
    model_config = _STRICT
    data: list[_Dispute]


class _Refund(BaseModel):
    model_config = _STRICT
    id: str
    charge: str | None = None
    payment_intent: str | None = None
    amount: int = Field(ge=1)
    currency: str
    status: str | None = None
    failure_reason: str | None = None
    pending_reason: str | None = None
    metadata: dict[str, str] | None = None
    destination_details: dict[str, Any] | None = None
    created: Any = None


class Page(BaseModel):
    model_config = _STRICT
    data: list[Any]
    has_more: bool


# --- Payments -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PaymentId:
    """A transaction id of Stripe's: ``pi_…``, ``ch_…`` or ``py_…``.

    ``acct_…-pi_…`` is a direct charge of a connected account (Stripe Connect): every call about it
    needs the account, which only its transaction id names.
    """

    id: str
    connected_account: str | None = None

    @property
    def is_intent(self) -> bool:
        return self.id.startswith("pi_")

    @property
    def filter(self) -> dict[str, str]:
        """The parameter that names the payment in a request."""
        return {"payment_intent" if self.is_intent else "charge": self.id}

    @classmethod
    def parse(cls, transaction_id: str) -> PaymentId | None:
        """None for an id that is not Stripe's."""
        found = _PAYMENT_ID.fullmatch(transaction_id)
        return cls(found["id"], found["account"]) if found else None


_PAYMENT_ID = re.compile(
    r"((?P<account>acct_[A-Za-z0-9]+)-)?(?P<id>(pi|ch|py)_.*)", re.ASCII | re.DOTALL
)


def charge_status(charge: Charge) -> PaymentStatus:
    if charge.status == "failed":
        return PaymentStatus.VOIDED
    # ``captured`` is not used, because it is false until the final capture.
    if charge.status == "succeeded" and charge.amount_captured > 0:
        return PaymentStatus.CAPTURED
    return PaymentStatus.AUTHORIZED


def intent_status(intent: PaymentIntent) -> PaymentStatus:
    # Multicapture leaves an intent in ``requires_capture`` between two captures.
    if intent.latest_charge is not None and intent.status in {"succeeded", "requires_capture"}:
        return charge_status(intent.latest_charge)
    return PaymentStatus.VOIDED if intent.status == "canceled" else PaymentStatus.AUTHORIZED


def disputed_minor(charge: Charge, disputes: Disputes) -> int:
    """The amount that the bank holds of a charge whose ``disputed`` is true (it stays true for
    ever).

    All of the charge, if the amount is in another currency or the dispute is not listed yet.
    """
    currency = charge.currency.upper()
    captured = from_stripe(charge.amount_captured, currency)
    taken = [each for each in disputes.data if each.status not in _REFUNDABLE_DISPUTES]
    if not disputes.data or any(each.currency != charge.currency for each in taken):
        return captured
    return min(captured, sum(from_stripe(each.amount, currency) for each in taken))


# --- Refunds --------------------------------------------------------------------------------------


def read_refund(row: object, transaction_id: str | None, stage: Stage) -> GatewayRefund:
    """``transaction_id`` is the payment as we name it: a refund shows all of a payment's ids.

    Raises ``ValueError`` for a row that can't be read.
    """
    refund = _Refund.model_validate(row)
    currency = refund.currency.upper()
    status = refund.status or "pending"
    failed = STATUSES.get(status) is GatewayStatus.FAILED
    reference = (refund.metadata or {}).get(REFERENCE_KEY)
    asked = PaymentId.parse(transaction_id or "")
    is_asked = asked is not None and asked.id in (refund.payment_intent, refund.charge)
    first = refund.payment_intent or refund.charge or ""
    return GatewayRefund(
        gateway_refund_id=refund.id,
        transaction_id=(transaction_id if is_asked else None) or first,
        other_payment_id=None if is_asked or refund.charge == first else refund.charge,
        refund_id=stage.refund_id(reference),
        gateway_reference=reference,
        amount_minor=from_stripe(refund.amount, currency),
        currency=currency,
        # Money may have moved under a status that we don't know, and the status may not be final.
        status=STATUSES.get(status, GatewayStatus.PENDING),
        failure_code=(refund.failure_reason or status) if failed else None,
        trace=_trace(refund.destination_details),
        pending_reason=refund.pending_reason,
        created_at=_instant(refund.created),
    )


def _instant(shown: Any) -> datetime | None:
    # If it can't be read, the rest of the refund is still used.
    try:
        return datetime.fromtimestamp(shown, UTC) if isinstance(shown, int) else None
    except (OverflowError, OSError, ValueError):
        return None


def read_refunds(
    rows: Iterable[Any], transaction_id: str | None, stage: Stage
) -> tuple[tuple[GatewayRefund, ...], int]:
    """The rows that can be read, and how many can't be (or have a status that we don't know)."""
    refunds, unreadable = [], 0
    for row in rows:
        try:
            refunds.append(read_refund(row, transaction_id, stage))
        except ValueError:
            unreadable += 1  # one bad row must not hide the others
        else:
            unreadable += row.get("status") not in {None, *STATUSES}
    return tuple(refunds), unreadable


def is_of_payment(row: object, payment: PaymentId) -> bool:
    """Whether a row is a refund of the payment. A row that can't be read may be one."""
    if not isinstance(row, dict):
        return True
    return payment.id in (row.get("payment_intent"), row.get("charge"))


def may_have_reference(row: object, reference: str) -> bool:
    """Whether a row is the refund with this reference, or may be."""
    if not isinstance(row, dict):
        return True
    metadata = row.get("metadata")
    if metadata is None:
        return False  # Stripe shows null or an empty object for refunds without metadata
    return not isinstance(metadata, dict) or metadata.get(REFERENCE_KEY) == reference


def _trace(details: Mapping[str, Any] | None) -> str | None:
    """The bank's number, for example a card's ARN: ``{"type": "card", "card": {"reference": …}}``.
    None until the bank has assigned one."""
    if details is None:
        return None
    match details.get(str(details.get("type"))):
        case {"reference": str(number)} if _TRACE.fullmatch(number):
            return number
    return None


# --- Orders ---------------------------------------------------------------------------------------

REVERSE_TRANSFER = "reverse_transfer"
"""For a destination charge: takes the money back from the connected account."""
REFUND_APPLICATION_FEE = "refund_application_fee"
"""Gives our own fee back in proportion."""


def _params(options: Sequence[str], order: RefundOrder) -> dict[str, Any]:
    payment = PaymentId.parse(order.transaction_id)
    assert payment is not None
    params: dict[str, Any] = {
        **payment.filter,
        "amount": to_stripe(order.amount_minor, order.currency),
        "metadata": {REFERENCE_KEY: order.reference},
    }
    if order.reason in REASONS:
        params["reason"] = order.reason
    for option in options:
        # A direct charge has no transfer that could be reversed.
        if option != REVERSE_TRANSFER or payment.connected_account is None:
            params[option] = True
    return params


PARAMS: Mapping[int, Callable[[RefundOrder], dict[str, Any]]] = {
    1: partial(_params, ()),
    2: partial(_params, (REVERSE_TRANSFER,)),
    3: partial(_params, (REFUND_APPLICATION_FEE,)),
    4: partial(_params, (REVERSE_TRANSFER, REFUND_APPLICATION_FEE)),
}
"""An order's parameters by body format. Each raises ``NotExpressibleError``.

Never change a format that was released: a repeated key with other parameters is refused for good.
Add the next numbers instead, here and to ``FORMATS``. The options of a route (Connect) make another
format, so that a refund that has begun keeps its parameters when the route changes."""

FORMATS: Mapping[frozenset[str], int] = {
    frozenset(): 1,
    frozenset({REVERSE_TRANSFER}): 2,
    frozenset({REFUND_APPLICATION_FEE}): 3,
    frozenset({REVERSE_TRANSFER, REFUND_APPLICATION_FEE}): 4,
}
"""The format of refunds that begin now, by the options of the route."""
