"""The demo's payments and requests, and the expected outcome of each request."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from refunds.domain.refund import Status
from refunds_devkit.sandbox.client import SandboxClient


@dataclass(frozen=True)
class Payment:
    """A payment at the sandbox gateway, and the fault that its refunds meet."""

    id: str
    captured_minor: int
    currency: str = "USD"
    fault: str | None = None


@dataclass(frozen=True)
class Case:
    """One request message and its expected outcome.

    ``moved_minor`` is what may move at the gateway for the refund id, over all its messages.
    ``refused`` is the error_code of a message that must end in the dead-letter queue.
    """

    title: str
    body: str
    status: Status | None = None
    failure_code: str | None = None
    moved_minor: int = 0
    refused: str | None = None
    copies: int = 1
    remark: str = ""

    @property
    def fields(self) -> dict[str, Any]:
        fields: dict[str, Any] = json.loads(self.body)
        return fields

    @property
    def refund_id(self) -> str:
        return str(self.fields["refund_id"])


PAYMENTS = (
    Payment("pay_1001", 12_000),
    Payment("pay_1002", 8_000),
    Payment("pay_1003", 2_500),
    Payment("pay_1004", 6_000, fault="declined"),
    Payment("pay_1005", 4_200, fault="pending"),
    Payment("pay_1006", 9_900, fault="commit_then_timeout"),
    Payment("pay_1007", 5_000, "JPY"),
    Payment("pay_1008", 25_000),
)

LIMITS = {"ApproveAboveMinor": "USD=20000 JPY=20000"}
"""Parameters of the demo's stack."""


def plant(sandbox: SandboxClient, payments: Sequence[Payment]) -> None:
    """Create the payments and script their faults."""
    sandbox.add_payments(
        {"id": each.id, "amount_captured": each.captured_minor, "currency": each.currency}
        for each in payments
    )
    for payment in payments:
        if payment.fault:
            sandbox.add_fault(payment.fault, transaction_id=payment.id)


def _body(refund_id: str, transaction_id: str, amount_minor: Any, *, currency: str = "USD") -> str:
    return json.dumps(
        {
            "refund_id": refund_id,
            "transaction_id": transaction_id,
            "user_id": "user_ada",
            "amount_minor": amount_minor,
            "currency": currency,
            "reason": "order_cancelled",
            "requested_by": "agent:grace",
            "metadata": {"order": f"A-{transaction_id[-4:]}"},
        }
    )


@dataclass(frozen=True)
class Story:
    """The cases in display order. ``second`` is sent when ``first`` is finished."""

    first: tuple[Case, ...]
    second: tuple[Case, ...]
    pending: Case
    approved: Case
    """Waits for a person."""
    timed_out: Case = field(repr=False)
    payments: tuple[Payment, ...] = PAYMENTS

    @property
    def cases(self) -> tuple[Case, ...]:
        return self.first + self.second

    @property
    def refunds(self) -> tuple[Case, ...]:
        """The cases that must become refunds: one for each refund id."""
        return tuple(case for case in self.first if case.status)


def story(gateway: str = "flair") -> Story:
    """Always the same story, as each demo has a new stack. Payment ids are those of the gateway."""
    flair_story = _story()
    if gateway != "stripe":
        return flair_story

    def stripe(case: Case) -> Case:
        return replace(case, body=case.body.replace('"pay_', '"pi_'))

    return Story(
        first=tuple(map(stripe, flair_story.first)),
        second=tuple(map(stripe, flair_story.second)),
        pending=stripe(flair_story.pending),
        approved=stripe(flair_story.approved),
        timed_out=stripe(flair_story.timed_out),
        payments=tuple(replace(each, id=each.id.replace("pay_", "pi_")) for each in PAYMENTS),
    )


def _story() -> Story:
    full = _body("rf_full", "pay_1001", 12_000)
    part = _body("rf_part_1", "pay_1002", 3_000)
    pending = Case(
        "pending at first",
        _body("rf_pending", "pay_1005", 4_200),
        Status.SUCCEEDED,
        moved_minor=4_200,
        remark="was PENDING; ReconcileRefunds settled it",
    )
    approved = Case(
        "over a limit",
        _body("rf_large", "pay_1008", 25_000),
        Status.SUCCEEDED,
        moved_minor=25_000,
        remark="was AWAITING_APPROVAL; ada approved it",
    )
    timed_out = Case(
        "no response from the gateway",
        _body("rf_timeout", "pay_1006", 9_900),
        Status.SUCCEEDED,
        moved_minor=9_900,
        remark="the look-up found that money had moved",
    )
    return Story(
        first=(
            Case("full refund", full, Status.SUCCEEDED, moved_minor=12_000),
            Case("partial refund", part, Status.SUCCEEDED, moved_minor=3_000),
            Case(
                "second partial refund",
                _body("rf_part_2", "pay_1002", 4_550),
                Status.SUCCEEDED,
                moved_minor=4_550,
            ),
            Case(
                "a currency without cents",
                _body("rf_yen", "pay_1007", 1_200, currency="JPY"),
                Status.SUCCEEDED,
                moved_minor=1_200,
            ),
            Case(
                "more than was paid",
                _body("rf_over", "pay_1003", 4_000),
                Status.REJECTED,
                "amount_exceeds_balance",
            ),
            Case(
                "declined by the gateway",
                _body("rf_declined", "pay_1004", 6_000),
                Status.FAILED,
                "card_declined",
            ),
            pending,
            approved,
            timed_out,
            Case(
                "malformed message",
                _body("rf_malformed", "pay_1001", "25.00"),
                refused="invalid_field",
            ),
        ),
        second=(
            Case(
                "the first message again",
                full,
                Status.SUCCEEDED,
                moved_minor=12_000,
                copies=2,
                remark="sent three times, paid once",
            ),
            Case(
                "same id, other amount",
                _body("rf_part_1", "pay_1002", 3_100),
                refused="idempotency_conflict",
            ),
        ),
        pending=pending,
        approved=approved,
        timed_out=timed_out,
    )
