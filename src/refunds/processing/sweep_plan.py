"""What the sweep reads next: refunds by their day of creation, and when each day was last read.

A *walk* reads the list from one day towards older ones. Pages of one walk follow each other.
Several walks are read side by side. Where the gateway's list can begin at any day
(``ListsBefore``), a walk begins at the day that is most overdue. Where it can't, every walk begins
at the newest refund, and several follow each other down the list, hours apart: together they see
each day as often as promised, although each of them takes longer.

Nothing here reads a clock or calls anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from itertools import accumulate

from refunds.domain.clock import CLOCK_SKEW, from_rfc3339, rfc3339
from refunds.domain.refund import Item
from refunds.processing.settler import SWEEP_BACK

FORMAT = 2
"""Of the stored state. Format 1 had no number: one walk, with ``created_from`` and ``cursor``."""


@dataclass(frozen=True)
class Tier:
    """Refunds of an age, and how often each is to be seen."""

    name: str
    to_age_days: int
    every: timedelta


TIERS = (
    Tier("recent", 30, timedelta(days=1)),
    Tier("older", SWEEP_BACK.days, timedelta(days=14)),
)

START_AT = 0.75
"""A walk begins when a day has not been read for this part of its tier's time. The rest of the time
is for outages, and for the way to the day."""

GO_ON_AT = 0.65
"""A walk goes on into days that have not been read for this part. It is less than ``START_AT``:
walks that follow each other are not exactly as far apart as they began."""


@dataclass(frozen=True)
class PageRead:
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
        return [_day(created) for created in self.created]

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

    @classmethod
    def from_top(cls, now: datetime) -> Walk:
        # A day ahead: the gateway's clock may be.
        return cls(_start(now), day=_day(now) + 1, since=rfc3339(now))

    @classmethod
    def from_day(cls, day: int, now: datetime) -> Walk:
        if day >= _day(now):
            return cls.from_top(now)  # The day is not over: no bound.
        return cls(_start(now), rfc3339(_midnight(day + 1)), day=day, since=rfc3339(now))

    @classmethod
    def from_item(cls, item: Item) -> Walk:
        day = item["day"]
        return cls(**item | {"day": None if day is None else date.fromisoformat(day).toordinal()})

    def item(self) -> Item:
        day = None if self.day is None else date.fromordinal(self.day).isoformat()
        return {
            "created_from": self.created_from,
            "created_before": self.created_before,
            "cursor": self.cursor,
            "day": day,
            "since": self.since,
            "whole": self.whole,
            "dated": self.dated,
            "failures": self.failures,
        }

    def after(self, page: PageRead) -> Walk:
        """The walk after its next page."""
        days = page.days
        dated = self.dated and (bool(days) or not page.refunds)
        moved = replace(
            self,
            cursor=page.next_cursor,
            whole=self.whole and page.handled,
            dated=dated,
            failures=0,
        )
        if not days or not dated:
            return moved
        if self.day is None:
            # What was read of this day before nobody knows: the walk does not count for it.
            moved = replace(moved, day=max(days), since=rfc3339(page.asked_at), whole=False)
        # Among newer refunds an old date is wrong. It does not take the walk there.
        day, oldest = moved.day, min(days) if page.newest_first else max(days)
        if day is not None and max(days) > day:
            # Not newest first: the day may not be over when it seems to be.
            moved = replace(moved, whole=False)
        if day is not None and oldest < day:
            since = rfc3339(page.asked_at)
            whole = page.handled and page.newest_first
            moved = replace(moved, day=oldest, since=since, whole=whole)
        return moved

    def days_read(self, page: PageRead, to: int | None, *, ended: bool) -> range:
        """The days of which every refund was handled since ``since``, once ``page`` is: down to
        ``to``, which is not over yet unless the list is."""
        if self.day is None or to is None or not (self.whole or self.dated):
            return range(0)
        newest_first = page.newest_first and max(page.days, default=0) <= self.day
        if not page.handled or not newest_first:
            return range(0)
        # The days below this one begin on this page, or have no refunds.
        last = self.day if self.whole else self.day - 1
        return range(to if ended else to + 1, last + 1)


@dataclass(frozen=True)
class SweepState:
    """How far the sweep of one gateway's list is. Each entry of ``seen`` stays true for ever, so an
    older state that overwrites a newer one costs time and loses nothing."""

    began: datetime
    account: str | None = None
    seen: Mapping[int, datetime] = field(default_factory=dict)
    """By day: every refund of the day that was in the list then has been handled since."""
    walks: tuple[Walk, ...] = ()

    @classmethod
    def from_item(cls, item: Item, account: str, now: datetime) -> SweepState:
        """The stored state. It begins again for another account, whose list is another one,
        and when it can't be read."""
        try:
            return cls._from_item(item, account, now)
        except (KeyError, ValueError, TypeError, AttributeError, OverflowError):
            # Nothing is known: all of it is due, and the alarm says so until it has been read.
            return cls(now - SWEEP_BACK, account)

    @classmethod
    def _from_item(cls, item: Item, account: str, now: datetime) -> SweepState:
        if item.get("account", account) != account:
            item = {}
        if item.get("format", FORMAT) != FORMAT:
            raise ValueError("the state is of another release")
        if "format" in item:
            return cls(
                from_rfc3339(item["began"]),
                account,
                {
                    date.fromisoformat(day).toordinal(): from_rfc3339(at)
                    for day, at in item["seen"].items()
                },
                tuple(Walk.from_item(each) for each in item["walks"]),
            )
        if not item.get("created_from"):
            return cls(now, account, {})
        # Format 1: a sweep that began at the newest refund, and its place in the list.
        began = from_rfc3339(item["created_from"]) + SWEEP_BACK
        cursor = item.get("cursor")
        walks = (Walk(item["created_from"], cursor=cursor),) if cursor else ()
        return cls(min(began, now), account, {}, walks)

    def item(self) -> Item:
        return {
            "format": FORMAT,
            "account": self.account,
            "began": rfc3339(self.began),
            "seen": {
                date.fromordinal(day).isoformat(): rfc3339(at) for day, at in self.seen.items()
            },
            "walks": [walk.item() for walk in self.walks],
        }

    def unseen(self, now: datetime) -> dict[str, timedelta]:
        """By tier: how long ago the refunds that were read the longest ago were read."""
        longest = {tier.name: timedelta(0) for tier in TIERS}
        for age_days, day in enumerate(reversed(_days(now))):
            name = _tier(age_days).name
            longest[name] = max(longest[name], now - self._last_seen(day))
        return longest

    def behind(self, now: datetime) -> timedelta:
        """How much longer than promised refunds of any tier have not been read; 0 if none."""
        unseen = self.unseen(now)
        return max(timedelta(0), *(unseen[tier.name] - tier.every for tier in TIERS))

    def planned(self, now: datetime, at_once: int, *, any_day: bool) -> SweepState:
        """With the walks that are needed now, the most urgent first; none when nothing is due.

        ``any_day``: the list can begin at any day.
        """
        urgency = self._urgency(now)

        def most(days: Iterable[int]) -> float:
            return max((urgency[day] for day in days), default=0.0)

        needed = [walk for walk, days in _ways(self.walks, now) if most(days) >= GO_ON_AT]
        while len(needed) < at_once:
            taken = {_place(walk, now) for walk in needed}
            newest = max(taken, default=0)
            due = [day for day in urgency if day not in taken and (any_day or day > newest)]
            day = max(due, key=urgency.__getitem__, default=None)
            if day is None or urgency[day] < START_AT:
                break
            needed.append(Walk.from_day(day, now) if any_day else Walk.from_top(now))
        # A walk whose page can't be read does not keep the others waiting.
        ways = sorted(_ways(needed, now), key=lambda way: (way[0].failures, -most(way[1])))
        return replace(self, walks=tuple(walk for walk, _ in ways))

    def after(self, walk: Walk, page: PageRead, now: datetime) -> SweepState:
        """The state after a page of one of the walks."""
        moved, oldest = walk.after(page), _oldest(now)
        ended = page.next_cursor is None or (moved.day is not None and moved.day < oldest)
        seen = {day: at for day, at in self.seen.items() if day >= oldest}
        for day in walk.days_read(page, oldest if ended else moved.day, ended=ended):
            since = from_rfc3339(walk.since)
            seen[day] = max(since, seen.get(day, since))
        return replace(self, seen=seen, walks=_with(self.walks, walk, () if ended else (moved,)))

    def after_failure(self, walk: Walk) -> SweepState:
        """The state after a page of one of the walks could not be read."""
        failed = replace(walk, failures=walk.failures + 1)
        return replace(self, walks=_with(self.walks, walk, (failed,)))

    def without(self, walk: Walk) -> SweepState:
        return replace(self, walks=_with(self.walks, walk, ()))

    def _urgency(self, now: datetime) -> dict[int, float]:
        """For each day how much of its tier's time is over since it was read; 1: all of it."""
        return {
            day: (now - self._last_seen(day)) / _tier(age_days).every
            for age_days, day in enumerate(reversed(_days(now)))
        }

    def _last_seen(self, day: int) -> datetime:
        since = self.seen.get(day)
        return max(self.began, _midnight(day), since if since is not None else self.began)


_FIRST_MIDNIGHT = datetime.fromordinal(1).replace(tzinfo=UTC)


def _with(walks: Sequence[Walk], walk: Walk, instead: Iterable[Walk]) -> tuple[Walk, ...]:
    place = walks.index(walk)
    return (*walks[:place], *instead, *walks[place + 1 :])


def _day(instant: datetime) -> int:
    return instant.astimezone(UTC).toordinal()


def _midnight(day: int) -> datetime:
    return _FIRST_MIDNIGHT + timedelta(days=day - 1)


def _start(now: datetime) -> str:
    return rfc3339(now - SWEEP_BACK)


def _oldest(now: datetime) -> int:
    return _day(now - SWEEP_BACK)


def _days(now: datetime) -> range:
    return range(_oldest(now), _day(now) + 1)


def _place(walk: Walk, now: datetime) -> int:
    return _day(now) if walk.day is None else min(walk.day, _day(now))


def _ways(walks: Iterable[Walk], now: datetime) -> list[tuple[Walk, range]]:
    """Each walk with the days before it, as far as to the place of the next walk."""
    ways, stop = [], 0
    for walk in sorted(walks, key=lambda walk: _place(walk, now)):
        place = _place(walk, now)
        ways.append((walk, range(max(stop + 1, _oldest(now)), place + 1)))
        stop = place
    return ways


def _tier(age_days: int) -> Tier:
    recent, older = TIERS
    return recent if age_days <= recent.to_age_days else older
