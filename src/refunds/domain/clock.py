"""Clocks, deadlines, and instants as RFC 3339 text. Code reads only a clock that it was given."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, Protocol

CLOCK_SKEW = timedelta(minutes=5)
"""How far the clocks of the machines that write rows, entries and backups may differ."""


class Clock(Protocol):
    """The source of time. The simulator has its own."""

    def now(self) -> datetime:
        """The wall clock, in UTC. It may jump, and it differs between machines."""
        ...

    def monotonic(self) -> float:
        """Seconds that never decrease, for waits within one process."""
        ...


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()


class Deadline(NamedTuple):
    """The point on the monotonic clock by which something must end."""

    clock: Clock
    at_seconds: float

    @classmethod
    def after(cls, clock: Clock, seconds: float) -> Deadline:
        return cls(clock, clock.monotonic() + seconds)

    def left_seconds(self) -> float:
        return max(0.0, self.at_seconds - self.clock.monotonic())

    def within(self, seconds: float, *, reserve_seconds: float = 0.0) -> Deadline:
        """A deadline in ``seconds``, or ``reserve_seconds`` before this deadline if that is
        sooner."""
        return Deadline(
            self.clock,
            min(self.clock.monotonic() + seconds, self.at_seconds - reserve_seconds),
        )


def rfc3339(instant: datetime) -> str:
    """The instant in UTC with microseconds: always 27 characters, so that the order of texts is the
    order of times."""
    # isoformat pads years before 1000, strftime does not.
    return instant.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


_RFC3339 = re.compile(
    r"(?P<minute>[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}):(?P<second>[0-9]{2})"
    r"(?:\.(?P<fraction>[0-9]+))?(?P<offset>Z|[+-][0-9]{2}:[0-9]{2})"
)


def from_rfc3339(text: str) -> datetime:
    """Read an RFC 3339 instant, in UTC.

    Digits after the microseconds are cut off. A leap second is the last microsecond before the next
    day, since ``datetime`` has no 61st second. Raises ``ValueError`` for anything else.
    """
    parts = _RFC3339.fullmatch(text.upper())
    if parts is None:
        raise ValueError("an RFC 3339 instant with an offset, such as Z or +02:00, is required")
    leap = parts["second"] == "60"
    second = "59" if leap else parts["second"]
    fraction = "999999" if leap else (parts["fraction"] or "0")[:6].ljust(6, "0")
    offset = "+00:00" if parts["offset"] == "Z" else parts["offset"]
    try:
        local = datetime.fromisoformat(f"{parts['minute']}:{second}.{fraction}{offset}")
        instant = local.astimezone(UTC)
        if leap and (instant + timedelta(microseconds=1)).strftime("%d %H:%M") != "01 00:00":
            raise ValueError("a leap second is only ever the last second of a month, in UTC")
    except OverflowError:
        raise ValueError("the instant is before year 1 or after year 9999") from None
    return instant


def later(text: str, delta: timedelta) -> str:
    """The instant ``delta`` after ``text``, both in ``rfc3339`` form."""
    return rfc3339(from_rfc3339(text) + delta)
