"""The payments the sandbox starts with: each shows one behaviour, without an admin call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from refunds_devkit.sandbox.contract import RefundCreate
from refunds_devkit.sandbox.faults import CREATE_REFUND, KINDS, LIST_REFUNDS, SETTLE_SECONDS, Fault
from refunds_devkit.sandbox.ledger import Ledger
from refunds_devkit.sandbox.outcomes import Outcome


@dataclass(frozen=True)
class Seed:
    """A captured payment in minor units, and the fault that its refunds meet.

    `calls` is the number of refunds that meet the fault, None for all. Another system has already
    refunded `foreign`.
    """

    id: str
    note: str
    amount_captured: int = 10_000
    currency: str = "USD"
    status: str = "captured"
    fault: str | None = None
    calls: int | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    operation: str = CREATE_REFUND
    foreign: int = 0


SEEDS = (
    Seed("pay_full", "refunds succeed"),
    Seed("pay_partial", "the same, to be refunded in parts"),
    Seed("pay_small", "only 1 cent was captured", amount_captured=1),
    Seed("pay_jpy", "a currency without decimals", amount_captured=5_000, currency="JPY"),
    Seed("pay_kwd", "a currency with three decimals", amount_captured=12_345, currency="KWD"),
    Seed("pay_foreign", "half was refunded by another system", foreign=5_000),
    Seed("pay_refunded", "all was refunded by another system", foreign=10_000),
    Seed("pay_disputed", "422 payment_disputed", status="disputed"),
    Seed("pay_authorized", "422 payment_not_captured", status="authorized", amount_captured=0),
    Seed("pay_voided", "422 payment_not_captured", status="voided", amount_captured=0),
    Seed("pay_declined", "402 card_declined", fault="declined"),
    Seed("pay_pending", "pending, then succeeded", fault="pending_then_succeeded"),
    Seed("pay_pending_fails", "pending, then failed", fault="pending_then_failed"),
    Seed("pay_pending_forever", "pending until settled by hand", fault="pending"),
    Seed("pay_fails", "201, but failed at once", fault="failed"),
    Seed("pay_reversed", "succeeds, then failed", fault="succeeded_then_failed"),
    Seed("pay_timeout", "money moves, never an answer", fault="commit_then_timeout"),
    Seed("pay_drop", "money moves, the connection closes", fault="commit_then_drop"),
    Seed("pay_drop_once", "closes once, nothing done", fault="drop_before_commit", calls=1),
    Seed("pay_delay", "answers after 3 seconds", fault="delay", parameters={"seconds": 3}),
    Seed("pay_500", "500 remembered, no money moves", fault="error_500_remembered"),
    Seed("pay_500_moved", "500 remembered, money moves", fault="commit_then_error_500_remembered"),
    Seed("pay_503", "503 twice, then works", fault="error_503", calls=2),
    Seed("pay_502", "HTML 502 twice, then works", fault="html_502", calls=2),
    Seed("pay_502_moved", "money moves, HTML 502", fault="commit_then_html_502"),
    Seed("pay_limited", "429 twice, then works", fault="rate_limited", calls=2),
    Seed("pay_in_use", "409 idempotency_key_in_use twice", fault="in_use", calls=2),
    Seed("pay_drip", "a byte every half second", fault="slow_drip"),
    Seed("pay_wrong_amount", "echoes another amount", fault="wrong_amount_echoed"),
    Seed("pay_wrong_currency", "echoes another currency", fault="wrong_currency_echoed"),
    Seed("pay_wrong_reference", "echoes another reference", fault="wrong_reference_echoed"),
    Seed("pay_forgets_key", "the same key moves money again", fault="key_forgotten"),
    Seed("pay_huge", "an answer of 16 MiB", fault="huge_body"),
    Seed("pay_truncated", "half the JSON", fault="truncated_json"),
    Seed(
        "pay_lookup_503",
        "refunds succeed, looking them up gives 503",
        fault="error_503",
        operation=LIST_REFUNDS,
    ),
)


# Stripe's payment ids, and its rule that three-decimal amounts end with a 0.
STRIPE_SEEDS = tuple(
    replace(
        seed,
        id=seed.id.replace("pay_", "pi_"),
        amount_captured=12_340 if seed.currency == "KWD" else seed.amount_captured,
    )
    for seed in SEEDS
)


def plant(
    ledger: Ledger, settle_seconds: float = SETTLE_SECONDS, seeds: Sequence[Seed] = SEEDS
) -> None:
    """Adds missing seeds. Pending and reversed refunds change after `settle_seconds`.

    A fault that applies to a few calls stays used up until a reset.
    """
    with ledger.transaction():
        known = {
            fault.transaction_id: fault.remaining for fault in ledger.faults.all() if fault.seeded
        }
        ledger.faults.remove(seeded=True)
        for seed in seeds:
            if not ledger.has_payment(seed.id):
                ledger.put_payment(
                    seed.id,
                    amount_captured=seed.amount_captured,
                    currency=seed.currency,
                    status=seed.status,
                )
                if seed.foreign:
                    requested = RefundCreate(
                        seed.id, seed.foreign, seed.currency, f"other-system-{seed.id}"
                    )
                    ledger.add_refund(requested, Outcome(), origin="foreign")
            if seed.fault is not None:
                ledger.faults.add(_fault(seed, known.get(seed.id, seed.calls), settle_seconds))


def _fault(seed: Seed, remaining: int | None, settle_seconds: float) -> Fault:
    assert seed.fault is not None
    kind = KINDS[seed.fault]
    parameters = {**kind.parameters, **seed.parameters}
    if kind.stage == "outcome" and "seconds" in parameters:
        parameters["seconds"] = settle_seconds
    return Fault(
        kind=seed.fault,
        operation=seed.operation,
        transaction_id=seed.id,
        remaining=remaining,
        parameters=parameters,
        seeded=True,
    )
