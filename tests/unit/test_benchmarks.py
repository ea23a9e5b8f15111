"""That the benchmarks count and compare rightly; what they measure is not looked at here."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from benchmarks import backup_steps, cold_instructions
from benchmarks.backup_steps import PAGE_UNIT, TABLES
from benchmarks.callgrind import Counter
from benchmarks.canned_dynamodb import (
    pages_of,
)
from benchmarks.cold_start import FLOORS, Start, unused_result
from benchmarks.environment import function_environment
from benchmarks.instructions import instruction_results
from benchmarks.report import (
    COUNTS,
    END,
    TIMES,
    backups_table,
    changed_instructions,
    counts_table,
    shown,
    stale_counts,
    times_table,
    write_held,
    write_json,
    write_table,
)
from benchmarks.results import (
    Result,
    exit_status,
    median_result,
    pair_ratios,
    ratio_result,
    spread,
)

from refunds.audit_settings import WriteAuditSettings
from refunds.backup_settings import BackupRefundsSettings
from refunds.settings import ProcessRefundSettings, ReconcileRefundsSettings
from refunds.webhook_settings import ReceiveWebhookSettings

FIELDS = {"name", "value", "unit", "better", "baseline", "target", "miss"}


@pytest.mark.parametrize(
    "settings",
    [
        ProcessRefundSettings,
        ReconcileRefundsSettings,
        WriteAuditSettings,
        ReceiveWebhookSettings,
        BackupRefundsSettings,
    ],
)
def test_the_benchmarks_environment_has_every_setting_of_each_function(settings: Any) -> None:
    assert settings.read(function_environment("http://127.0.0.1:1"))


@pytest.mark.parametrize(
    ("value", "better", "target", "miss"),
    [
        (1.0, "lower", 1.3, False),
        (1.3, "lower", 1.3, False),
        (1.31, "lower", 1.3, True),
        (5.0, "higher", 4.5, False),
        (4.5, "higher", 4.5, False),
        (4.4, "higher", 4.5, True),
        (99.0, "lower", None, False),
    ],
)
def test_a_miss_is_a_value_past_its_target(
    value: float, better: Any, target: float | None, miss: bool
) -> None:
    assert Result("x", value, "×", better, target=target).miss is miss


def test_the_json_has_the_fixed_form_and_says_what_was_missed(tmp_path: Path) -> None:
    results = [
        Result("met", 1.0, "×", target=2.0, spread=0.1, note="a note"),
        Result("missed", 3.0, "×", target=2.0),
    ]
    write_json(tmp_path / "new" / "bench.json", results)

    told = json.loads((tmp_path / "new" / "bench.json").read_text())

    assert [set(each) for each in told] == [FIELDS, FIELDS]
    assert [each["miss"] for each in told] == [False, True]


def test_misses_never_fail_but_for_counts_in_ci() -> None:
    slow = Result("time", 9.0, "s", target=1.0)
    fat = Result("units", 6.0, "units", target=5.0, is_count=True)

    assert exit_status([slow, fat], quick=False) == 0
    assert exit_status([slow], quick=True) == 0
    assert exit_status([slow, fat], quick=True) == 1


def test_ratios_are_of_pairs_so_that_a_slow_moment_slows_both() -> None:
    # The machine was three times slower in the second run: that is no difference of ours.
    assert pair_ratios([2.0, 6.0, 2.0], [1.0, 3.0, 1.0]) == [2.0, 2.0, 2.0]
    result = ratio_result("x", [2.0, 6.0, 2.0], [1.0, 3.0, 1.0], better="lower", target=1.5)
    assert (result.value, result.spread, result.miss) == (2.0, 0.0, True)
    with pytest.raises(ValueError, match="shorter"):
        pair_ratios([1.0, 2.0], [1.0])


def test_medians_and_spreads_pass_over_one_wild_run() -> None:
    result = median_result("x", [1.0, 1.0, 1.0, 1.0, 50.0], "s", baseline=[2.0, 2.0, 90.0])

    assert (result.value, result.spread, result.baseline) == (1.0, 0.0, 2.0)
    assert spread([1.0]) == 0.0


@pytest.mark.parametrize(
    ("value", "text"), [(5.0, "5"), (0.6531, "0.653"), (12.3456, "12.35"), (15936.4, "15,936")]
)
def test_numbers_are_shown_with_the_digits_that_matter(value: float, text: str) -> None:
    assert shown(value) == text


def test_a_written_table_replaces_the_one_before_and_stale_counts_are_noticed(
    tmp_path: Path,
) -> None:
    page = tmp_path / "scale.md"
    page.write_text(f"before\n{COUNTS}{END}between\n{TIMES}old\n{END}after\n")
    units = Result("write units", 5.0, "units", baseline=4.0, target=5.0, is_count=True)
    seconds = Result("time", 9.0, "s", target=1.0, spread=0.5)
    table = counts_table([units, seconds])
    assert stale_counts(table, page).miss

    write_table(COUNTS, table, page)
    write_table(TIMES, times_table([units, seconds], run="One run."), page)

    text = page.read_text()
    assert "| write units | 5 units |  | 4 | ≤ 5 | met |\n" in text
    assert "One run.\n" in text
    assert "| time | 9 s | 0.500 |  | ≤ 1 | **missed** |\n" in text
    assert "old" not in text
    assert (text.count("write units"), text.count("time |")) == (1, 1)
    assert text.startswith("before\n")
    assert "\nbetween\n" in text
    assert text.endswith("after\n")
    assert not stale_counts(table, page).miss
    changed = counts_table([replace(units, value=6.0)])
    assert stale_counts(changed, page).miss


def test_a_step_of_a_backup_costs_what_it_adds() -> None:
    million = 1_000_000
    up_to = {"read": 6, "gzip": 30, "botocore": 48, "hashes": 54, "cut": 60}
    results = backup_steps.instruction_results(
        TABLES[0], 66 * million, 60 * million, {step: n * million for step, n in up_to.items()}
    )
    assert pages_of("Refunds", 10_000) == 6
    assert [each.value for each in results[2:]] == [1, 4, 3, 1, 1, 1, 1, 12]
    limit, promised = results[:2]
    assert limit.value == pytest.approx(30 / 72)
    assert limit.miss
    assert promised.value == pytest.approx(54 / 72)
    assert not promised.miss


def test_backups_have_a_table_of_their_own() -> None:
    ratio = Result(TABLES[1].ratio_name, 0.4, "×", "higher", target=0.5)
    step = Result("a page of Refunds: gzip", 4.0, PAGE_UNIT)
    other = Result("batch", 1.5, "s")
    table = backups_table([ratio, step, other], run="One run.")
    assert "**missed**" in table
    assert "4 million a page" in table
    assert "batch" not in table
    times = times_table([ratio, step, other], run="One run.")
    assert "batch" in times
    assert "trail" not in times
    assert "gzip" not in times


def test_a_page_without_the_tables_mark_is_an_error(tmp_path: Path) -> None:
    page = tmp_path / "scale.md"
    page.write_text("no mark")
    with pytest.raises(ValueError, match="bench: counts"):
        write_table(COUNTS, "", page)


def test_ratios_of_instructions_are_compared_within_their_tolerance_for_each_python(
    tmp_path: Path,
) -> None:
    path = tmp_path / "instructions.json"
    ratio = Result("a / b", 0.9, "×", target=0.8, tolerance=0.02)
    assert not changed_instructions([ratio], "3.13", path).miss
    write_held([ratio], "3.13", path)
    write_held([replace(ratio, value=0.8)], "3.11", path)

    assert not changed_instructions([replace(ratio, value=0.917)], "3.13", path).miss
    worse = changed_instructions([replace(ratio, value=0.92)], "3.13", path)
    assert worse.miss
    assert "0.920, committed are 0.900" in worse.note
    assert changed_instructions([replace(ratio, value=0.87)], "3.13", path).miss
    unknown = changed_instructions([ratio], "3.12", path)
    assert "not compared on Python 3.12: a / b" in unknown.note
    # A target that is missed is printed; only a change fails CI.
    assert exit_status([ratio], quick=True) == 0
    assert exit_status([worse], quick=True) == 1


def test_without_valgrind_ci_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.callgrind.shutil.which", lambda name: None)
    server: Any = None
    results = instruction_results(server, 1, with_libraries=False)
    assert exit_status(results, quick=True) == 1
    assert "apt-get install valgrind" in results[0].note


def test_cold_starts_are_compared_without_the_start_of_python(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def count(steps: dict[str, str]) -> int:
        python = 100
        if not steps:
            return python
        if "handler" in steps:
            return python + 60
        return python + (20 if steps == cold_instructions.EMPTY_HANDLER else 48)

    monkeypatch.setattr(cold_instructions, "_count", count)
    monkeypatch.setattr(cold_instructions, "fresh_process", lambda steps: None)
    found = {
        each.name: (each.value, each.miss)
        for each in cold_instructions.cold_instruction_results(with_libraries=True)
    }
    assert len(found) == 2 * len(FLOORS)
    assert found["cold start write_audit / empty handler"] == (3.0, False)
    assert found["cold start write_audit / its libraries"] == (1.25, True)


def test_a_function_of_callgrind_is_counted_from_its_dump(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[str, ...]] = []

    def control(*arguments: str) -> None:
        made.append(arguments)
        if arguments[0] == "--dump":
            (tmp_path / "counted.1").write_text("events: Ir\n0 7\ntotals: 1234\n")

    monkeypatch.setattr("benchmarks.callgrind._control", control)
    worked: list[int] = []
    assert Counter(tmp_path).count(42, lambda: worked.append(len(made))) == 1234
    assert worked == [1]  # between the first command and the second
    assert [each[0] for each in made] == ["--instr=on", "--dump", "--instr=off"]
    assert list(tmp_path.iterdir()) == []


def test_a_module_that_only_the_function_loads_is_named() -> None:
    floor = Start(0.0, 0.0, {}, ["botocore"], [])
    lean = Start(0.0, 0.0, {}, ["botocore"], ["refunds.domain.request"])
    fat = Start(0.0, 0.0, {}, ["botocore", "pydantic.main"], ["refunds.gateways.stripe"])

    assert not unused_result("process_refund", lean, floor).miss
    result = unused_result("process_refund", fat, floor)
    assert (result.miss, result.is_count) == (True, True)
    assert result.note == "pydantic.main, refunds.gateways.stripe"
