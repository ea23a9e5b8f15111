"""What becomes of a refund: its statuses, as the fault that strikes it says."""

from __future__ import annotations

from dataclasses import dataclass

from refunds_devkit.sandbox.faults import Fault


@dataclass(frozen=True)
class Settlement:
    """The status of a refund `after_micros` after its creation."""

    status: str
    after_micros: int
    failure_code: str | None = None
    failure_message: str | None = None


@dataclass(frozen=True)
class Outcome:
    """The first status of a refund, and its later ones."""

    status: str = "succeeded"
    failure_code: str | None = None
    failure_message: str | None = None
    later: Settlement | None = None


def outcome_of(fault: Fault | None) -> Outcome:
    match fault.kind if fault else None:
        case "failed":
            assert fault is not None
            return Outcome("failed", fault["code"], fault["message"])
        case "pending":
            return Outcome("pending")
        case "requires_action":
            return Outcome("pending", "requires_action")
        case "pending_then_succeeded":
            assert fault is not None
            return Outcome("pending", later=Settlement("succeeded", _micros(fault)))
        case "pending_then_failed" | "succeeded_then_failed" as kind:
            assert fault is not None
            later = Settlement("failed", _micros(fault), fault["code"], fault["message"])
            return Outcome(kind.split("_")[0], later=later)
    return Outcome()


def _micros(fault: Fault) -> int:
    micros: int = round(fault["seconds"] * 1_000_000)
    return micros
