"""Builders for the unit tests: messages, refunds and payments with sensible defaults, and a clock
that only moves when a test moves it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from refunds.domain.clock import rfc3339
from refunds.domain.identity import Identity
from refunds.domain.refund import Refund, Status
from refunds.domain.request import RefundRequest
from refunds.gateways.contract import (
    GatewayRefund,
    GatewayStatus,
    Payment,
    PaymentStatus,
)

NOW = datetime(2026, 11, 23, 7, 10, tzinfo=UTC)

VISA = "4111111111111111"
EMAIL = "jane.doe.1987@customers.example.com"
SECRET = "sk_live_planted_in_a_test"  # noqa: S105 - no secret: planted to see that it stays in


class _LeftOut:
    def __repr__(self) -> str:
        return "LEFT_OUT"  # pytest-xdist needs the same test ids in every worker


LEFT_OUT: Any = _LeftOut()
"""Pass this for a field to leave the field out."""


class FakeClock:
    """A clock that only moves when a test moves it."""

    def __init__(self, now: datetime = NOW) -> None:
        self._now = now
        self._seconds = 1000.0

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._seconds

    def set(self, now: datetime) -> None:
        """Set the wall clock only, as an NTP correction does."""
        self._now = now

    def advance(self, **span: float) -> None:
        """Takes the arguments of ``timedelta``: ``advance(hours=3)``."""
        delta = timedelta(**span)
        self._now += delta
        self._seconds += delta.total_seconds()


class TickingClock(FakeClock):
    """Moves on at every reading, so that a deadline passes in the middle of a run."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    def monotonic(self) -> float:
        self.advance(seconds=self.seconds)
        return super().monotonic()


class InlinePool:
    """An executor that runs everything in the calling thread."""

    def map(self, fn: Callable[[Any], Any], *iterables: Iterable[Any]) -> Iterable[Any]:
        return map(fn, *iterables)


def body(**changes: Any) -> dict[str, Any]:
    """The fields of a message: every required one, and an amount."""
    fields = {
        "refund_id": "refund-1",
        "transaction_id": "payment-1",
        "user_id": "user-1",
        "amount_minor": 2500,
        "currency": "USD",
        "reason": "requested_by_customer",
        "requested_by": "agent:anna",
    } | changes
    return {name: value for name, value in fields.items() if value is not LEFT_OUT}


def request(**changes: Any) -> RefundRequest:
    return RefundRequest.model_validate(body(**changes))


def person(name: str, role: str = "Reviewer") -> Identity:
    """Somebody who has assumed a role, as STS shows them."""
    return Identity(
        f"arn:aws:sts::123456789012:assumed-role/{role}/{name}",
        "123456789012",
        f"AROAEXAMPLE{role.upper()}:{name}",
    )


def refund(**changes: Any) -> Refund:
    """A stored refund that was claimed and whose lease has not expired."""
    fields: dict[str, Any] = {
        **body(),
        "status": Status.PROCESSING,
        "processed_by": "ProcessRefund:7",
        "gateway": "flair",
        "created_at": rfc3339(NOW),
        "updated_at": rfc3339(NOW),
        "version": 1,
        "fingerprint": request().fingerprint(),
        "attempt_token": "token-of-another",
        "lease_until": rfc3339(NOW + timedelta(seconds=70)),
        "key_used_at": rfc3339(NOW),
    } | changes
    return Refund(**{name: value for name, value in fields.items() if value is not LEFT_OUT})


def payment(**changes: Any) -> Payment:
    fields: dict[str, Any] = {
        "transaction_id": "payment-1",
        "status": PaymentStatus.CAPTURED,
        "currency": "USD",
        "captured_minor": 10_000,
        "refunded_minor": 0,
    } | changes
    return Payment(**fields)


def shown(**changes: Any) -> GatewayRefund:
    """The refund of ``body()`` as the gateway shows it."""
    fields: dict[str, Any] = {
        "gateway_refund_id": "gw-1",
        "transaction_id": "payment-1",
        "refund_id": "refund-1",
        "amount_minor": 2500,
        "currency": "USD",
        "status": GatewayStatus.SUCCEEDED,
    } | changes
    return GatewayRefund(**({"gateway_reference": fields["refund_id"]} | fields))
