"""Which alarms of template.yaml are on, by the metrics that a function has logged."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from tests.simulator.alarms import Alarm, AlarmBoard, series, template_alarms
from tests.simulator.kernel import START_SECONDS
from tests.support.expanded_template import STACK_NAME

RUN_SECONDS = 300.0


def alarms_after(metrics: dict[str, list[float]]) -> set[str]:
    """The alarms that are on after an hour in which every run reported these metrics."""
    board = AlarmBoard(tuple(each for each in template_alarms() if _is_ours(each)))
    for number in range(1, 13):
        for name, values in metrics.items():
            for value in values:
                where = series("Refunds", name, service=STACK_NAME)
                board.add(where, START_SECONDS + number * RUN_SECONDS, value)
    board.advance(START_SECONDS + 3600)
    return board.all_on()


def lambda_alarms_after(function: str, metrics: Mapping[str, float]) -> set[str]:
    """The alarms on Lambda's own metrics that are on after one invocation reported these."""
    board = AlarmBoard(tuple(each for each in template_alarms() if _is_of_lambda(each)))
    for name, value in metrics.items():
        where = series("AWS/Lambda", name, FunctionName=function)
        board.add(where, START_SECONDS + 1, value)
    board.advance(START_SECONDS + RUN_SECONDS)
    return board.all_on()


def _is_of_lambda(alarm: Alarm) -> bool:
    return all(each.series[0] == "AWS/Lambda" for each in alarm.inputs)


def _is_ours(alarm: Alarm) -> bool:
    return alarm.series[0] == "Refunds" and alarm.name != "BackupMissing"


def logged_metrics(lines: Iterable[str]) -> dict[str, list[float]]:
    """What a function reported in CloudWatch's embedded metric format."""
    found: dict[str, list[float]] = {}
    for line in lines:
        if '"_aws"' in line and line.startswith("{"):
            written = json.loads(line)
            for directive in written["_aws"]["CloudWatchMetrics"]:
                for metric in directive["Metrics"]:
                    found[metric["Name"]] = written[metric["Name"]]
    return found
