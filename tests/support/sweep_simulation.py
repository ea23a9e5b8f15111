"""Plays the sweep's plan over months, for a list far too long to make.

Only ``sweep_plan`` and ``sweep_walk`` are the product's. A page is a number of refunds of a day,
and the time that it takes to read. Many refunds a second are played as fewer and larger pages,
whose reading takes as much longer: what is compared are times.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from refunds.processing.sweep_plan import SweepState
from refunds.processing.sweep_walk import PageRead, Walk

PAGE = 100
BEGAN = datetime(2026, 6, 1, tzinfo=UTC)
DAY_SECONDS = 86_400


@dataclass
class SimulatedSweep:
    refunds_per_second: float
    pages_at_once: int
    any_day: bool
    share: float
    """Of the time that the sweep has."""
    page_seconds: float = 0.3
    coarser: int = 1200
    """So many pages are played as one."""
    pages_read: int = 0
    most_walks: int = 0
    worst: dict[str, timedelta] = field(default_factory=dict)

    def run(self, days: int, *, settle_days: int) -> None:
        """Keeps the longest that refunds of each tier were not seen, after ``settle_days``."""
        step = timedelta(seconds=self.page_seconds * self.coarser / self.share)
        pages_a_day = self.refunds_per_second * DAY_SECONDS / PAGE / self.coarser
        now = BEGAN
        state = SweepState(now, None, {}, ())
        planned_for: object = None
        while now < BEGAN + timedelta(days=days):
            # Planning at each page would take most of the time, and change little.
            if planned_for != (places := [now.date(), *(walk.day for walk in state.walks)]):
                state = state.planned(now, self.pages_at_once, any_day=self.any_day)
                planned_for = places if state.walks else None
            read = state.walks[: self.pages_at_once]
            self.most_walks = max(self.most_walks, len(state.walks))
            asked_at, now = now, now + step
            for walk in read:
                state = state.after(walk, self._page(walk, asked_at, pages_a_day), now)
                self.pages_read += self.coarser
            if now - BEGAN > timedelta(days=settle_days):
                for tier, unseen in state.unseen(now).items():
                    self.worst[tier] = max(self.worst.get(tier, timedelta(0)), unseen)

    def _page(self, walk: Walk, asked_at: datetime, pages_a_day: float) -> PageRead:
        # The cursor is the instant that the next page begins at, going back.
        top = asked_at
        if walk.cursor is not None:
            top = datetime.fromisoformat(walk.cursor)
        elif walk.created_before is not None:
            top = datetime.fromisoformat(walk.created_before)
        bottom = top - timedelta(days=1) / pages_a_day
        last = datetime.fromisoformat(walk.created_from)
        just_before = top - timedelta(microseconds=1)
        return PageRead(
            asked_at,
            self.coarser * PAGE,
            [just_before, max(bottom, last)],
            bottom.isoformat() if bottom > last else None,
            handled=True,
        )
