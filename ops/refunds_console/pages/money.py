"""How much went back: today, against the usual, and by day."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from starlette.requests import Request
from starlette.responses import Response

from refunds_console.charts import Bars, Lines, Share, lines, shares, stacked_bars
from refunds_console.recent import DAYS, Day, Known
from refunds_console.rendering import Pages, money
from refunds_console.routes import Routes, get
from refunds_console.state import Console
from refunds_ops.dates import utc_now
from refunds_ops.totals import Total

GROUPS = ("paid out", "open", "in review", "reversed", "failed")
"""The groups of `refunds totals`, in the order of the money: first the money that moves."""
USUAL_DAYS = 7
HOURS = 24
MUCH_MORE_PERCENT = 1000
PLOT = {"width": 960, "height": 220}


@dataclass(frozen=True)
class Amount:
    """Of today, in one currency and group."""

    group: str
    count: int
    amount_minor: int


@dataclass(frozen=True)
class CurrencyDay:
    """Today in one currency."""

    currency: str
    amounts: Sequence[Amount]
    usual_minor: int | None
    """The average that earlier days had paid out by this time; None if there is nothing to compare
    with."""
    shares: Sequence[Share]

    @property
    def paid_minor(self) -> int:
        return self.amounts[0].amount_minor

    @property
    def paid_count(self) -> int:
        return self.amounts[0].count

    @property
    def against_usual(self) -> str:
        if not self.usual_minor:
            return ""
        percent = self.paid_minor * 100 // self.usual_minor
        if percent >= MUCH_MORE_PERCENT:
            return f"{percent // 100} times the usual"
        return f"{percent} % of the usual"


@dataclass(frozen=True)
class Money:
    known: Known
    today: date
    as_of: str
    currencies: Sequence[CurrencyDay]
    """The one with the most refunds first."""
    chosen: str
    by_hour: Lines | None
    by_day: Bars | None
    days: Sequence[tuple[date, Sequence[Amount]]]
    """The plot by day as a table, newest first."""


def read_money(console: Console, currency: str | None) -> Money:
    known = console.recent.known()
    now = utc_now()
    local = now.astimezone(console.zone.info)
    today = local.date()
    newest = next((day for day in known.days if day.day == today), None)
    counts = Counter[str]()
    for day in known.days:
        for total in day.totals:
            counts[total.key["currency"]] += total.count
    names = [name for name, _ in counts.most_common()]
    chosen = currency if currency is not None and currency in counts else next(iter(names), "")
    return Money(
        known=known,
        today=today,
        as_of=newest.as_of if newest else "",
        currencies=[
            each
            for name in names
            if (each := _currency_day(name, newest, known.days, local)) is not None
        ],
        chosen=chosen,
        by_hour=_by_hour(known.days, newest, chosen, local) if chosen else None,
        by_day=_by_day(known.days, chosen, today) if chosen else None,
        days=[(day.day, _amounts(day.totals, chosen)) for day in known.days] if chosen else [],
    )


def _amounts(totals: Iterable[Total], currency: str) -> list[Amount]:
    sums: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for total in totals:
        if total.key["currency"] == currency:
            sums[total.key["status"]][0] += total.count
            sums[total.key["status"]][1] += total.amount_minor
    return [Amount(group, *sums[group]) for group in GROUPS]


def _currency_day(
    currency: str, newest: Day | None, days: Sequence[Day], local: datetime
) -> CurrencyDay | None:
    amounts = _amounts(newest.totals if newest else (), currency)
    usual = _usual(days, currency, local)
    if not any(each.count for each in amounts) and not usual:
        return None
    parts = {each.group: each.amount_minor for each in amounts}
    by_now = None if usual is None else _by_now(usual, local)
    return CurrencyDay(currency, amounts, by_now, shares(parts, PLOT["width"]))


def _paid_by_hour(day: Day, currency: str) -> list[int]:
    hours = [0] * HOURS
    for total in day.totals:
        if total.key["currency"] == currency and total.key["status"] == "paid out":
            hours[int(total.key["hour"])] += total.amount_minor
    return hours


def _usual(days: Sequence[Day], currency: str, local: datetime) -> list[int] | None:
    """What was paid out in each hour, on the average of the days before; None without any."""
    before = [day for day in days if day.day < local.date()][:USUAL_DAYS]
    if not before:
        return None
    hours = [_paid_by_hour(day, currency) for day in before]
    return [sum(values) // len(before) for values in zip(*hours, strict=True)]


def _by_now(hours: Sequence[int], local: datetime) -> int:
    """The sum until this minute, as if an hour's money were paid evenly."""
    return sum(hours[: local.hour]) + hours[local.hour] * local.minute // 60


def _running(hours: Sequence[int]) -> list[int]:
    """The sum at the end of each hour, beginning with none."""
    sums = [0]
    for amount in hours:
        sums.append(sums[-1] + amount)
    return sums


def _by_hour(
    days: Sequence[Day], newest: Day | None, currency: str, local: datetime
) -> Lines | None:
    series: dict[str, Sequence[int]] = {}
    if newest is not None:
        # The last point is now, not the end of the hour: the line ends where we are.
        series["today"] = _running(_paid_by_hour(newest, currency)[: local.hour + 1])
    if (usual := _usual(days, currency, local)) is not None:
        series["usual"] = _running(usual)
    if not any(any(values) for values in series.values()):
        return None
    labels = [f"{hour:02}:00" for hour in range(HOURS + 1)]
    return lines(series, labels, currency, **PLOT)


def _by_day(days: Sequence[Day], currency: str, today: date) -> Bars:
    by_date = {day.day: day for day in days}
    rows: list[tuple[str, Mapping[str, int], str]] = []
    for back in reversed(range(DAYS)):
        day = today - timedelta(days=back)
        amounts = _amounts(by_date[day].totals if day in by_date else (), currency)
        said = [
            f"{each.group} {money(each.amount_minor, currency)}" for each in amounts if each.count
        ]
        title = f"{day:%a %d %b}: {', '.join(said) or 'nothing'}"
        rows.append((f"{day:%d}", {each.group: each.amount_minor for each in amounts}, title))
    return stacked_bars(rows, currency, **PLOT)


def routes(console: Console, pages: Pages) -> Routes:
    def fragment(request: Request) -> Response:
        currency = request.query_params.get("currency")
        return pages.render("fragments/money.html", money=read_money(console, currency))

    def page(request: Request) -> Response:
        currency = request.query_params.get("currency")
        return pages.render("money.html", money=read_money(console, currency))

    return [get("/money", pages.view(page)), get("/fragments/money", pages.view(fragment))]
