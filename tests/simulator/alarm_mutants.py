"""Changes of an alarm that make it useless or a nuisance. Each must be caught by some history."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import replace

from tests.simulator.alarms import Alarm, Input, series


def mutants(alarm: Alarm) -> dict[str, Alarm]:
    """By kind; the kinds that an alarm has depend on what it is made of."""
    found = {
        "actions off": replace(alarm, acts=False),
        "slow": replace(alarm, windows=alarm.windows * 40, datapoints=alarm.datapoints * 40),
        **dict(_of_threshold(alarm)),
        **dict(_of_inputs(alarm)),
        **dict(_of_missing_data(alarm)),
    }
    if alarm.expression not in {each.id for each in alarm.inputs}:
        found |= dict(_of_expression(alarm))
    return found


def _of_threshold(alarm: Alarm) -> Iterator[tuple[str, Alarm]]:
    if alarm.band_width is not None:
        yield "band too wide", replace(alarm, band_width=1e6)
        yield "band without width", replace(alarm, band_width=0.0)
        yield "comparison", replace(alarm, comparison="LessThanLowerThreshold")
        both = "LessThanLowerOrGreaterThanUpperThreshold"
        yield "comparison with both edges", replace(alarm, comparison=both)
        return
    above = alarm.comparison == "GreaterThanThreshold"
    yield "threshold", replace(alarm, threshold=1e12 if above else -1.0)
    if above:
        yield "a higher threshold", replace(alarm, threshold=alarm.threshold * 2 or 1.0)
    if above and alarm.threshold and len(alarm.inputs) == 1:
        yield "a lower threshold", replace(alarm, threshold=alarm.threshold / 2)
    yield (
        "comparison",
        replace(
            alarm, comparison="LessThanThreshold" if above else "GreaterThanOrEqualToThreshold"
        ),
    )


def _of_inputs(alarm: Alarm) -> Iterator[tuple[str, Alarm]]:
    def other(changed: Input, new: Input) -> Alarm:
        return replace(
            alarm, inputs=tuple(new if each is changed else each for each in alarm.inputs)
        )

    for each in alarm.inputs:
        namespace, metric, dimensions = each.series
        which = f" of {each.id}" if len(alarm.inputs) > 1 else ""
        for name, value in dimensions:
            wrong = dict(dimensions) | {name: value + "-other"}
            yield (
                f"dimension {name}{which}",
                other(each, replace(each, series=series(namespace, metric, **wrong))),
            )
        yield (
            "metric" + which,
            other(each, replace(each, series=(namespace, metric + "s", dimensions))),
        )
        for statistic in _other_statistics(alarm, each):
            yield f"{statistic}{which}", other(each, replace(each, statistic=statistic))


def _other_statistics(alarm: Alarm, of: Input) -> set[str]:
    all_ = {"Sum", "Maximum", "Minimum", "Average", "SampleCount"} - {of.statistic}
    if of.series[1] in REPORTED_WHEN_WRONG:
        return set()
    if of.series[1] in ONE_REPORT_AT_A_TIME:
        return {"SampleCount"}
    if alarm.threshold == 0 and of.statistic in ABOVE_ZERO_ALIKE:
        return all_ - ABOVE_ZERO_ALIKE
    return all_


REPORTED_WHEN_WRONG = frozenset(
    {
        "Misconfigured",
        "ProcessRefundUnexpectedErrors",
        "WriteAuditUnexpectedErrors",
        "ReconcileRefundsUnexpectedErrors",
        "AwsErrors",
    }
)
"""These never report 0, so that every statistic of theirs is above 0 or there is none."""

ONE_REPORT_AT_A_TIME = frozenset({"BackupDrillFailed", "DaysSinceBackupDrill"})
"""Hours lie between two of these, so that statistics over minutes are of one value."""

ABOVE_ZERO_ALIKE = frozenset({"Sum", "Maximum", "Average"})
"""Of numbers that are never negative, either all of these are above 0 or none is."""


def _of_missing_data(alarm: Alarm) -> Iterator[tuple[str, Alarm]]:
    for missing in ("breaching", "notBreaching", "ignore"):
        if missing != alarm.missing:
            yield f"missing data {missing}", replace(alarm, missing=missing)


def _of_expression(alarm: Alarm) -> Iterator[tuple[str, Alarm]]:
    """Each number and each name of the expression replaced by another number."""
    places = [
        node
        for node in ast.walk(ast.parse(alarm.expression, mode="eval"))
        if isinstance(node, ast.Constant | ast.Name)
        and getattr(node, "id", "") not in ("IF", "FILL")
    ]
    for place in places:
        start, end = place.col_offset, place.end_col_offset
        was = alarm.expression[start:end]
        for other in ("0", "1000000"):
            if other != was:
                changed = alarm.expression[:start] + other + alarm.expression[end:]
                yield f"{changed}", replace(alarm, expression=changed)
    for factor in (24, 1 / 24):
        yield f"period × {factor:.2f}", replace(alarm, period=alarm.period * factor)
