"""What a history expects of the alarms: which is on by when, which is not, and when all are off."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.simulator.alarms import Alarm, AlarmBoard, Datapoints, Series
from tests.simulator.kernel import START_SECONDS

MINUTE = 60.0


@dataclass(frozen=True)
class Expected:
    """``alarm`` is on at the latest at ``by``, when ``since`` is when it went wrong."""

    alarm: str
    since: float
    by: float


@dataclass(kw_only=True)
class Expectations:
    """The metrics of a history stay, so that a changed alarm is evaluated over them again without
    playing anything: that is how mutants of alarms are caught.
    """

    expected: list[Expected] = field(default_factory=list)
    silent: list[Expected] = field(default_factory=list)
    """Alarms that are never on between these instants."""
    quiet_from: float | None = None
    """From when on every alarm must be off, and stay off until the end."""
    begins: float = START_SECONDS
    """What comes before is known to the alarms, which are evaluated from then on."""
    ends: float = 0.0

    @property
    def data(self) -> dict[Series, Datapoints]:
        raise NotImplementedError

    def faults(self, alarms: tuple[Alarm, ...]) -> list[str]:
        """What these alarms should have done, and did not."""
        board = AlarmBoard(alarms, begins=self.begins)
        board.data = self.data
        board.advance(self.ends)
        names = {alarm.name for alarm in alarms}
        found = []
        for each in self.expected:
            if each.by > self.ends or each.alarm not in names:
                continue
            at = board.first_on(each.alarm, each.since)
            if at is None or at > each.by:
                found.append(f"{each.alarm} is not on {(each.by - each.since) / MINUTE:.0f} min on")
        for each in self.silent:
            at = board.first_on(each.alarm, each.since) if each.alarm in names else None
            if at is not None and at < each.by:
                found.append(
                    f"{each.alarm} is on {(at - each.since) / MINUTE:.0f} min on, too soon"
                )
        if self.quiet_from is not None:
            found += [
                f"{alarm.name} is on, and all is well"
                for alarm in alarms
                if board.on_after(alarm.name, self.quiet_from)
            ]
        return found
