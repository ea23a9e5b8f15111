"""I9: what goes wrong is alarmed within its bound, by the alarms that template.yaml has."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.simulator.alarm_histories import HISTORIES, NOT_PLAYED, played
from tests.simulator.alarms import Alarm, AlarmBoard, series, template_alarms
from tests.simulator.kernel import START_SECONDS, Violation
from tests.simulator.mutation import Mutant, Patch, alive
from tests.simulator.watch import BOUNDS, bounds_table
from tests.support.expanded_template import ROOT

ALARMS = {alarm.name: alarm for alarm in template_alarms()}


@pytest.mark.parametrize("name", HISTORIES)
def test_what_goes_wrong_is_alarmed_within_its_bound_until_it_is_right(name: str) -> None:
    assert played(name).faults() == []


def test_every_alarm_of_the_template_has_a_bound_and_a_history() -> None:
    bounded = {bound.alarm for bound in BOUNDS}
    assert bounded == ALARMS.keys() | NOT_PLAYED.keys()
    played_ = {each.alarm for name in HISTORIES for each in played(name).expected}
    assert played_ == ALARMS.keys()


def test_the_runbook_has_the_bounds_that_are_checked() -> None:
    text = (ROOT / "docs/runbook.md").read_text()
    table = text.partition("<!-- bounds -->\n")[2].partition("\n<!-- /bounds -->")[0]
    assert table == bounds_table(), "put in what `python -m tests.simulator --bounds` prints"


# --- Deliberate faults of the alarms --------------------------------------------------------------


def mutants(alarm: Alarm) -> dict[str, Alarm]:
    """Changes of an alarm that make it useless or a nuisance."""
    namespace, metric, dimensions = alarm.series
    name, value = next(iter(dimensions))
    above = alarm.comparison == "GreaterThanThreshold"
    found = {
        "threshold": replace(alarm, threshold=1e12),
        "comparison": replace(
            alarm, comparison="LessThanThreshold" if above else "GreaterThanOrEqualToThreshold"
        ),
        "dimension": replace(alarm, series=series(namespace, metric, **{name: value + "-other"})),
        "metric": replace(alarm, series=(namespace, metric + "s", dimensions)),
        "actions off": replace(alarm, acts=False),
        "slow": replace(alarm, windows=alarm.windows * 40, datapoints=alarm.datapoints * 40),
    }
    if alarm.missing == "breaching":
        found["missing data"] = replace(alarm, missing="notBreaching")
    elif alarm.name not in EMITTED_ALWAYS:
        found["missing data"] = replace(alarm, missing="breaching")
    return found


EMITTED_ALWAYS = {name for name, alarm in ALARMS.items() if alarm.missing == "ignore"}
"""Of these the healthy history has data at all times: silence is ReconcilerSilent's business."""


@pytest.mark.parametrize(
    ("name", "kind"), [(name, kind) for name, alarm in ALARMS.items() for kind in mutants(alarm)]
)
def test_a_fault_in_an_alarm_is_caught(name: str, kind: str) -> None:
    mutant = mutants(ALARMS[name])[kind]
    # Where it is expected first: most are caught there.
    order = sorted(HISTORIES, key=lambda each: name not in {e.alarm for e in played(each).expected})
    assert any(played(each).faults_of(mutant) for each in order), f"{name}: {kind} is not noticed"


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


@pytest.mark.parametrize("fault", SILENT)
def test_code_that_falls_silent_is_caught(fault: str) -> None:
    name, patch = SILENT[fault]
    with alive(Mutant(fault, (Patch(*patch),))):
        try:
            found = played.__wrapped__(name).faults()
        except Violation as violation:  # noticed while it was played
            found = [violation.invariant]
        assert found, f"{fault}: not noticed"


@pytest.mark.parametrize("name", sorted(EMITTED_ALWAYS))
def test_an_alarm_whose_measurer_is_silent_stays_as_it_was(name: str) -> None:
    alarm = ALARMS[name]
    bad = alarm.threshold + 1
    board = AlarmBoard((alarm,))
    for number in range(100):
        board.add(alarm.series, START_SECONDS + number * 300, bad)
    board.advance(START_SECONDS + 86_400)
    assert board.on(name)


# --- The evaluator --------------------------------------------------------------------------------


def alarm(**changes: object) -> Alarm:
    there = Alarm(
        name="A",
        series=series("N", "M", d="v"),
        statistic="Sum",
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
        there = alarm(statistic=statistic, threshold=float(value), **one)
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


@pytest.mark.parametrize("changes", [{"statistic": "Median"}, {"comparison": "Outside"}])
def test_what_it_cant_evaluate_it_refuses(changes: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="no such"):
        states(alarm(**changes), (10, 1))
