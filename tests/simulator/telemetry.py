"""What the functions report: metrics are kept, log lines go into the history's trace."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.simulator.kernel import Kernel

from refunds.audit.money_metrics import OUTCOME_COUNTS


@dataclass(frozen=True)
class Metric:
    """``at``: simulated seconds."""

    at: float
    function: str
    name: str
    unit: str
    value: float


class Telemetry:
    """Powertools' Metrics and Logger of one environment.

    Metrics leave with the end of an invocation, or when the function emits them: what a crash
    interrupts reports nothing more.
    """

    def __init__(self, metrics: list[Metric], kernel: Kernel, function: str) -> None:
        self._metrics = metrics
        self._kernel = kernel
        self._function = function
        self._pending: list[tuple[str, str, float]] = []

    def add_metric(self, name: str, unit: str, value: float) -> None:
        self._pending.append((name, unit, value))

    def add(self, money: Mapping[str, Mapping[str, int]]) -> None:
        """Counts without their currency; no alarm of the template's defaults is about amounts."""
        for values in money.values():
            for name, value in (dict.fromkeys(OUTCOME_COUNTS, 0) | dict(values)).items():
                if name.endswith("Count"):
                    self.add_metric(name, "Count", value)

    def begin(self) -> None:
        self._pending.clear()

    def flush(self) -> None:
        now, function = self._kernel.now, self._function
        self._metrics.extend(Metric(now, function, *pending) for pending in self._pending)
        self._pending.clear()

    flush_metrics = flush

    def info(self, msg: str, *, extra: Mapping[str, Any] | None = None, **fields: Any) -> None:
        self._kernel.log("info", msg)

    def warning(self, msg: str, *, extra: Mapping[str, Any] | None = None, **fields: Any) -> None:
        self._kernel.log("warning", f"{msg} {fields.get('reason', '')}".rstrip())

    def error(self, msg: str, *, extra: Mapping[str, Any] | None = None, **fields: Any) -> None:
        self._kernel.log("error", f"{msg} {extra or ''}".rstrip())
