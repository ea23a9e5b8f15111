"""The refunds of the last days, read in the background: what was paid, and what they are found by.

No index of the table holds amounts, gateway ids or trace numbers, so a page that sums or searches
them would have to read every refund. Here each refund is read once, while pages show what is known
so far. A day that has ended is read again once an hour, and today as often as its size allows, both
only while somebody looks.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta

from refunds.domain.clock import rfc3339
from refunds.domain.refund import Item
from refunds.tables.refund_indexes import Span
from refunds_ops.dates import Zone, utc_now
from refunds_ops.stack.stack import Stack
from refunds_ops.terminal import explain
from refunds_ops.totals import Total, from_table, totals

DAYS = 14
MAX_REFUNDS = 200_000
"""Refunds that are kept in memory, about 200 bytes each."""
READ_AGAIN_SECONDS = 4.0
REST = 20
"""After each second of reading, today's refunds are not read for this many seconds."""
ENDED_DAY_SECONDS = 3600.0
AFTER_FAILURE_SECONDS = 60.0

_SEARCHED = ("refund_id", "transaction_id", "user_id", "gateway_refund_id", "gateway_trace")


@dataclass(frozen=True)
class Day:
    """A day's refunds. ``totals`` are by hour, currency and what became of the money."""

    day: date
    as_of: str
    totals: Sequence[Total]
    found_by: Sequence[tuple[str, str]]
    """Each refund's id, and everything it is searched by in one text; newest first."""


@dataclass(frozen=True)
class Known:
    """What has been read so far."""

    days: Sequence[Day] = ()
    """Newest first, without a gap from today on."""
    refunds: int = 0
    reading: bool = False
    complete: bool = False
    """Whether all of the last ``DAYS`` days are there."""
    problem: str = ""

    def search(self, text: str, at_most: int) -> list[str]:
        """The newest refunds that have ``text`` in one of their names."""
        wanted = text.casefold()
        found = []
        for day in self.days:
            for refund_id, names in day.found_by:
                if wanted in names:
                    found.append(refund_id)
                    if len(found) == at_most:
                        return found
        return found


@dataclass
class RecentRefunds:
    stack: Stack
    zone: Zone
    _days: dict[date, Day] = field(default_factory=dict)
    _read_at: dict[date, float] = field(default_factory=dict)
    _today_took: float = 0.0
    _failed_at: float = float("-inf")
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _reader: threading.Thread | None = None
    _known: Known = field(default_factory=Known)

    def known(self, wait_seconds: float = 0.15) -> Known:
        """What is known; begins to read what is missing or old, and waits a moment for it."""
        with self._lock:
            if self._due() and not (self._reader and self._reader.is_alive()):
                self._known = replace(self._known, reading=True)
                self._reader = threading.Thread(
                    target=self._read, name="console-recent", daemon=True
                )
                self._reader.start()
            reader = self._reader
        if reader is not None and wait_seconds:
            reader.join(wait_seconds)
        return self._known

    def _due(self) -> list[date]:
        """The days to read, newest first."""
        now = time.monotonic()
        if now - self._failed_at < AFTER_FAILURE_SECONDS:
            return []
        today = self.zone.today(utc_now())
        often = max(READ_AGAIN_SECONDS, REST * self._today_took)
        due = []
        for back in range(DAYS):
            day = today - timedelta(days=back)
            read_at = self._read_at.get(day)
            if read_at is None or now - read_at > (ENDED_DAY_SECONDS if back else often):
                due.append(day)
        return due

    def _read(self) -> None:
        problem = ""
        try:
            for day in self._due():
                began = time.monotonic()
                self._days[day] = self._day(day)
                self._read_at[day] = time.monotonic()
                if day == self.zone.today(utc_now()):
                    self._today_took = time.monotonic() - began
                self._publish(reading=True)
                if self._known.refunds >= MAX_REFUNDS:
                    self._forget_days_before(day)
                    break
        except Exception as exc:
            self._failed_at = time.monotonic()
            problem = " ".join((explain(exc)[0], *explain(exc)[1]))
        finally:
            self._publish(reading=False, problem=problem)

    def _forget_days_before(self, first: date) -> None:
        today = self.zone.today(utc_now())
        for back in range(DAYS):
            day = today - timedelta(days=back)
            if day < first:
                self._days.pop(day, None)
                self._read_at[day] = time.monotonic()

    def _day(self, day: date) -> Day:
        ends = self.zone.start_of(day + timedelta(days=1))
        span = Span(rfc3339(self.zone.start_of(day)), rfc3339(ends))
        source = from_table(self.stack, span)
        names: list[tuple[str, str]] = []

        def noted(refunds: Iterator[Item]) -> Iterator[Item]:
            for refund in refunds:
                values = (refund.get(name) for name in _SEARCHED)
                searched = "\n".join(str(value).casefold() for value in values if value)
                if len(names) < MAX_REFUNDS:
                    names.append((refund["refund_id"], searched))
                yield refund

        sums = totals(noted(source.refunds), ("hour", "status"), self.zone)
        return Day(day, source.as_of, sums, names[::-1])

    def _publish(self, *, reading: bool, problem: str = "") -> None:
        today = self.zone.today(utc_now())
        days = []
        for back in range(DAYS):
            day = self._days.get(today - timedelta(days=back))
            if day is None:
                break
            days.append(day)
        for day_before in [each for each in self._days if (today - each).days >= DAYS]:
            del self._days[day_before]
        refunds = sum(len(day.found_by) for day in days)
        self._known = Known(days, refunds, reading, len(days) == DAYS, problem)
