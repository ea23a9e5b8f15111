"""The alarms of template.yaml, evaluated as CloudWatch does, over the metrics of one history.

The functions' own metrics are those that they really emitted. Those of AWS (queue ages and depths,
Lambda errors, iterator age) are derived from what happened in the simulated services.

An alarm looks at each minute back over ``EvaluationPeriods`` windows of ``Period`` seconds. Its
state can only change when a datapoint enters or leaves a window, so only those minutes are
evaluated: a quiet week costs nothing.
"""

from __future__ import annotations

import math
import os
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

from tests.simulator.kernel import START_SECONDS
from tests.simulator.metric_math import BAND, Expression, anomaly_band
from tests.support.expanded_template import EVERY_ALARM, REGION, ExpandedTemplate, load_template

MINUTE = 60.0
DAY = 86_400.0
BAND_DAYS = 14

Series = tuple[str, str, frozenset[tuple[str, str]]]
"""Namespace, metric and dimensions."""

State = Literal["OK", "ALARM"]


@dataclass(frozen=True)
class Input:
    """One metric of an alarm that is made of several, or of an anomaly's."""

    id: str
    series: Series
    statistic: str


@dataclass(frozen=True)
class Alarm:
    """One alarm as the template defines it. Raises ``ValueError`` for what it can't evaluate.

    ``band_width`` is the width of an anomaly detection band, in the threshold's place.
    """

    name: str
    inputs: tuple[Input, ...]
    expression: str
    period: float
    windows: int
    datapoints: int
    threshold: float
    comparison: str
    missing: str
    acts: bool
    description: str
    band_width: float | None = None

    @classmethod
    def read(cls, name: str, properties: Mapping[str, Any]) -> Alarm:
        windows = int(properties["EvaluationPeriods"])
        queries = properties.get("Metrics") or [_only_metric(properties)]
        stats = {each["Id"]: each["MetricStat"] for each in queries if "MetricStat" in each}
        (period,) = {each["Period"] for each in stats.values()}
        expressions = {each["Id"]: each["Expression"] for each in queries if "Expression" in each}
        band = BAND.fullmatch(expressions.pop(properties.get("ThresholdMetricId"), ""))
        (returned,) = [
            each["Id"]
            for each in queries
            if each.get("ReturnData", True) and each["Id"] != properties.get("ThresholdMetricId")
        ]
        if band is not None and band["metric"] != returned:
            raise ValueError(f"{name}: the band is another metric's")
        return cls(
            name=name,
            inputs=tuple(_input(id_, stat) for id_, stat in stats.items()),
            expression=expressions.get(returned, returned),
            band_width=None if band is None else float(band["width"]),
            period=float(period),
            windows=windows,
            datapoints=int(properties.get("DatapointsToAlarm", windows)),
            threshold=float(properties.get("Threshold", "nan")),
            comparison=properties["ComparisonOperator"],
            missing=properties["TreatMissingData"],
            # Silenced, or without anybody to tell, is no alarm.
            acts=properties.get("ActionsEnabled", True) and bool(properties.get("AlarmActions")),
            description=properties["AlarmDescription"],
        )

    @property
    def series(self) -> Series:
        """Its metric, if it is made of one."""
        (only,) = self.inputs
        return only.series

    @property
    def statistic(self) -> str:
        (only,) = self.inputs
        return only.statistic

    def breaching_windows(
        self, data: Mapping[Series, Datapoints], until: float
    ) -> list[bool | None]:
        """``breaching`` of each window before ``until``, the latest first."""
        if self.band_width is None and [each.id for each in self.inputs] == [self.expression]:
            # An alarm of one metric, as nearly all are: its windows are read in one pass.
            (only,) = self.inputs
            found: list[bool | None] = [None] * self.windows
            if (points := data.get(only.series)) is not None:
                latest = points.by_window(until, self.period, self.windows)
                for window, values in latest.items():
                    found[window] = self._breaches(_statistic(only.statistic, values))
            return found
        return [
            self.breaching(data, until - (number + 1) * self.period, until - number * self.period)
            for number in range(self.windows)
        ]

    def breaching(
        self, data: Mapping[Series, Datapoints], after: float, until: float
    ) -> bool | None:
        """Whether the window from ``after`` to ``until`` breaches; None: it has no value."""
        value = self._value(data, after, until)
        if value is None:
            return None
        if self.band_width is None:
            return self._breaches(value)
        earlier = [
            self._value(data, after - day * DAY, until - day * DAY)
            for day in range(1, BAND_DAYS + 1)
        ]
        band = anomaly_band(earlier, self.band_width)
        if band is None:
            return None
        match self.comparison:
            case "GreaterThanUpperThreshold":
                return value > band[1]
            case "LessThanLowerThreshold":
                return value < band[0]
            case "LessThanLowerOrGreaterThanUpperThreshold":
                return not band[0] <= value <= band[1]
        raise ValueError(f"{self.name}: no such comparison: {self.comparison}")

    def _value(self, data: Mapping[Series, Datapoints], after: float, until: float) -> float | None:
        values = {
            each.id: data[each.series].statistic(each.statistic, after, until)
            if each.series in data
            else None
            for each in self.inputs
        }
        if self.expression in values:
            return values[self.expression]
        return Expression(self.expression).value(values)

    def _breaches(self, value: float) -> bool:
        match self.comparison:
            case "GreaterThanThreshold":
                return value > self.threshold
            case "GreaterThanOrEqualToThreshold":
                return value >= self.threshold
            case "LessThanThreshold":
                return value < self.threshold
            case "LessThanOrEqualToThreshold":
                return value <= self.threshold
        raise ValueError(f"{self.name}: no such comparison: {self.comparison}")

    def state(self, windows: list[bool | None], before: State) -> State:
        """The state for the windows: whether each breaches, None where there is no data."""
        there = [each for each in windows if each is not None]
        breaching, lacking = sum(there), len(windows) - len(there)
        if self.missing == "breaching":
            breaching += lacking
        if breaching >= self.datapoints:
            return "ALARM"
        if self.missing == "ignore" and breaching + lacking >= self.datapoints:
            return before  # what is missing would decide
        return "OK"


def _only_metric(properties: Mapping[str, Any]) -> dict[str, Any]:
    """An alarm of one metric, written as one of several is."""
    metric = {name: properties[name] for name in ("Namespace", "MetricName", "Dimensions")}
    stat = {"Metric": metric, "Period": properties["Period"], "Stat": properties["Statistic"]}
    return {"Id": "metric", "MetricStat": stat}


def _input(id_: str, stat: Mapping[str, Any]) -> Input:
    metric = stat["Metric"]
    dimensions = {each["Name"]: str(each["Value"]) for each in metric["Dimensions"]}
    where = series(metric["Namespace"], metric["MetricName"], **dimensions)
    return Input(id_, where, stat["Stat"])


def series(namespace: str, metric: str, **dimensions: str) -> Series:
    return namespace, metric, frozenset(dimensions.items())


@dataclass
class Datapoints:
    """The values of one metric in the order of time."""

    at: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    def add(self, at: float, value: float) -> None:
        if not self.at or at >= self.at[-1]:
            self.at.append(at)
            self.values.append(value)
            return
        place = bisect_right(self.at, at)
        self.at.insert(place, at)
        self.values.insert(place, value)

    def statistic(self, name: str, after: float, until: float) -> float | None:
        """Over what came later than ``after`` and not later than ``until``; None: nothing."""
        first, last = bisect_right(self.at, after), bisect_right(self.at, until)
        if first == last:
            return None
        return _statistic(name, self.values[first:last])

    def by_window(self, until: float, period: float, windows: int) -> dict[int, list[float]]:
        """The values of each window that has some. 0 is the latest, which ends at ``until``.

        A window has what came later than its beginning and not later than its end.
        """
        found: dict[int, list[float]] = {}
        first = bisect_right(self.at, until - windows * period)
        last = bisect_right(self.at, until)
        while last > first:
            window = min(int((until - self.at[last - 1]) // period), windows - 1)
            begins = bisect_right(self.at, until - (window + 1) * period, first, last - 1)
            found[window] = self.values[begins:last]
            last = begins
        return found


def _statistic(name: str, values: list[float]) -> float:
    match name:
        case "Sum":
            return math.fsum(values)
        case "Maximum":
            return max(values)
        case "Minimum":
            return min(values)
        case "Average":
            return math.fsum(values) / len(values)
        case "SampleCount":
            return float(len(values))
    raise ValueError(f"no such statistic: {name}")


@dataclass
class _Watch:
    """An alarm's state over time."""

    alarm: Alarm
    state: State = "OK"
    changes: list[tuple[float, State]] = field(default_factory=list)
    used: dict[Series, int] = field(default_factory=dict)
    """Datapoints of each metric whose minutes are already in ``due``."""
    due: set[float] = field(default_factory=set)


class AlarmBoard:
    """Every alarm of the template. ``add`` the metrics, then ``advance`` to an instant."""

    def __init__(
        self, alarms: tuple[Alarm, ...] | None = None, *, begins: float = START_SECONDS
    ) -> None:
        """``begins``: before that nothing is evaluated, but what was reported then counts."""
        self.data: dict[Series, Datapoints] = {}
        self._begins = begins + MINUTE
        self._watches = {
            alarm.name: _Watch(alarm, due={self._begins})
            for alarm in (template_alarms() if alarms is None else alarms)
        }

    @property
    def alarms(self) -> tuple[Alarm, ...]:
        return tuple(watch.alarm for watch in self._watches.values())

    def add(self, where: Series, at: float, value: float) -> None:
        self.data.setdefault(where, Datapoints()).add(at, value)

    def advance(self, now: float) -> None:
        """Evaluate every alarm at each minute up to ``now`` at which its state may change."""
        for watch in self._watches.values():
            for minute in self._minutes(watch, now):
                self._evaluate(watch, minute)

    def on(self, name: str) -> bool:
        """Whether the alarm is on, and tells somebody."""
        watch = self._watches.get(name)
        return watch is not None and watch.alarm.acts and watch.state == "ALARM"

    def all_on(self) -> set[str]:
        return {name for name in self._watches if self.on(name)}

    def first_on(self, name: str, since: float) -> float | None:
        """When the alarm was on for the first time at or after ``since``."""
        watch = self._watches.get(name)
        if watch is None or not watch.alarm.acts:
            return None
        state: State = "OK"
        for at, new in watch.changes:
            if at > since:
                break
            state = new
        if state == "ALARM":
            return since
        return next((at for at, new in watch.changes if at > since and new == "ALARM"), None)

    def on_after(self, name: str, since: float) -> bool:
        """Whether the alarm was on at any time from ``since`` on."""
        return self.first_on(name, since) is not None

    def _minutes(self, watch: _Watch, now: float) -> list[float]:
        """The minutes up to ``now`` at which a datapoint enters a window or leaves it."""
        alarm = watch.alarm
        # If one datapoint is enough, it does not matter in which of the windows it is.
        places = (0, alarm.windows) if alarm.datapoints == 1 else range(alarm.windows + 1)
        for where in {each.series for each in alarm.inputs}:
            points = self.data.get(where, Datapoints()).at
            for at in points[watch.used.get(where, 0) :]:
                enters = math.ceil(at / MINUTE) * MINUTE
                due = (enters + number * alarm.period for number in places)
                watch.due.update(minute for minute in due if minute >= self._begins)
            watch.used[where] = len(points)
        minutes = sorted(minute for minute in watch.due if minute <= now)
        watch.due.difference_update(minutes)
        return minutes

    def _evaluate(self, watch: _Watch, minute: float) -> None:
        alarm = watch.alarm
        windows = alarm.breaching_windows(self.data, minute)
        state = alarm.state(windows, watch.state)
        if state != watch.state:
            watch.state = state
            watch.changes.append((minute, state))


@cache
def template_alarms() -> tuple[Alarm, ...]:
    """The alarms of template.yaml at the template's own defaults."""
    os.environ.setdefault("AWS_DEFAULT_REGION", REGION)  # SAM asks for one
    return read_alarms(ExpandedTemplate(load_template()))


@cache
def every_alarm() -> tuple[Alarm, ...]:
    """Those of other stages and parameters, too."""
    os.environ.setdefault("AWS_DEFAULT_REGION", REGION)
    return read_alarms(ExpandedTemplate(load_template(), **EVERY_ALARM))


def read_alarms(template: ExpandedTemplate) -> tuple[Alarm, ...]:
    return tuple(
        Alarm.read(name, properties)
        for name, properties in template.of_type("AWS::CloudWatch::Alarm").items()
    )
