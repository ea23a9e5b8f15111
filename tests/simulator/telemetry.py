"""What the functions report: metrics are kept, log lines go into the history's trace."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.simulator.kernel import Kernel


@dataclass(frozen=True)
class Metric:
    """``at``: simulated seconds."""

    at: float
    function: str
    name: str
    unit: str
    value: float


class Telemetry:
    """Powertools' Metrics and Logger of one environment."""

    def __init__(self, metrics: list[Metric], kernel: Kernel, function: str) -> None:
        self._metrics = metrics
        self._kernel = kernel
        self._function = function

    def add_metric(self, name: str, unit: str, value: float) -> None:
        self._metrics.append(Metric(self._kernel.now, self._function, name, unit, value))

    def info(self, msg: str, *, extra: Mapping[str, Any] | None = None, **fields: Any) -> None:
        self._kernel.tell("info", msg)

    def warning(self, msg: str, *, extra: Mapping[str, Any] | None = None, **fields: Any) -> None:
        self._kernel.tell("warning", f"{msg} {fields.get('reason', '')}".rstrip())

    def error(self, msg: str, *, extra: Mapping[str, Any] | None = None, **fields: Any) -> None:
        self._kernel.tell("error", f"{msg} {extra or ''}".rstrip())
