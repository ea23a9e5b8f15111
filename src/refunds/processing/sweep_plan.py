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
from datetime import date, datetime, timedelta
from typing import NamedTuple

from refunds.domain.clock import CLOCK_SKEW, from_rfc3339, rfc3339
from refunds.domain.refund import SWEEP_BACK, Item
from refunds.processing.sweep_walk import PageRead, Walk, day_of, midnight

FORMAT = 2
"""Of the stored state. Format 1 had no number: one walk, with ``created_from`` and ``cursor``."""


class Tier(NamedTuple):
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

TRY_AGAIN_AFTER = timedelta(minutes=45)
"""A day that was read and could not be handled as a whole is read again after this time, and after
every other day that is due: a refund that always fails must not keep the others waiting. So it
fails in every hour, as long as there is time: the alarm ``SweepErrors`` counts by hours."""

GO_ON_AT = 0.65
"""A walk goes on into days that have not been read for this part. It is less than ``START_AT``:
walks that follow each other are not exactly as far apart as they began."""


@dataclass(frozen=True)
class SweepState:
    """How far the sweep of one gateway's list is. Each entry of ``seen`` stays true for ever, so an
    older state that overwrites a newer one costs time and loses nothing."""

    began: datetime
    account: str | None = None
    seen: Mapping[int, datetime] = field(default_factory=dict)
    """By day: every refund of the day that was in the list then has been handled since."""
    walks: tuple[Walk, ...] = ()
    tried: Mapping[int, datetime] = field(default_factory=dict)
    """By day: when it was last read although not all of it could be handled."""

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
            # What is later than now was written by a wrong clock. Until then, the day would count
            # as read.
            latest = now + CLOCK_SKEW
            began = from_rfc3339(item["began"])
            stored = [Walk.from_item(each) for each in item["walks"]]
            return cls(
                began if began <= latest else now - SWEEP_BACK,
                account,
                _instants(item["seen"], latest),
                tuple(
                    walk for walk in stored if not walk.since or from_rfc3339(walk.since) <= latest
                ),
                _instants(item.get("tried", {}), latest),
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
            "seen": _texts(self.seen),
            "walks": [walk.item() for walk in self.walks],
            "tried": _texts(self.tried),
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
        tried = {day: at for day, at in self.tried.items() if day >= oldest}
        for day in _passed(walk, moved, now, ended=ended):
            tried[day] = page.asked_at
        read = [(walk.since, walk.days_read(moved))]
        if page.next_cursor is None:
            read.append((moved.since, moved.days_read_at_end(page, oldest)))
        for since_text, days in read:
            since = from_rfc3339(since_text) if days else now
            for day in days:
                if day >= oldest:
                    seen[day] = max(since, seen.get(day, since))
                    tried.pop(day, None)
        walks = _with(self.walks, walk, () if ended else (moved,))
        return replace(self, seen=seen, tried=tried, walks=walks)

    def after_failure(self, walk: Walk) -> SweepState:
        """The state after a page of one of the walks could not be read."""
        failed = replace(walk, failures=walk.failures + 1)
        return replace(self, walks=_with(self.walks, walk, (failed,)))

    def after_try(self, walk: Walk) -> SweepState:
        """The state after a page of one of the walks was read and not all of it handled."""
        tried = replace(walk, failures=0, tries=walk.tries + 1)
        return replace(self, walks=_with(self.walks, walk, (tried,)))

    def without(self, walk: Walk, now: datetime) -> SweepState:
        """The state when a walk is given up. Its day is tried again later."""
        tried = {**self.tried, _place(walk, now): now}
        return replace(self, walks=_with(self.walks, walk, ()), tried=tried)

    def _urgency(self, now: datetime) -> dict[int, float]:
        """For each day how much of its tier's time is over since it was read; 1: all of it."""
        urgency = {
            day: (now - self._last_seen(day)) / _tier(age_days).every
            for age_days, day in enumerate(reversed(_days(now)))
        }
        for day, at in self.tried.items():
            if day in urgency:
                at_most = START_AT if now - at >= TRY_AGAIN_AFTER else 0.0
                urgency[day] = min(urgency[day], at_most)
        return urgency

    def _last_seen(self, day: int) -> datetime:
        return max(self.began, midnight(day), self.seen.get(day, self.began))


def _with(walks: Sequence[Walk], walk: Walk, instead: Iterable[Walk]) -> tuple[Walk, ...]:
    place = walks.index(walk)
    return (*walks[:place], *instead, *walks[place + 1 :])


def _passed(walk: Walk, moved: Walk, now: datetime, *, ended: bool) -> range:
    """The days that a walk has left behind."""
    if walk.day is None or moved.day is None:
        return range(0)
    return range(_oldest(now) if ended else moved.day + 1, min(walk.day, day_of(now)) + 1)


def _instants(texts: Mapping[str, str], latest: datetime) -> dict[int, datetime]:
    instants = {date.fromisoformat(day).toordinal(): from_rfc3339(at) for day, at in texts.items()}
    return {day: at for day, at in instants.items() if at <= latest}


def _texts(instants: Mapping[int, datetime]) -> dict[str, str]:
    return {date.fromordinal(day).isoformat(): rfc3339(at) for day, at in instants.items()}


def _oldest(now: datetime) -> int:
    return day_of(now - SWEEP_BACK)


def _days(now: datetime) -> range:
    return range(_oldest(now), day_of(now) + 1)


def _place(walk: Walk, now: datetime) -> int:
    return day_of(now) if walk.day is None else min(walk.day, day_of(now))


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
