"""When nobody knows whether tables were restored, each refund is looked up before it is called."""

from __future__ import annotations

from typing import Any

from tests.support.builders import FakeClock
from tests.support.failing_client import Failing

from refunds.processing.process_refund import ProcessRefund
from refunds.tables.state import Control


class Reported:
    """Metrics and a log that remember names and messages."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def add_metric(self, name: str, unit: str, value: float) -> None:
        self.seen.append(name)

    def error(self, message: str, **fields: Any) -> None:
        self.seen.append(message)


def test_without_the_restore_marker_refunds_are_looked_up_first_and_it_is_reported() -> None:
    failing: Any = Failing()
    nobody: Any = None
    reported: Any = Reported()
    run = ProcessRefund(
        queue=nobody,
        breaker=nobody,
        control=Control(failing, "table"),
        ledger=nobody,
        clock=FakeClock(),
        pool=nobody,
        metrics=reported,
        log=reported,
    )
    assert run._look_up_first() is True
    assert "restore marker not read" in reported.seen
