"""How far the sweep reaches, from the product's own numbers. ``python -m`` prints the table of
docs/scale.md."""

from __future__ import annotations

import math

from refunds.processing.sweep_plan import START_AT, TIERS
from refunds.processing.turns import MIN_LEFT_SECONDS

DAY_SECONDS = 86_400
PAGE = 100
"""Refunds of a page: the most that Flair and Stripe give."""
PAGE_SECONDS = 0.3
RUN_EVERY_SECONDS = 300
RUN_SECONDS = 240
"""The timeout of ReconcileRefunds."""
MOST_PAGES_AT_ONCE = 12
"""The template's bound of ``SweepPagesAtOnce``."""
RATES = (1, 10, 100, 1_000, 10_000)

SECONDS_A_DAY = (RUN_SECONDS - MIN_LEFT_SECONDS) / RUN_EVERY_SECONDS * DAY_SECONDS
"""The sweep's time when nothing else is due."""


def pages_a_day(refunds_per_second: float) -> float:
    """Pages to read a day, so that each tier is seen as often as promised, and as early as the
    sweep begins (``START_AT``)."""
    made = refunds_per_second * DAY_SECONDS / PAGE
    pages, from_age = 0.0, 0
    for tier in TIERS:
        days = tier.to_age_days - from_age
        pages += made * days / (START_AT * tier.every.total_seconds() / DAY_SECONDS)
        from_age = tier.to_age_days
    return pages


def pages_at_once(refunds_per_second: float) -> int:
    """How many pages have to be read at the same time."""
    return math.ceil(pages_a_day(refunds_per_second) * PAGE_SECONDS / SECONDS_A_DAY)


def most_refunds_per_second(at_once: int) -> float:
    """The rate up to which so many pages at once are enough."""
    return at_once * SECONDS_A_DAY / PAGE_SECONDS / pages_a_day(1)


def table() -> str:
    lines = [
        "| refunds a second | pages a day | `SweepPagesAtOnce` | calls of the list a second | |",
        "| ---: | ---: | ---: | ---: | --- |",
    ]
    for rate in RATES:
        needed = pages_at_once(rate)
        what = "in time"
        if needed > MOST_PAGES_AT_ONCE:
            what = "more than the setting allows: webhooks"
        lines.append(
            f"| {rate:,} | {pages_a_day(rate):,.0f} | {needed:,} "
            f"| {pages_a_day(rate) / DAY_SECONDS:,.1f} | {what} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
