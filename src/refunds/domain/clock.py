"""Time comes in as an argument: one clock for instants, deadlines for waits, RFC 3339 on disk."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Where time comes from; the simulator has its own."""

    def now(self) -> datetime:
        """The wall clock, in UTC. May jump and may differ between machines."""
        ...

    def monotonic(self) -> float:
        """Seconds that only rise, for waits within one process."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()


@dataclass(frozen=True)
class Deadline:
    """A point on the monotonic clock by which something must be over."""

    clock: Clock
    at_seconds: float

    @classmethod
    def after(cls, clock: Clock, seconds: float) -> Deadline:
        return cls(clock, clock.monotonic() + seconds)

    def left_seconds(self) -> float:
        """Seconds left; never below zero."""
        return max(0.0, self.at_seconds - self.clock.monotonic())

    def within(self, seconds: float, *, reserve_seconds: float = 0.0) -> Deadline:
        """The sooner of ``seconds`` from now and this deadline less ``reserve_seconds``."""
        return Deadline(
            self.clock,
            min(self.clock.monotonic() + seconds, self.at_seconds - reserve_seconds),
        )


def rfc3339(instant: datetime) -> str:
    """UTC with microseconds, always 27 characters, so that text order is time order."""
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def from_rfc3339(text: str) -> datetime:
    """Read what ``rfc3339`` wrote, or any RFC 3339 instant with an offset.

    Raises ``ValueError`` when it is none.
    """
    instant = datetime.fromisoformat(text.upper().replace("Z", "+00:00"))
    if instant.tzinfo is None:
        raise ValueError("an instant needs an offset, such as Z or +02:00")
    return instant.astimezone(UTC)


def later(text: str, delta: timedelta) -> str:
    """The instant ``delta`` after ``text``, both in ``rfc3339`` form."""
    return rfc3339(from_rfc3339(text) + delta)
