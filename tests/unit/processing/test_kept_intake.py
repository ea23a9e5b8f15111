"""What a run of the reconciler says about the queue and the audit stream."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from refunds.audit.outcome_events import INTAKE_EVENTS
from refunds.breaker.queue_mapping import Switched
from refunds.domain.intake import BreakerState, Intake
from refunds.processing.reconcile_refunds import ReconcileRefunds


class Surroundings:
    """Keeper, stream watch, metrics and log in one."""

    def __init__(self, switched: Switched | Exception, trouble: str | Exception | None) -> None:
        self._switched = switched
        self._trouble = trouble
        self.counted: dict[str, float] = {}
        self.lines: dict[str, dict[str, Any]] = {}

    def keep(self, deadline: Any) -> Switched:
        if isinstance(self._switched, Exception):
            raise self._switched
        return self._switched

    def trouble(self) -> str | None:
        if isinstance(self._trouble, Exception):
            raise self._trouble
        return self._trouble

    def add_metric(self, name: str, unit: str, value: float) -> None:
        self.counted[name] = value

    def info(self, message: str, **fields: Any) -> None:
        self.lines[message] = fields

    error = info


def run_of(parts: Surroundings) -> ReconcileRefunds:
    part: Any = parts
    return ReconcileRefunds(reconciler=part, keeper=part, stream=part, metrics=part, log=part)


def keep(switched: Switched | Exception) -> tuple[dict[str, Any], Surroundings]:
    parts = Surroundings(switched, None)
    now: Any = None
    return run_of(parts).handle({"detail-type": INTAKE_EVENTS[0]}, now), parts


FLOWS, OPEN = Intake(), Intake(breaker=BreakerState.OPEN)
PAUSED = Intake(paused_at="2026-11-27T08:00:00Z")


@pytest.mark.parametrize(
    ("switched", "stands"),
    [
        (Switched(FLOWS, "Enabled", True), 0),
        (Switched(FLOWS, "Disabled", True), 1),
        (Switched(OPEN, "Enabled", True), 1),
        (Switched(PAUSED, "Enabled", True), 1),
        (Switched(FLOWS, "Enabled", True, held_gateways=("flair",)), 1),
        (Switched(FLOWS, "Enabled", True, gateways_down=("flair",)), 0),
    ],
)
def test_the_queue_counts_as_stopped_when_any_request_waits(
    switched: Switched, stands: int
) -> None:
    told, parts = keep(switched)
    assert parts.counted == {"QueuePaused": stands, "QueueSwitchErrors": 0}
    assert told["requests"] == switched.mapping_state
    assert told["breaker"] == switched.intake.breaker.value
    assert told["paused"] is switched.intake.paused
    assert told.get("held_gateways", []) == list(switched.held_gateways)
    assert told.get("gateways_down", []) == list(switched.gateways_down)
    assert parts.lines["queue looked after"]["mapping_state"] == switched.mapping_state


def test_a_queue_that_could_not_be_switched_counts_as_stopped() -> None:
    told, parts = keep(ClientError({"Error": {"Code": "AccessDenied"}}, "GetMapping"))
    assert told == {"requests": "not switched"}
    assert (parts.counted["QueuePaused"], parts.counted["QueueSwitchErrors"]) == (1, 1)
    error = parts.lines["queue not switched"]["extra"]["error"]
    assert error == "ClientError AccessDenied"
    assert parts.counted["MisconfiguredPermissionDenied"] == 1


@pytest.mark.parametrize(
    ("trouble", "stopped", "reason"),
    [(None, 0, None), ("no mapping", 1, "no mapping"), (ValueError("no"), 1, "unknown")],
)
def test_an_audit_trail_that_stands_still_is_counted_and_named(
    trouble: str | Exception | None, stopped: int, reason: str | None
) -> None:
    parts = Surroundings(Switched(FLOWS, "Enabled", True), trouble)
    run_of(parts)._watch_stream()
    assert parts.counted["AuditStopped"] == stopped
    assert parts.lines.get("audit trail stands still", {}).get("reason") == reason
    assert ("audit stream not looked at" in parts.lines) is isinstance(trouble, Exception)
