"""The faults that can be scripted: their kinds, their parameters, and how one is chosen.

A call passes five stages, and at most one fault of each stage applies to it. Faults of different
stages combine, for example a pending refund whose response never comes:

    door     refuses the call before the idempotency key is read; no money moves
    delay    waits before the money moves; the key is in use meanwhile
    outcome  decides how the refund ends
    key      decides what happens to the idempotency key
    answer   decides which response the client gets after the work is done
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from refunds_devkit.sandbox.contract import MAX_ID_LENGTH, RefusedError

Stage = Literal["door", "delay", "outcome", "key", "answer"]

CREATE_REFUND = "create_refund"
GET_PAYMENT = "get_payment"
LIST_REFUNDS = "list_refunds"
GET_REFUND = "get_refund"
ANY_OPERATION = "any"
OPERATIONS = (CREATE_REFUND, GET_PAYMENT, LIST_REFUNDS, GET_REFUND)

# Longer than any client waits.
HOLD_SECONDS = 120
SETTLE_SECONDS = 5

MAX_SECONDS = 30 * 24 * 3600
MAX_CALLS = 1_000_000
MAX_BODY_BYTES = 1 << 30
MAX_TEXT_LENGTH = 500


@dataclass(frozen=True)
class Kind:
    """One kind of fault: its stage, and its parameters with their defaults."""

    stage: Stage
    parameters: Mapping[str, Any] = field(default_factory=dict)


KINDS: dict[str, Kind] = {
    # door
    "drop_before_commit": Kind("door"),
    "error_500": Kind("door"),
    "error_503": Kind("door"),
    "html_502": Kind("door"),
    "rate_limited": Kind("door", {"retry_after_seconds": 1}),
    "in_use": Kind("door"),
    # delay
    "delay": Kind("delay", {"seconds": 1}),
    # outcome
    "declined": Kind("outcome", {"code": "card_declined", "message": "The card was declined."}),
    "error_500_remembered": Kind("outcome"),
    "commit_then_error_500_remembered": Kind("outcome"),
    "failed": Kind("outcome", {"code": "bank_rejected", "message": "The bank refused the refund."}),
    "pending": Kind("outcome"),
    # Like pending, but Stripe's API says that the customer has to act.
    "requires_action": Kind("outcome"),
    "pending_then_succeeded": Kind("outcome", {"seconds": SETTLE_SECONDS}),
    "pending_then_failed": Kind(
        "outcome",
        {
            "seconds": SETTLE_SECONDS,
            "code": "bank_rejected",
            "message": "The bank refused the refund.",
        },
    ),
    "succeeded_then_failed": Kind(
        "outcome",
        {
            "seconds": SETTLE_SECONDS,
            "code": "returned_by_bank",
            "message": "The bank returned the money.",
        },
    ),
    # key
    "key_forgotten": Kind("key"),
    # answer
    "commit_then_timeout": Kind("answer", {"seconds": HOLD_SECONDS}),
    "commit_then_drop": Kind("answer"),
    "commit_then_delay": Kind("answer", {"seconds": 1}),
    "commit_then_error_503": Kind("answer"),
    "commit_then_html_502": Kind("answer"),
    "slow_drip": Kind("answer", {"seconds_per_byte": 0.5, "part": "body"}),
    "wrong_amount_echoed": Kind("answer"),
    "wrong_currency_echoed": Kind("answer"),
    "wrong_reference_echoed": Kind("answer"),
    "wrong_transaction_id_echoed": Kind("answer"),
    "huge_body": Kind("answer", {"bytes": 16 << 20}),
    "truncated_json": Kind("answer"),
    "short_body": Kind("answer"),
}

# Only a POST has an outcome, a key or money to move. The other stages apply to any operation.
CREATE_ONLY = frozenset(
    [name for name, kind in KINDS.items() if kind.stage in ("outcome", "key")] + ["in_use"]
)


@dataclass(frozen=True)
class Fault:
    """A scripted fault. `remaining` is the number of calls it still applies to, None for always."""

    kind: str
    operation: str = CREATE_REFUND
    transaction_id: str | None = None
    reference: str | None = None
    remaining: int | None = 1
    probability: float = 1.0
    seed: int = 0
    parameters: Mapping[str, Any] = field(default_factory=dict)
    seeded: bool = False
    id: int = 0

    @property
    def stage(self) -> Stage:
        return KINDS[self.kind].stage

    def __getitem__(self, parameter: str) -> Any:
        return self.parameters[parameter]

    def as_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "kind": self.kind,
            "operation": self.operation,
            "transaction_id": self.transaction_id,
            "reference": self.reference,
            "remaining": self.remaining,
            "always": self.remaining is None,
            "probability": self.probability,
            "seed": self.seed,
            "seeded": self.seeded,
            **self.parameters,
        }

    def strikes(self, subject: str, seen: int) -> bool:
        """Whether it applies to the `seen`-th call (from 0) about `subject`.

        Draws from the seed and the call, not from a running generator, so that the result does not
        depend on the order of concurrent calls.
        """
        if self.probability >= 1:
            return True
        drawn = hashlib.sha256(f"{self.seed}:{self.kind}:{subject}:{seen}".encode()).digest()
        return int.from_bytes(drawn[:8], "big") < self.probability * 2**64


def parse_fault(body: object) -> Fault:
    """A fault from the admin API's JSON. Raises RefusedError (422) naming the wrong field."""
    if not isinstance(body, dict):
        raise RefusedError.invalid("a fault must be a JSON object")
    given = dict(body)
    name = given.pop("kind", None)
    if not isinstance(name, str) or name not in KINDS:
        raise RefusedError.invalid(f"kind: one of {', '.join(sorted(KINDS))}")
    operation = given.pop("operation", CREATE_REFUND)
    if operation not in (*OPERATIONS, ANY_OPERATION):
        raise RefusedError.invalid(f"operation: one of {', '.join((*OPERATIONS, ANY_OPERATION))}")
    if name in CREATE_ONLY and operation != CREATE_REFUND:
        raise RefusedError.invalid(f"operation: {name} applies to {CREATE_REFUND} only")
    always = given.pop("always", False)
    if not isinstance(always, bool):
        raise RefusedError.invalid("always: true or false")
    if always and "calls" in given:
        raise RefusedError.invalid("calls: cannot be used together with always")
    calls = _number(given, "calls", 1, low=1, high=MAX_CALLS, whole=True)
    probability = _number(given, "probability", 1.0, low=0, high=1)
    seed = _number(given, "seed", 0, low=-(2**62), high=2**62, whole=True)
    transaction_id = _optional_id(given, "transaction_id")
    reference = _optional_id(given, "reference")
    defaults = KINDS[name].parameters
    parameters = {key: _parameter(given, key, value) for key, value in defaults.items()}
    if given:
        raise RefusedError.invalid(f"unknown for {name}: {', '.join(sorted(map(str, given)))}")
    return Fault(
        kind=name,
        operation=operation,
        transaction_id=transaction_id,
        reference=reference,
        remaining=None if always else int(calls),
        probability=float(probability),
        seed=int(seed),
        parameters=parameters,
    )


def _parameter(given: dict[str, Any], name: str, default: object) -> object:
    if name == "part":
        part = given.pop(name, default)
        if part not in ("headers", "body"):
            raise RefusedError.invalid("part: headers or body")
        return part
    if isinstance(default, str):
        text = given.pop(name, default)
        if not isinstance(text, str) or not 1 <= len(text) <= MAX_TEXT_LENGTH:
            raise RefusedError.invalid(f"{name}: a string of 1 to {MAX_TEXT_LENGTH} characters")
        return text
    assert isinstance(default, int | float)
    if name == "bytes":
        return _number(given, name, default, low=1, high=MAX_BODY_BYTES, whole=True)
    whole = name == "retry_after_seconds"  # the contract's Retry-After is an integer
    return _number(given, name, default, low=0, high=MAX_SECONDS, whole=whole)


def _number(  # noqa: PLR0913 - a parameter and its bounds
    given: dict[str, Any],
    name: str,
    default: int | float,
    *,
    low: int,
    high: int,
    whole: bool = False,
) -> int | float:
    value = given.pop(name, default)
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
        raise RefusedError.invalid(f"{name}: {'an integer' if whole else 'a number'}")
    if not low <= value <= high:
        raise RefusedError.invalid(f"{name}: from {low} to {high}")
    number: int | float = value
    return number


def _optional_id(given: dict[str, Any], name: str) -> str | None:
    value = given.pop(name, None)
    if value is None:
        return None
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_ID_LENGTH:
        raise RefusedError.invalid(f"{name}: a string of 1 to {MAX_ID_LENGTH} characters")
    return value
