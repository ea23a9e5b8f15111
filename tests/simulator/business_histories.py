"""Made weeks of business, for the alarms about money and outcomes and for those of other stages.

Nothing is simulated here but the numbers: what was requested and what became of it goes through
the product's own metrics of money, in CloudWatch's format, to the alarms.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from random import Random

from tests.simulator.alarm_expectations import Expectations, Expected
from tests.simulator.alarms import Datapoints, Series, series
from tests.simulator.kernel import START_SECONDS
from tests.simulator.watch import DAY, HOUR, MINUTE, bound_of
from tests.support.emf import datapoints
from tests.support.expanded_template import STACK_NAME

from refunds.audit.money_metrics import MoneyMetrics

DAYS = 9
LEARNED = START_SECONDS + 6 * DAY
"""From here on the alarms are evaluated. Before, those of anomalies know too little."""
BY_HOUR = (6, 4, 0, 0, 3, 6, 12, 20, 32, 40, 44, 46, 44, 42, 40, 38, 36, 34, 30, 26, 22, 16, 10, 6)
"""Refunds that an ordinary day requests, hour by hour. Where there are none, no metric has a
datapoint."""
LINES = 3
"""Lines of metrics in an ordinary hour."""


@dataclass(frozen=True)
class Hour:
    """What an hour brings; None: as on any other day."""

    requested: int | None = None
    failed: float = 0.04
    rejected: float = 0.02
    reversed: int = 0
    amount_minor: int = 4_000
    batch: int | None = None
    """Refunds in one line of metrics."""


@dataclass
class Business(Expectations):
    """Nine days of refunds, hour by hour; a history changes some of the hours."""

    metrics: dict[Series, Datapoints] = field(default_factory=dict)
    hours: dict[int, Hour] = field(default_factory=dict)
    """By the hour's number."""

    @property
    def data(self) -> dict[Series, Datapoints]:
        return self.metrics

    def at(self, day: int, hour: int, what: Hour) -> float:
        """An hour is other than usual; returns when it begins."""
        self.hours[day * 24 + hour] = what
        return START_SECONDS + (day * 24 + hour) * HOUR

    def expect(self, alarm: str, since: float) -> None:
        self.expected.append(Expected(alarm, since, since + bound_of(alarm).seconds))

    def report(self, where: Series, value: float, at: float) -> None:
        self.metrics.setdefault(where, Datapoints()).add(at, value)

    def play(self) -> None:
        dice = Random(14)
        for number in range(DAYS * 24):
            weekend = 0.8 if number // 24 % 7 in (5, 6) else 1.0
            usual = BY_HOUR[number % 24]
            if usual >= 10:
                usual = round(usual * weekend * dice.uniform(0.85, 1.15))
            hour = self.hours.get(number, Hour(reversed=int(number % 24 == 11)))
            count = usual if hour.requested is None else hour.requested
            if number not in self.hours and 0 < count <= 4:
                hour = Hour(failed=0.5)  # a few refunds at night say nothing, even if half fail
            self._hour(number, hour, count)
        self.begins = LEARNED
        self.ends = START_SECONDS + DAYS * DAY

    def _hour(self, number: int, hour: Hour, count: int) -> None:
        failed, rejected = round(count * hour.failed), round(count * hour.rejected)
        outcomes = _spread(
            {"Failed": failed, "Rejected": rejected, "Refunded": count - failed - rejected}
        )
        began = START_SECONDS + number * HOUR + 5
        size = hour.batch or math.ceil(count / LINES) or 1
        for start in range(0, count, size):
            batch = Counter(outcomes[start : start + size])
            batch["Requested"] = batch.total()
            if start == 0:
                batch["Reversed"] = hour.reversed
            values: dict[str, int] = {}
            for name, part in batch.items():
                if part:
                    values |= {f"{name}Count": part, f"{name}Minor": part * hour.amount_minor}
            self._emit("USD", values, began + start / count * (HOUR - 60))
        if number % 24 == 12 and count:
            # Yen: large numbers, and no part of what is watched in dollars.
            self._emit("JPY", {"RefundedCount": 1, "RefundedMinor": 900_000_000}, began)

    def _emit(self, currency: str, values: dict[str, int], at: float) -> None:
        for point in datapoints(MoneyMetrics("Refunds", STACK_NAME).line(currency, values)):
            self.report(series(point.namespace, point.name, **point.dimensions), point.value, at)


def _spread(counts: dict[str, int]) -> list[str]:
    """Each name as often as it counts, evenly over the whole."""
    places = [
        ((number + 0.5) / count, name) for name, count in counts.items() for number in range(count)
    ]
    return [name for _, name in sorted(places)]


History = Callable[[Business], None]
HISTORIES: dict[str, History] = {}


def history(play: History) -> History:
    HISTORIES[play.__name__.removeprefix("_").replace("_", " ")] = play
    return play


@cache
def made(name: str) -> Business:
    business = Business()
    HISTORIES[name](business)
    business.play()
    return business


@history
def _ordinary_days(business: Business) -> None:
    # As many as ever, each in a batch of its own.
    business.at(7, 11, Hour(batch=1))
    business.quiet_from = LEARNED


@history
def _a_holiday(business: Business) -> None:
    """Far fewer refunds than usual are no reason to call anybody."""
    for hour in range(6, 24):
        business.at(7, hour, Hour(requested=4, failed=0, rejected=0))
    business.quiet_from = LEARNED


@history
def _hours_in_which_not_quite_a_fifth_fails(business: Business) -> None:
    business.at(7, 12, Hour(100, failed=0.18, rejected=0))
    business.at(8, 12, Hour(100, failed=0, rejected=0.18))
    business.at(8, 16, Hour(100, failed=0.09, rejected=0.09))
    business.silent.append(Expected("FailureRatio", LEARNED, START_SECONDS + DAYS * DAY))


@history
def _a_quarter_of_an_hours_refunds_fails(business: Business) -> None:
    since = business.at(7, 12, Hour(44, failed=0.25, rejected=0))
    business.expect("FailureRatio", since)
    business.quiet_from = since + 3 * HOUR


@history
def _a_quarter_of_an_hours_refunds_is_rejected(business: Business) -> None:
    since = business.at(7, 12, Hour(44, failed=0, rejected=0.25))
    business.expect("FailureRatio", since)
    business.quiet_from = since + 3 * HOUR


@history
def _most_of_an_early_hours_refunds_are_rejected(business: Business) -> None:
    """Twenty-two in all, of which ten are paid."""
    since = business.at(7, 7, Hour(22, failed=0, rejected=12 / 22, batch=10))
    business.expect("FailureRatio", since)
    business.quiet_from = since + 3 * HOUR


@history
def _most_of_an_early_hours_refunds_fail(business: Business) -> None:
    since = business.at(7, 7, Hour(22, failed=12 / 22, rejected=0, batch=10))
    business.expect("FailureRatio", since)
    business.quiet_from = since + 3 * HOUR


@history
def _every_refund_fails(business: Business) -> None:
    """None is paid: no refund has reported that count."""
    since = business.at(7, 10, Hour(failed=1.0, rejected=0))
    business.expect("FailureRatio", since)
    business.quiet_from = since + 3 * HOUR


@history
def _a_flood_at_night_and_then_nothing(business: Business) -> None:
    """Hours without a datapoint follow: what has passed must not stay on."""
    since = business.at(7, 1, Hour(90, failed=0.5, batch=100))
    for alarm in ("FailureRatio", "RefundCountUnusual", "RefundAmountUnusual"):
        business.expect(alarm, since)
    business.quiet_from = since + 2 * HOUR + 10 * MINUTE


@history
def _many_refunds_come_back(business: Business) -> None:
    for hour in range(8, 20):
        since = business.at(7, hour, Hour(reversed=1))
    business.expect("ReversalRatio", since)
    business.quiet_from = since + 27 * HOUR


@history
def _many_refunds_of_one_busy_hour_come_back_and_then_nothing(business: Business) -> None:
    for hour in range(-24, 48):
        business.at(6, hour, Hour(requested=0))
    since = business.at(7, 12, Hour(60, reversed=2, amount_minor=3_000_000, batch=100))
    for hour in range(13, 48):
        business.at(7, hour, Hour(requested=0))
    for alarm in ("ReversalRatio", "DailyBudgetExceeded"):
        business.silent.append(Expected(alarm, LEARNED, since))
        business.expect(alarm, since)
        business.silent.append(Expected(alarm, since + 25 * HOUR, since + 36 * HOUR))


@history
def _one_of_few_refunds_comes_back(business: Business) -> None:
    for hour in range(24):
        business.at(7, hour, Hour(requested=1, failed=0, rejected=0))
    since = business.at(7, 12, Hour(requested=1, failed=0, rejected=0, reversed=1))
    business.silent.append(Expected("ReversalRatio", since, since + 12 * HOUR))


@history
def _a_flood_of_requests(business: Business) -> None:
    since = business.at(7, 11, Hour(46 * 5, batch=15))
    business.expect("RefundCountUnusual", since)
    business.expect("RefundAmountUnusual", since)
    business.quiet_from = since + 3 * HOUR


@history
def _a_few_more_at_night(business: Business) -> None:
    """More than ever at that hour, and fewer than ten: that says nothing."""
    for day in range(DAYS):
        business.at(day, 4, Hour(1, failed=0, rejected=0))
    since = business.at(7, 4, Hour(9, failed=0, rejected=0))
    business.silent.append(Expected("RefundCountUnusual", LEARNED, since + DAY))


@history
def _far_fewer_than_usual(business: Business) -> None:
    """That is other alarms' business."""
    for day in range(DAYS):
        business.at(day, 11, Hour(200))
    since = business.at(7, 11, Hour(20))
    business.silent.append(Expected("RefundCountUnusual", LEARNED, since + DAY))


@history
def _far_larger_amounts(business: Business) -> None:
    """As many refunds as ever, each of ten times the amount."""
    since = business.at(7, 11, Hour(amount_minor=40_000))
    business.expect("RefundAmountUnusual", since)
    business.silent.append(Expected("RefundCountUnusual", LEARNED, since + DAY))
    business.quiet_from = since + 3 * HOUR


@history
def _more_than_the_daily_budget(business: Business) -> None:
    """1,000,000 dollars a day are allowed; the day before has some 800,000."""
    for day, amount_minor in ((7, 150_000), (8, 300_000)):
        for hour in range(24):
            business.at(day, hour, Hour(amount_minor=amount_minor))
    begins = START_SECONDS + 8 * DAY
    business.silent.append(Expected("DailyBudgetExceeded", LEARNED, begins))
    business.expected.append(Expected("DailyBudgetExceeded", begins, begins + 18 * HOUR))


@history
def _webhooks_fail_and_no_more_come(business: Business) -> None:
    since = START_SECONDS + 7 * DAY
    errors = series("AWS/Lambda", "Errors", FunctionName="ReceiveWebhook")
    for number in range(7 * 24 + 1):
        business.report(errors, 0, START_SECONDS + number * HOUR)
    business.report(errors, 1, since)
    business.silent.append(Expected("ReceiveWebhookErrors", LEARNED, since))
    business.expect("ReceiveWebhookErrors", since)
    business.quiet_from = since + HOUR
