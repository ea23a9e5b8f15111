"""Where a function reports to. Powertools' Metrics and Logger fit; the simulator passes its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class Metrics(Protocol):
    def add_metric(self, name: str, unit: str, value: float) -> None: ...

    def flush_metrics(self) -> None:
        """Emit what was added, without waiting for the end of the invocation."""
        ...


class Money(Protocol):
    def add(self, money: Mapping[str, Mapping[str, int]]) -> None:
        """By currency: amounts in minor units and counts, by the metric's name."""
        ...


class Log(Protocol):
    def info(self, msg: str, *, extra: Mapping[str, Any] | None = None, **fields: Any) -> None: ...

    def warning(
        self, msg: str, *, extra: Mapping[str, Any] | None = None, **fields: Any
    ) -> None: ...

    def error(self, msg: str, *, extra: Mapping[str, Any] | None = None, **fields: Any) -> None: ...
