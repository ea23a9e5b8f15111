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
from tests.support.expanded_template import REGION, ExpandedTemplate, load_template

MINUTE = 60.0

Series = tuple[str, str, frozenset[tuple[str, str]]]
"""Namespace, metric and dimensions."""

State = Literal["OK", "ALARM"]


@dataclass(frozen=True)
class Alarm:
    """One alarm as the template defines it. Raises ``ValueError`` for what it can't evaluate."""

    name: str
    series: Series
    statistic: str
    period: float
    windows: int
    datapoints: int
    threshold: float
    comparison: str
    missing: str
    acts: bool
    description: str

    @classmethod
    def read(cls, name: str, properties: Mapping[str, Any]) -> Alarm:
        if "MetricName" not in properties:
            raise ValueError(f"{name} is made of several metrics")
        windows = int(properties["EvaluationPeriods"])
        return cls(
            name=name,
            series=series(
                properties["Namespace"],
                properties["MetricName"],
                **{each["Name"]: str(each["Value"]) for each in properties["Dimensions"]},
            ),
            statistic=properties["Statistic"],
            period=float(properties["Period"]),
            windows=windows,
            datapoints=int(properties.get("DatapointsToAlarm", windows)),
            threshold=float(properties["Threshold"]),
            comparison=properties["ComparisonOperator"],
            missing=properties["TreatMissingData"],
            # Silenced, or without anybody to tell, is no alarm.
            acts=properties.get("ActionsEnabled", True) and bool(properties.get("AlarmActions")),
            description=properties["AlarmDescription"],
        )

    def breaches(self, value: float) -> bool:
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

    def state(self, windows: list[float | None], before: State) -> State:
        """The state for the windows' values, None where there is no data."""
        there = [self.breaches(value) for value in windows if value is not None]
        breaching, lacking = sum(there), len(windows) - len(there)
        if self.missing == "breaching":
            breaching += lacking
        if breaching >= self.datapoints:
            return "ALARM"
        if self.missing == "ignore" and breaching + lacking >= self.datapoints:
            return before  # what is missing would decide
        return "OK"


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
        values = self.values[first:last]
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
    used: int = 0
    """Datapoints whose minutes are already in ``due``."""
    due: set[float] = field(default_factory=lambda: {START_SECONDS + MINUTE})


class AlarmBoard:
    """Every alarm of the template. ``add`` the metrics, then ``advance`` to an instant."""

    def __init__(self, alarms: tuple[Alarm, ...] | None = None) -> None:
        self.data: dict[Series, Datapoints] = {}
        self._watches = {
            alarm.name: _Watch(alarm) for alarm in (template_alarms() if alarms is None else alarms)
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
        points = self.data.get(alarm.series, Datapoints()).at
        # If one datapoint is enough, it does not matter in which of the windows it is.
        places = (0, alarm.windows) if alarm.datapoints == 1 else range(alarm.windows + 1)
        for at in points[watch.used :]:
            enters = math.ceil(at / MINUTE) * MINUTE
            watch.due.update(enters + number * alarm.period for number in places)
        watch.used = len(points)
        minutes = sorted(minute for minute in watch.due if minute <= now)
        watch.due.difference_update(minutes)
        return minutes

    def _evaluate(self, watch: _Watch, minute: float) -> None:
        alarm = watch.alarm
        points = self.data.get(alarm.series, Datapoints())
        windows = [
            points.statistic(
                alarm.statistic,
                minute - (number + 1) * alarm.period,
                minute - number * alarm.period,
            )
            for number in range(alarm.windows)
        ]
        state = alarm.state(windows, watch.state)
        if state != watch.state:
            watch.state = state
            watch.changes.append((minute, state))


@cache
def template_alarms() -> tuple[Alarm, ...]:
    """The alarms of template.yaml that are made of one metric, at the template's own defaults."""
    os.environ.setdefault("AWS_DEFAULT_REGION", REGION)  # SAM asks for one
    return read_alarms(ExpandedTemplate(load_template()))


def read_alarms(template: ExpandedTemplate) -> tuple[Alarm, ...]:
    return tuple(
        Alarm.read(name, properties)
        for name, properties in template.of_type("AWS::CloudWatch::Alarm").items()
        if "MetricName" in properties
    )
