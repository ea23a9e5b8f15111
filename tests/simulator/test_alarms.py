"""I9: what goes wrong is alarmed within its bound, by the alarms that template.yaml has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache, partial

import pytest
from tests.simulator.alarm_expectations import Expectations
from tests.simulator.alarm_histories import HISTORIES, played
from tests.simulator.alarm_mutants import mutants
from tests.simulator.alarm_readings import READINGS, read
from tests.simulator.alarms import Alarm, AlarmBoard, Input, every_alarm, series, template_alarms
from tests.simulator.business_histories import HISTORIES as BUSINESS
from tests.simulator.business_histories import made
from tests.simulator.kernel import START_SECONDS, Violation
from tests.simulator.metric_math import Expression, anomaly_band
from tests.simulator.mutation import Mutant, Patch, alive
from tests.simulator.watch import BOUNDS, bounds_table
from tests.support.expanded_template import ROOT

ALARMS = {alarm.name: alarm for alarm in every_alarm()}
OF_OTHER_STAGES = ALARMS.keys() - {alarm.name for alarm in template_alarms()}
"""Business alarms, those of stage prod and of webhooks: their histories are made of numbers."""

BUSINESS_ALARMS = OF_OTHER_STAGES - {"ReceiveWebhookErrors", "BackupDrillMissing"}

PLAYS: Mapping[str, Callable[[], Expectations]] = {
    **{name: partial(played, name) for name in HISTORIES},
    **{name: partial(made, name) for name in BUSINESS},
    **{f"readings of {name}": partial(read, name) for name in READINGS},
}


FEW = ("all is well", "a gateway outage", "a poison stream record", "a full dead letter queue")
"""Histories that `make test` plays; `make test-long` plays all."""


def marked(name: str) -> object:
    return pytest.param(name, marks=[] if name in FEW else [pytest.mark.long])


@pytest.mark.parametrize("name", [marked(each) for each in HISTORIES])
def test_what_goes_wrong_is_alarmed_within_its_bound_until_it_is_right(name: str) -> None:
    assert played(name).faults(template_alarms()) == []


@pytest.mark.parametrize("name", BUSINESS)
def test_unusual_business_is_alarmed_and_ordinary_business_is_not(name: str) -> None:
    assert made(name).faults(tuple(ALARMS[each] for each in sorted(OF_OTHER_STAGES))) == []


@pytest.mark.parametrize("name", READINGS)
def test_an_alarm_is_silent_just_inside_and_on_just_outside_what_is_allowed(name: str) -> None:
    assert read(name).faults((ALARMS[name],)) == []


def test_every_alarm_that_is_on_above_a_threshold_has_its_readings() -> None:
    below = {name for name, alarm in ALARMS.items() if alarm.missing == "breaching"}
    assert READINGS.keys() == ALARMS.keys() - below - BUSINESS_ALARMS


@pytest.mark.long
def test_every_alarm_of_the_template_has_a_bound_and_a_history() -> None:
    assert {bound.alarm for bound in BOUNDS} == ALARMS.keys()
    assert {each.alarm for play in PLAYS.values() for each in play().expected} == ALARMS.keys()


def test_the_runbook_has_the_bounds_that_are_checked() -> None:
    text = (ROOT / "docs/runbook.md").read_text()
    table = text.partition("<!-- bounds -->\n")[2].partition("\n<!-- /bounds -->")[0]
    assert table == bounds_table(), "put in what `python -m tests.simulator --bounds` prints"


# --- Deliberate faults of the alarms --------------------------------------------------------------


@cache
def plays_of(alarm: str) -> tuple[Expectations, ...]:
    """The histories that say something of an alarm first: most mutants are caught there."""
    plays = [play() for play in PLAYS.values()]
    return tuple(
        sorted(plays, key=lambda play: alarm not in {e.alarm for e in play.expected + play.silent})
    )


@pytest.mark.long
@pytest.mark.parametrize("name", ALARMS)
def test_every_fault_in_an_alarm_is_caught(name: str) -> None:
    missed = [
        kind
        for kind, mutant in mutants(ALARMS[name]).items()
        if not any(play.faults((mutant,)) for play in plays_of(name))
    ]
    assert missed == []


SILENT = {
    "a bug is no error": (
        "a release fails on every request",
        ("failures:count_failures", "if failure.kind is FailureKind.UNEXPECTED:", "if False:"),
    ),
    "a queue that can't be looked at is not reported as paused": (
        "the queues mapping cant be read while it is paused",
        (
            "processing.reconcile_refunds:ReconcileRefunds._keep_intake",
            'self._count("QueuePaused", 1)',
            'self._count("QueuePaused", 0)',
        ),
    ),
    "ages that can't be read are 0": (
        "the index cant be read for three days",
        ("processing.open_refunds:_result", "UNKNOWN_AGE_SECONDS if unread", "0 if unread"),
    ),
    "what was archived is not counted": (
        "the archiver behind a list that never ends",
        ("audit.failures_bucket:FailureStore.count", "return len(", "return 0 * len("),
    ),
    "a disabled audit mapping is not looked at": (
        "the audit mapping is disabled",
        ("audit.stream_watch:StreamWatch.trouble", 'if mapping["State"] not in', "if None in"),
    ),
    "a run is counted before it has run": (
        "the schedule is dead and webhooks still come",
        (
            "processing.reconcile_refunds:ReconcileRefunds._look_at",
            'self._count("RefundsLookedAt", 1)',
            'self._count("ReconcilerRuns", 1)',
        ),
    ),
}
"""Faults of the code that make it silent: the history that has to notice, and the change."""


@pytest.mark.long
@pytest.mark.parametrize("fault", SILENT)
def test_code_that_falls_silent_is_caught(fault: str) -> None:
    name, patch = SILENT[fault]
    with alive(Mutant(fault, (Patch(*patch),))):
        try:
            found = played.__wrapped__(name).faults(template_alarms())
        except Violation as violation:  # noticed while it was played
            found = [violation.invariant]
        assert found, f"{fault}: not noticed"


# --- The evaluator --------------------------------------------------------------------------------


def alarm(**changes: object) -> Alarm:
    there = Alarm(
        name="A",
        inputs=(Input("m", series("N", "M", d="v"), "Sum"),),
        expression="m",
        period=300.0,
        windows=3,
        datapoints=2,
        threshold=0.0,
        comparison="GreaterThanThreshold",
        missing="notBreaching",
        acts=True,
        description="",
    )
    return replace(there, **changes)  # type: ignore[arg-type]


def of_statistic(statistic: str, **changes: object) -> Alarm:
    there = alarm(**changes)
    return replace(there, inputs=tuple(replace(m, statistic=statistic) for m in there.inputs))


def states(there: Alarm, *points: tuple[float, float], until: float = 7200.0) -> list[float]:
    """When (in seconds) the alarm went on, off, on, …"""
    board = AlarmBoard((there,))
    for at, value in points:
        board.add(there.series, START_SECONDS + at, value)
    board.advance(START_SECONDS + until)
    return [at - START_SECONDS for at, _ in board._watches["A"].changes]


def test_m_of_n_datapoints_within_the_windows_put_it_on() -> None:
    assert states(alarm(), (10, 1)) == []
    assert states(alarm(), (10, 1), (400, 1)) == [420, 960]
    assert states(alarm(), (10, 1), (1000, 1)) == []
    assert states(alarm(windows=1, datapoints=1), (10, 1)) == [60, 360]


def test_statistics_and_comparisons() -> None:
    one = {"windows": 1, "datapoints": 1}
    points = ((10, 1.0), (20, 5.0))
    for statistic, value in (
        ("Sum", 6),
        ("Maximum", 5),
        ("Minimum", 1),
        ("Average", 3),
        ("SampleCount", 2),
    ):
        there = of_statistic(statistic, threshold=float(value), **one)
        assert states(there, *points) == []
        assert states(replace(there, comparison="GreaterThanOrEqualToThreshold"), *points) != []
        assert states(replace(there, comparison="LessThanOrEqualToThreshold"), *points) != []
        assert states(replace(there, comparison="LessThanThreshold"), *points) == []


def test_missing_data() -> None:
    one = {"windows": 1, "datapoints": 1, "threshold": 1.0, "comparison": "LessThanThreshold"}
    assert states(alarm(missing="breaching", **one), (600, 1)) == [60, 600, 900]
    assert states(alarm(missing="notBreaching", **one), (600, 0)) == [600, 900]
    assert states(alarm(missing="ignore", **one), (600, 0)) == [600]
    assert states(alarm(missing="missing", **one), (600, 0)) == [600, 900]


@pytest.mark.parametrize(
    "there", [of_statistic("Median"), alarm(comparison="Outside"), alarm(expression="RATE(m)")]
)
def test_what_it_cant_evaluate_it_refuses(there: Alarm) -> None:
    with pytest.raises(ValueError, match=r"no such|not understood"):
        states(there, (10, 1))


def test_arithmetic_with_a_metric_that_has_no_datapoint_gives_none() -> None:
    values = {"paid": None, "failed": 3.0}
    assert Expression("failed / (failed + paid)").value(values) is None
    assert Expression("failed / 0").value(values) is None
    assert Expression("IF(paid > 1, 1, 2)").value(values) is None
    assert Expression("FILL(paid, 1) + failed * 2").value(values) == 7
    assert Expression("IF(failed >= 3, 1, paid)").value(values) == 1


def test_a_band_is_of_the_same_hour_of_days_that_were_seen() -> None:
    assert anomaly_band([5.0, 5.0, None], 4) is None
    lower, upper = anomaly_band([100.0, 100.0, 100.0], 2)  # type: ignore[misc]
    assert (lower, upper) == (60, 140)
