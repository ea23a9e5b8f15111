"""A walk: one way down the gateway's list of refunds, and the days that it has read.

Nothing here reads a clock or calls anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from itertools import accumulate
from typing import NamedTuple

from refunds.domain.clock import CLOCK_SKEW, rfc3339
from refunds.domain.refund import SWEEP_BACK, Item


class PageRead(NamedTuple):
    """A page of a walk: when it was asked for, when its refunds were created, what comes next."""

    asked_at: datetime
    refunds: int
    created: Sequence[datetime]
    """Of those refunds that have a date."""
    next_cursor: str | None
    handled: bool
    """Whether every refund of the page was handled."""

    @property
    def days(self) -> list[int]:
        return [day_of(created) for created in self.created]

    @property
    def newest_first(self) -> bool:
        """But for a few minutes: the gateway's machines have clocks of their own."""
        oldest_so_far = accumulate(self.created, min)
        return all(
            created <= oldest + CLOCK_SKEW
            for created, oldest in zip(self.created, oldest_so_far, strict=True)
        )


@dataclass(frozen=True)
class Walk:
    """One way down a list, newest first."""

    created_from: str
    created_before: str | None = None
    cursor: str | None = None
    """None: the first page has not been read."""
    day: int | None = None
    """The day whose refunds are being read, as an ordinal. None: in the middle of nobody knows
    which, until a page shows it."""
    since: str = ""
    """When the first refund of that day was asked for."""
    whole: bool = True
    """Whether all refunds of that day so far were handled."""
    dated: bool = True
    """False once a page did not say when its refunds were created. From there on only the list's
    end shows what was read."""
    failures: int = 0
    """How many times in a row the next page could not be read."""
    tries: int = 0
    """How many times in a row the next page was read in this run and not all of it handled."""
    older_since: str | None = None
    """When the first page was asked for that has refunds of a day before ``day``."""
    older_whole: bool = True
    """Whether all refunds since then were handled."""

    @classmethod
    def from_top(cls, now: datetime) -> Walk:
        # A day ahead: the gateway's clock may be.
        return cls(_start(now), day=day_of(now) + 1, since=rfc3339(now))

    @classmethod
    def from_day(cls, day: int, now: datetime) -> Walk:
        if day >= day_of(now):
            return cls.from_top(now)  # The day is not over: no bound.
        return cls(_start(now), rfc3339(midnight(day + 1)), day=day, since=rfc3339(now))

    @classmethod
    def from_item(cls, item: Item) -> Walk:
        known = {each.name: item[each.name] for each in fields(cls) if each.name in item}
        day = item["day"]
        return cls(**known | {"day": None if day is None else date.fromisoformat(day).toordinal()})

    def item(self) -> Item:
        day = None if self.day is None else date.fromordinal(self.day).isoformat()
        item = {
            "created_from": self.created_from,
            "created_before": self.created_before,
            "cursor": self.cursor,
            "day": day,
            "since": self.since,
            "whole": self.whole,
            "dated": self.dated,
            "failures": self.failures,
        }
        if self.older_since is not None:
            # The release before does not know these two.
            item |= {"older_since": self.older_since, "older_whole": self.older_whole}
        return item

    def after(self, page: PageRead) -> Walk:
        """The walk after its next page.

        It is at the day of the page's newest refund. Some of the page's dates may be wrong, and an
        old one among newer ones, or at the page's end, does not take the walk there.
        """
        days = page.days
        dated = self.dated and (bool(days) or not page.refunds)
        moved = replace(
            self,
            cursor=page.next_cursor,
            whole=self.whole and page.handled,
            older_whole=self.older_since is None or (self.older_whole and page.handled),
            dated=dated,
            failures=0,
            tries=0,
        )
        if not days or not dated:
            return moved
        if self.day is None:
            # What was read of this day before nobody knows: the walk does not count for it.
            moved = replace(moved, day=max(days), since=rfc3339(page.asked_at), whole=False)
        elif max(days) > self.day:
            # Not newest first: the day may not be over when it seems to be.
            moved = replace(moved, whole=False)
        elif max(days) < self.day and page.newest_first:
            moved = moved._at_older_day(max(days), page)
        return moved._noting_older_refunds(page)

    def _at_older_day(self, day: int, page: PageRead) -> Walk:
        since, whole = self.older_since, self.older_whole
        if since is None:
            since, whole = rfc3339(page.asked_at), page.handled
        return replace(self, day=day, since=since, whole=whole, older_since=None, older_whole=True)

    def _noting_older_refunds(self, page: PageRead) -> Walk:
        if self.older_since is not None or self.day is None or min(page.days) >= self.day:
            return self
        return replace(self, older_since=rfc3339(page.asked_at), older_whole=page.handled)

    def days_read(self, moved: Walk) -> range:
        """The days of which every refund was handled since ``since``, once the next page has
        ``moved`` the walk to an older day."""
        if self.day is None or moved.day is None or not self.older_whole:
            return range(0)
        # The days below this one began on an earlier page, or have no refunds.
        last = self.day if self.whole else self.day - 1
        return range(moved.day + 1, last + 1)

    def days_read_at_end(self, page: PageRead, oldest: int) -> range:
        """The same, down to ``oldest``, after ``page``, which is the list's last."""
        if self.day is None or not (self.whole or self.dated) or not self.older_whole:
            return range(0)
        newest_first = page.newest_first and max(page.days, default=0) <= self.day
        if not page.handled or not newest_first:
            return range(0)
        return range(oldest, (self.day if self.whole else self.day - 1) + 1)


_FIRST_MIDNIGHT = datetime.fromordinal(1).replace(tzinfo=UTC)


def day_of(instant: datetime) -> int:
    return instant.astimezone(UTC).toordinal()


@lru_cache(maxsize=512)
def midnight(day: int) -> datetime:
    """Cached: each page asks for every day of the sweep."""
    return _FIRST_MIDNIGHT + timedelta(days=day - 1)


def _start(now: datetime) -> str:
    return rfc3339(now - SWEEP_BACK)
