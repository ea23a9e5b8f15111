"""What the refund protocol needs from a payment gateway, and the answers that a gateway can give.

An adapter translates and decides nothing. Every method takes a ``Deadline`` and returns or raises
before it passes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple, Protocol, runtime_checkable

from refunds.domain.clock import Deadline


class GatewayUnavailableError(Exception):
    """The gateway gave no usable answer to a read. Ask again later.

    ``retry_after_seconds`` is the wait that the gateway asked for, if any.
    """

    def __init__(self, reason: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after_seconds = retry_after_seconds


class Misconfiguration(StrEnum):
    """What is wrong with our side of the connection. A person has to put it right."""

    KEY_REFUSED = "key_refused"
    """The gateway does not accept the API key: wrong, expired or revoked."""
    KEY_OF_WRONG_MODE = "key_of_wrong_mode"
    """A test key for live payments, or the reverse."""
    PERMISSION_MISSING = "permission_missing"
    """The API key is valid but lacks a permission."""
    ACCOUNT_CHANGED = "account_changed"
    """The gateway is now configured for another account than the one that the refund began with."""
    FORMAT_UNKNOWN = "format_unknown"
    """A newer release than this one began the refund."""
    REQUEST_REFUSED = "request_refused"
    """The gateway refuses a parameter or the API version that every request has."""


class GatewayMisconfiguredError(GatewayUnavailableError):
    """The gateway is up and refuses *us*. It says nothing about the payment or the refund."""

    def __init__(self, reason: Misconfiguration) -> None:
        super().__init__(f"misconfigured: {reason.value}")
        self.reason = reason


REFERENCE_KEY = "refund_reference"
"""The name of our reference in a refund's metadata, at gateways that have no field for it."""

NOT_OURS = "(not ours)"
"""Stands for the refund id of refunds that other systems made. No refund id can look like this."""


INSUFFICIENT_FUNDS = "insufficient_funds"


class Stage(NamedTuple):
    """Distinguishes our refunds where several stages share one gateway account.

    In stage ``dev`` a refund's idempotency key and reference are ``dev.<refund id>``. A refund id
    never contains a dot, so no stage can mistake another's refunds for its own.
    """

    name: str = ""

    def mark(self, refund_id: str) -> str:
        """The idempotency key and reference of a refund that begins in this stage."""
        return f"{self.name}.{refund_id}" if self.name else refund_id

    def refund_id(self, reference: str | None) -> str:
        """The refund id that a reference of this stage stands for, else ``NOT_OURS``."""
        refund_id = (reference or "").rpartition(".")[2]
        return refund_id if refund_id and reference == self.mark(refund_id) else NOT_OURS


class PaymentStatus(StrEnum):
    AUTHORIZED = "authorized"
    """Nothing is captured yet."""
    CAPTURED = "captured"
    """Something is captured. More may follow, and a part may be disputed."""
    VOIDED = "voided"
    DISPUTED = "disputed"
    """All of it is disputed."""


class GatewayStatus(StrEnum):
    PENDING = "pending"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True)
class Payment:
    """A payment as the gateway shows it. Amounts are in minor units of ``currency``."""

    transaction_id: str
    status: PaymentStatus
    currency: str
    captured_minor: int
    """Captured so far."""
    refunded_minor: int
    """Pending and succeeded refunds, whoever made them."""
    disputed_minor: int = 0
    """The amount that the customer's bank holds or has taken back. It can't be refunded as well."""

    @property
    def refundable_minor(self) -> int:
        """What can still be refunded, as far as the gateway knows. Never negative."""
        return max(0, self.captured_minor - self.refunded_minor - self.disputed_minor)


@dataclass(frozen=True)
class GatewayRefund:
    """A refund as the gateway shows it."""

    gateway_refund_id: str
    transaction_id: str
    refund_id: str
    """Our refund id, by the reference and the current stage; ``NOT_OURS`` if another system made
    the refund."""
    amount_minor: int
    currency: str
    status: GatewayStatus
    failure_code: str | None = None
    failure_message: str | None = None
    gateway_reference: str | None = None
    """The reference exactly as the gateway stores it. Compare it with the one that was stored when
    the refund began: unlike ``refund_id`` it does not depend on the current stage."""
    trace: str | None = None
    """The bank's own number for the transfer, such as a card's ARN. The customer's bank finds the
    money by it. It arrives hours or days after the refund."""
    other_payment_id: str | None = None
    """A second id that the gateway has for the payment, such as the charge of a PaymentIntent. We
    know the payment by one of the two ids, and an account's list does not say by which."""
    pending_reason: str | None = None
    """The gateway's code for why a refund is still pending, for example ``insufficient_funds``."""
    created_at: datetime | None = field(default=None, compare=False)
    """None if the gateway does not say it, or not in a form that can be read."""

    @property
    def waits_for_balance(self) -> bool:
        """Whether it is pending because *our* balance at the gateway is too low."""
        return self.status is GatewayStatus.PENDING and self.pending_reason == INSUFFICIENT_FUNDS


@dataclass(frozen=True)
class RefundOrder:
    """What we ask of the gateway.

    ``reference`` is idempotency key and reference in one, ``format`` the number of the body format.
    Both are fixed when the refund begins and stored with it, so that every later call for the same
    refund sends the same key and the same bytes, even if the settings or the release have changed.
    """

    refund_id: str
    transaction_id: str
    amount_minor: int
    currency: str
    reason: str
    reference: str
    format: int = 1


@dataclass(frozen=True)
class Accepted:
    """The gateway has the refund. Its status tells whether money moved."""

    refund: GatewayRefund


@dataclass(frozen=True)
class Declined:
    """A final refusal: this call has not moved money and never will."""

    code: str
    message: str
    over_balance: bool = False
    """Less is left of the payment than we asked for, so our ledger is out of date."""
    insufficient_funds: bool = False
    """*Our* balance at the gateway is too low. A new request can succeed once it is topped up."""


@dataclass(frozen=True)
class Retryable:
    """This call cannot have moved money: it was not sent, or refused before it was processed."""

    reason: str
    retry_after_seconds: float | None = None


@dataclass(frozen=True)
class Misconfigured:
    """This call cannot have moved money: the gateway refuses *us*, not the refund.

    This is neither an outage nor a decline. It ends no refund, and a person has to act.
    """

    reason: Misconfiguration


@dataclass(frozen=True)
class Unknown:
    """Money may or may not have moved."""

    reason: str


@dataclass(frozen=True)
class KeyReused:
    """The gateway has our idempotency key with another body. A person has to look."""


@dataclass(frozen=True)
class KeyTooOld:
    """Nothing was sent: the gateway may have forgotten the key, so the call could pay again."""


Answer = Accepted | Declined | Retryable | Misconfigured | Unknown | KeyReused | KeyTooOld


class RefundPage(NamedTuple):
    """Part of the gateway's list of refunds, newest first."""

    refunds: tuple[GatewayRefund, ...]
    next_cursor: str | None
    unreadable: int = 0
    """The number of rows that were skipped because they can't be read, plus the rows with a status
    that the adapter does not know (these are shown as pending, since their money may have
    moved)."""


BALANCE_EXCEEDED = "amount_exceeds_balance"
"""The failure code of a request for more than is left."""


class ApiKey(Protocol):
    """An account's API key, kept where secrets are kept."""

    def get(self) -> str:
        """The key, from a cache while that is fresh. Raises what the secret store raises."""
        ...

    def forget(self) -> None:
        """Make the next ``get`` ask the secret store again: the key may have been rotated."""
        ...


class Gateway(Protocol):
    """One account at a payment gateway: first its properties, then its calls."""

    @property
    def name(self) -> str:
        """The gateway's name, which is stored with each refund, for example ``flair``."""
        ...

    @property
    def account(self) -> str:
        """Which account this is: the same text after a key rotation, another text for another
        account or address. Not a secret. Stored with each refund when it begins."""
        ...

    @property
    def key_lifetime(self) -> timedelta:
        """How long the gateway remembers an idempotency key, at least, from its first use."""
        ...

    @property
    def remembers_declines(self) -> bool:
        """Whether a key that was declined once is declined for its whole lifetime.

        If so, a decline proves that no earlier call with the key moved money or still can. If not,
        an earlier call that is late on its way may still be executed after the decline.
        """
        ...

    @property
    def shows_refunds(self) -> bool:
        """Whether payments and refunds can be read. Some gateways only send webhooks."""
        ...

    @property
    def look_up_lag(self) -> timedelta:
        """How long a refund may be missing from look-ups and lists after it was made, at most."""
        ...

    @property
    def can_reverse(self) -> bool:
        """Whether a refund that succeeded may fail later. If so, the gateway's list is swept for
        such refunds."""
        ...

    @property
    def body_format(self) -> int:
        """The body format of refunds that begin now. Older formats stay supported."""
        ...

    @property
    def timeout_seconds(self) -> float:
        """The longest that one call may take."""
        ...

    def reference_for(self, refund_id: str) -> str:
        """The idempotency key and reference of a refund that begins now.

        Store it with the refund. It depends on the stage, so never compute it again later.
        """
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
        self, reference: str, transaction_id: str, deadline: Deadline
    ) -> tuple[GatewayRefund, ...]:
        """Every refund that the gateway has under ``reference`` (the stored one).

        Raises ``GatewayUnavailableError``, also when one of them can't be read.
        """
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


@runtime_checkable
class ListsBefore(Protocol):
    """Optional: a gateway whose list can begin in the past.

    Then the sweep reads several parts of the list in parallel, each from its own day. Without it
    every part is reached from the newest refund only.
    """

    def list_refunds_before(
        self,
        deadline: Deadline,
        *,
        created_from: datetime,
        created_before: datetime,
        cursor: str | None = None,
    ) -> RefundPage:
        """A page of the refunds of that time, newest first. Raises ``GatewayUnavailableError``."""
        ...
