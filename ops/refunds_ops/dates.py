"""Days and instants: as operators type them, and as reports show them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from refunds.domain.clock import from_rfc3339
from refunds_ops.errors import NotReadyError, RefusedError

if TYPE_CHECKING:
    from refunds_ops.stack.stack import Stack

ZONE_OUTPUT = "TimeZone"
_AGO = re.compile(r"(\d{1,5})([mhdw])", re.ASCII)
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


@dataclass(frozen=True)
class Zone:
    """The time zone of a stack's days (its parameter TimeZone)."""

    name: str
    info: ZoneInfo

    def local(self, instant: str) -> datetime:
        return from_rfc3339(instant).astimezone(self.info)

    def show(self, instant: str) -> str:
        """Such as "2026-11-27 10:12:03 CET (09:12:03 UTC)"; UTC alone where that is the zone."""
        at, utc = self.local(instant), from_rfc3339(instant)
        shown = f"{at:%Y-%m-%d %H:%M:%S %Z}"
        if self.name == "UTC":
            return shown
        same_day = at.date() == utc.date()
        return (
            f"{shown} ({utc:%H:%M:%S} UTC)" if same_day else f"{shown} ({utc:%m-%d %H:%M:%S} UTC)"
        )

    def short(self, instant: str) -> str:
        return f"{self.local(instant):%Y-%m-%d %H:%M}"

    def start_of(self, day: date) -> datetime:
        return datetime.combine(day, time(), self.info)

    def today(self, now: datetime) -> date:
        return now.astimezone(self.info).date()

    def instant(self, text: str, now: datetime) -> datetime:
        """A day (its start), an RFC 3339 instant, or how long ago: 30m, 24h, 7d, 2w."""
        if ago := _AGO.fullmatch(text):
            return now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text, re.ASCII):
            return self.start_of(self.day(text))
        try:
            return from_rfc3339(text)
        except (ValueError, OverflowError):
            raise RefusedError(
                f"{text} is not a time.",
                "Write a day (2026-11-27), an instant (2026-11-27T09:00:00Z) or how long ago: "
                "30m, 24h, 7d.",
            ) from None

    def by(self, text: str, now: datetime) -> datetime:
        """Like ``instant``, but a day stands for its end, or for now if it has not ended."""
        if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text, re.ASCII):
            try:
                end = self.start_of(self.day(text) + timedelta(days=1))
            except OverflowError:
                return now
            return min(end - timedelta(microseconds=1), now)
        return self.instant(text, now)

    def day(self, text: str) -> date:
        try:
            return date.fromisoformat(text)
        except ValueError:
            raise RefusedError(f"{text} is not a day.", "Write it as 2026-11-27.") from None


def zone_of(stack: Stack | None) -> Zone:
    """The stack's time zone; UTC without a stack, or for one that has none."""
    name = (stack.outputs.get(ZONE_OUTPUT) if stack else None) or "UTC"
    try:
        return Zone(name, ZoneInfo(name))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise NotReadyError(
            f"The stack's time zone {name} is not known on this machine.",
            "Install the package tzdata, or deploy with another TimeZone.",
        ) from None


def age(instant: str, now: datetime) -> str:
    """How long ago, as a person says it: 40 s, 12 min, 3 h, 5 d."""
    seconds = max(0, int((now - from_rfc3339(instant)).total_seconds()))
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def utc_now() -> datetime:
    return datetime.now(UTC)
