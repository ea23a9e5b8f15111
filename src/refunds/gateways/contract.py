"""What the refund protocol needs of a payment gateway, and the answers it can get.

Adapters translate; they decide nothing. Every method takes a ``Deadline`` and returns or raises
before it has passed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

from refunds.domain.clock import Deadline


class GatewayUnavailableError(Exception):
    """A question to the gateway had no usable answer; ask again later.

    ``retry_after_seconds`` is the gateway's own wish, if it had one.
    """

    def __init__(self, reason: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after_seconds = retry_after_seconds


REFERENCE_KEY = "refund_reference"
"""The name of our reference in a refund's metadata, at gateways that have no field for it."""

NOT_OURS = "(not ours)"
"""The reference of a refund that others made; no refund id can be that."""


@dataclass(frozen=True)
class Stage:
    """Whose refunds are ours where several stages share one gateway account.

    Key and reference of stage ``dev`` are ``dev.<refund id>``. A refund id never has a dot, so
    stages can't be taken for each other, nor for the one (at most) without a name.
    """

    name: str = ""

    def mark(self, refund_id: str) -> str:
        """The refund's idempotency key and reference at the gateway."""
        return f"{self.name}.{refund_id}" if self.name else refund_id

    def refund_id(self, reference: str | None) -> str:
        """Whose refund a reference stands for: a refund id of ours, or ``NOT_OURS``."""
        if not reference:
            return NOT_OURS
        if not self.name:
            return reference
        stage, dot, refund_id = reference.partition(".")
        return refund_id if dot and stage == self.name and refund_id else NOT_OURS


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
    """A refund as the gateway knows it.

    ``reference`` is the refund id of whoever asked for it, without our stage; ``NOT_OURS`` when
    another stage or system did.
    """

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
    """What is asked of the gateway. ``refund_id``, marked with our stage, is both idempotency key
    and reference."""

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
    """Refused for good by this answer, and by this call no money moved.

    ``over_balance``: less is left of the payment than was asked for, so our ledger is behind.
    """

    code: str
    message: str
    over_balance: bool = False


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
"""The failure code of a request for more than is left."""


class ApiKey(Protocol):
    """An account's secret key, kept where secrets are."""

    def get(self) -> str:
        """The key, from a cache while that is fresh. Raises whatever the secret's store does."""
        ...

    def forget(self) -> None:
        """Have the next ``get`` ask the secret's store: the key may have been changed."""
        ...


class Gateway(Protocol):
    """One payment gateway account: its facts, then what it can be asked."""

    @property
    def name(self) -> str:
        """Stored with each refund, for example ``flair``."""
        ...

    @property
    def key_lifetime(self) -> timedelta:
        """How long the gateway remembers an idempotency key, at least, from its first use."""
        ...

    @property
    def finds_by_reference(self) -> bool:
        """Whether it looks refunds up by our reference; else all of a payment's are read."""
        ...

    @property
    def is_asynchronous(self) -> bool:
        """Whether a refund may be pending at first."""
        ...

    @property
    def can_reverse(self) -> bool:
        """Whether a refund that succeeded may fail later; then its list is swept for those."""
        ...

    @property
    def requests_per_second(self) -> float | None:
        """The account's rate limit, when it has one that is known."""
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
