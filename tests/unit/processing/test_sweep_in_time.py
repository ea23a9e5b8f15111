"""The sweep sees refunds as often as promised, at the rates that docs/scale.md names."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from tests.support.expanded_template import load_template
from tests.support.sweep_arithmetic import (
    DAY_SECONDS,
    MOST_PAGES_AT_ONCE,
    RUN_SECONDS,
    SECONDS_A_DAY,
    most_refunds_per_second,
    pages_at_once,
    table,
)
from tests.support.sweep_simulation import SimulatedSweep

from refunds.processing.reversal_sweep import DEFAULT_PAGES_AT_ONCE
from refunds.processing.sweep_plan import TIERS

SHARE = SECONDS_A_DAY / DAY_SECONDS


@pytest.mark.parametrize("any_day", [False, True], ids=["from the newest only", "from any day"])
def test_at_ten_refunds_a_second_every_refund_is_seen_in_time(any_day: bool) -> None:
    played = SimulatedSweep(10, DEFAULT_PAGES_AT_ONCE, any_day, SHARE)
    played.run(40, settle_days=22)

    assert played.worst["recent"] <= timedelta(days=1)
    assert played.worst["older"] <= timedelta(days=14)


def test_one_page_at_a_time_is_not_enough_for_ten_refunds_a_second() -> None:
    played = SimulatedSweep(10, 1, any_day=False, share=SHARE)
    played.run(12, settle_days=6)

    assert played.worst["recent"] > timedelta(days=1)
    assert pages_at_once(10) > 1


def test_the_tiers_are_what_is_promised() -> None:
    assert [(tier.to_age_days, tier.every.days) for tier in TIERS] == [(30, 1), (180, 14)]


def test_the_page_on_scale_has_these_numbers() -> None:
    text = Path("docs/scale.md").read_text()
    shown = text.partition("<!-- sweep -->\n")[2].partition("\n<!-- /sweep -->")[0]

    assert shown == table(), "put in what `python -m tests.support.sweep_arithmetic` prints"
    for at_once in (DEFAULT_PAGES_AT_ONCE, MOST_PAGES_AT_ONCE):
        assert f"{at_once} pages at once reach {most_refunds_per_second(at_once):.0f}" in text


def test_the_arithmetic_has_the_templates_settings() -> None:
    template = load_template()
    setting = template["Parameters"]["SweepPagesAtOnce"]

    assert (setting["Default"], setting["MaxValue"]) == (DEFAULT_PAGES_AT_ONCE, MOST_PAGES_AT_ONCE)
    assert template["Resources"]["ReconcileRefunds"]["Properties"]["Timeout"] == RUN_SECONDS
