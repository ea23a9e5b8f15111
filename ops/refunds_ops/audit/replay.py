"""Writes failed stream records to the trail again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from refunds.audit.outcome_events import OutcomeBus, OutcomeEvent
from refunds.audit.writer import AuditWriter, InOrder
from refunds.domain.clock import Clock
from refunds.tables.audit_trail import AuditTable
from refunds_ops.audit.failures import HANDLED, FailureReader, Kept


@dataclass
class Replayed:
    """The result for one object: the entries that are in the trail now, and why others are not."""

    key: str
    stored: int = 0
    left: list[str] = field(default_factory=list)
    events: list[OutcomeEvent] = field(default_factory=list)

    @property
    def handled(self) -> bool:
        return not self.left


class _KeptAlready:
    """Replaces the failures bucket: a record that fails again is in it already."""

    def keep(self, kind: str, name: str | None, content: dict[str, Any]) -> str:
        return ""


class Replayer:
    """``bus`` None publishes nothing, since the events can be old."""

    def __init__(
        self,
        failures: FailureReader,
        audit: AuditTable,
        clock: Clock,
        *,
        bus: OutcomeBus | None = None,
        dry_run: bool = False,
    ) -> None:
        self._failures = failures
        self._writer = AuditWriter(audit=audit, failures=_KeptAlready(), clock=clock)
        self._bus = bus
        self._dry_run = dry_run

    def replay(self, kept: Kept) -> Replayed:
        """Store what the object's records make, publish it if asked, then put the object away.

        Raises the first error that a later attempt may resolve. Then the object stays, and can be
        replayed again.
        """
        result = Replayed(kept.key, left=[kept.problem] if kept.problem else [])
        if self._dry_run:
            return result
        for written in self._writer.write_all(kept.records, InOrder()):
            if isinstance(written, Exception):
                raise written
            if written.kept is not None:
                result.left.append(written.kept)
            elif written.entry is not None:
                result.stored += 1
                if written.event is not None:
                    result.events.append(written.event)
        if self._bus is not None:
            self._bus.publish(result.events)
        if result.handled:
            self._failures.move(kept.key, HANDLED)
        return result
