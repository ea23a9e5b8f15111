"""What the refund protocol needs of a payment gateway, and the answers it can get.

Adapters translate; they decide nothing. Every method takes a ``Deadline`` and returns or raises
before it has passed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

from refunds.times import Deadline


class GatewayUnavailableError(Exception):
    """A question to the gateway had no usable answer; ask again later.

    ``retry_after_seconds`` is the gateway's own wish, if it had one.
    """

    def __init__(self, reason: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after_seconds = retry_after_seconds


class PaymentStatus(StrEnum):
    AUTHORIZED = "authorized"
    CAPTURED = "captured"
    VOIDED = "voided"
    DISPUTED = "disputed"


class GatewayStatus(StrEnum):
    PENDING = "pending"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True)
class Payment:
    """A payment as the gateway knows it; amounts in minor units of ``currency``."""

    transaction_id: str
    status: PaymentStatus
    currency: str
    captured_minor: int
    refunded_minor: int


@dataclass(frozen=True)
class GatewayRefund:
    """A refund as the gateway knows it; ``reference`` is the refund id of whoever asked for it."""

    gateway_refund_id: str
    transaction_id: str
    reference: str
    amount_minor: int
    currency: str
    status: GatewayStatus
    failure_code: str | None = None
    failure_message: str | None = None


@dataclass(frozen=True)
class RefundOrder:
    """What is asked of the gateway. ``refund_id`` is both idempotency key and reference."""

    refund_id: str
    transaction_id: str
    amount_minor: int
    currency: str
    reason: str


@dataclass(frozen=True)
class Accepted:
    """The gateway has the refund; its status tells whether money moved."""

    refund: GatewayRefund


@dataclass(frozen=True)
class Declined:
    """Refused for good by this answer, and by this call no money moved."""

    code: str
    message: str


@dataclass(frozen=True)
class Retryable:
    """Surely no money moved by this call: it was not sent, or turned away unread."""

    reason: str
    retry_after_seconds: float | None = None


@dataclass(frozen=True)
class Unknown:
    """Money may or may not have moved."""

    reason: str


@dataclass(frozen=True)
class KeyReused:
    """The gateway has our key with another body: something is deeply wrong."""


@dataclass(frozen=True)
class KeyTooOld:
    """Nothing was sent: the key might be forgotten, and a call with it could pay again."""


Answer = Accepted | Declined | Retryable | Unknown | KeyReused | KeyTooOld


@dataclass(frozen=True)
class RefundPage:
    """Part of the gateway's list of refunds, newest first."""

    refunds: tuple[GatewayRefund, ...]
    next_cursor: str | None


BALANCE_EXCEEDED = "amount_exceeds_balance"
"""The one decline code with a meaning to the protocol: our ledger is behind the gateway."""


class Gateway(Protocol):
    """One payment gateway account."""

    @property
    def name(self) -> str:
        """Stored with each refund, for example ``flair``."""
        ...

    @property
    def key_lifetime(self) -> timedelta:
        """How long the gateway remembers an idempotency key from its first use."""
        ...

    @property
    def timeout_seconds(self) -> float:
        """The longest that one call may take."""
        ...

    def get_payment(self, transaction_id: str, deadline: Deadline) -> Payment | None:
        """The payment; None when there is none. Raises ``GatewayUnavailableError``."""
        ...

    def create_refund(
        self, order: RefundOrder, deadline: Deadline, *, not_after: datetime
    ) -> Answer:
        """Ask for the refund, once. Never sends the key later than ``not_after``. Never raises."""
        ...

    def find_refunds(
        self, refund_id: str, transaction_id: str, deadline: Deadline
    ) -> tuple[GatewayRefund, ...]:
        """Every refund whose reference is ``refund_id``. Raises ``GatewayUnavailableError``."""
        ...

    def list_refunds(
        self,
        deadline: Deadline,
        *,
        transaction_id: str | None = None,
        created_from: datetime | None = None,
        cursor: str | None = None,
    ) -> RefundPage:
        """A page of all refunds, newest first. Raises ``GatewayUnavailableError``."""
        ...
