"""That the benchmarks count and compare rightly; what they measure is not looked at here."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import urllib3
from benchmarks import backup_steps, cold_instructions
from benchmarks.backup_steps import PAGE_UNIT, TABLES
from benchmarks.callgrind import Counter
from benchmarks.canned_dynamodb import (
    OPTIONAL_INDEXES,
    Item,
    Tables,
    item_bytes,
    pages_of,
    row,
    scan_page,
    updated,
    write_units,
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
from benchmarks.servers import canned_server
from benchmarks.work import measure

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


# --- Counting on the wire -------------------------------------------------------------------------


def test_an_items_size_counts_names_and_values_as_dynamodb_does() -> None:
    assert item_bytes({"id": {"S": "abc"}}) == 5
    assert item_bytes({"n": {"N": "12345"}}) == 1 + 4
    assert item_bytes({"n": {"N": "-5"}}) == 1 + 3
    assert item_bytes({"é": {"BOOL": True}}) == 2 + 1
    assert item_bytes({"m": {"M": {"a": {"S": "x"}}}}) == 1 + 3 + 1 + 1 + 1


def test_a_write_costs_its_larger_image_in_whole_kilobytes() -> None:
    small, large = {"refund_id": {"S": "r"}}, {"refund_id": {"S": "r" * 1500}}

    assert write_units("Refunds", None, small) == {"Refunds": 1}
    assert write_units("Refunds", None, large) == {"Refunds": 2}
    assert write_units("Refunds", large, small) == {"Refunds": 2}


def test_entering_leaving_and_moving_in_an_index_cost_writes_of_their_own() -> None:
    closed = {"refund_id": {"S": "r"}}
    opened = closed | {"open_shard": {"S": "1"}, "check_at": {"S": "2026"}}
    later = opened | {"check_at": {"S": "2027"}}

    def index_units(before: Item | None, after: Item) -> int:
        return write_units("Refunds", before, after).get("Refunds indexes", 0)

    assert index_units(None, closed) == 0
    assert index_units(closed, opened) == 1
    assert index_units(opened, opened | {"version": {"N": "2"}}) == 0
    assert index_units(opened, later) == 2
    assert index_units(opened, closed) == 1


def test_each_optional_index_costs_a_refund_one_write_once() -> None:
    refund = {name: {"S": "x"} for name in ("refund_id", "created_at", "user_id", "day_shard")}

    assert write_units("Refunds", None, refund)[OPTIONAL_INDEXES] == 2
    assert OPTIONAL_INDEXES not in write_units("Refunds", refund, refund | {"s": {"S": "y"}})


def test_updates_are_applied_as_they_are_written() -> None:
    request = {
        "UpdateExpression": "SET remaining = remaining - :a, #r = :a REMOVE gone",
        "ExpressionAttributeNames": {"#r": "r#1"},
        "ExpressionAttributeValues": {":a": {"N": "25"}},
    }

    assert updated({"remaining": {"N": "100"}, "gone": {"S": "x"}}, request) == {
        "remaining": {"N": "75"},
        "r#1": {"N": "25"},
    }


@pytest.mark.parametrize("segments", [1, 4])
def test_a_scan_finds_each_row_once_in_pages_of_a_megabyte(segments: int) -> None:
    rows, found = 7001, 0
    for segment in range(segments):
        start: dict[str, Any] = {}
        while True:
            request = {"TableName": "Refunds", "Segment": segment, "TotalSegments": segments}
            body = scan_page(request | start, rows)
            page = json.loads(body)
            assert page["Count"] == len(page["Items"])
            assert sum(map(item_bytes, page["Items"])) <= 1024 * 1024
            found += page["Count"]
            if "LastEvaluatedKey" not in page:
                break
            start = {"ExclusiveStartKey": page["LastEvaluatedKey"]}
    assert found == rows


@pytest.mark.parametrize(("table", "least", "most"), [("Refunds", 590, 800), ("Ledger", 60, 120)])
def test_canned_rows_are_as_large_as_real_ones(table: str, least: int, most: int) -> None:
    assert least <= item_bytes(row(table, 7)) <= most


def test_a_stream_record_tells_of_both_images() -> None:
    tables = Tables(stream_of="Refunds")
    first = {"TableName": "Refunds", "Item": {"refund_id": {"S": "r"}, "version": {"N": "1"}}}
    tables.answer("PutItem", json.dumps(first).encode())
    change = {
        "TableName": "Refunds",
        "Key": {"refund_id": {"S": "r"}},
        "UpdateExpression": "SET version = :v",
        "ExpressionAttributeValues": {":v": {"N": "2"}},
    }
    tables.answer("UpdateItem", json.dumps(change).encode())

    assert [each["eventName"] for each in tables.stream] == ["INSERT", "MODIFY"]
    assert tables.stream[1]["dynamodb"]["OldImage"]["version"] == {"N": "1"}
    assert tables.stream[1]["dynamodb"]["NewImage"]["version"] == {"N": "2"}


def test_a_module_that_only_the_function_loads_is_named() -> None:
    floor = Start(0.0, 0.0, {}, ["botocore"], [])
    lean = Start(0.0, 0.0, {}, ["botocore"], ["refunds.domain.request"])
    fat = Start(0.0, 0.0, {}, ["botocore", "pydantic.main"], ["refunds.gateways.stripe"])

    assert not unused_result("process_refund", lean, floor).miss
    result = unused_result("process_refund", fat, floor)
    assert (result.miss, result.is_count) == (True, True)
    assert result.note == "pydantic.main, refunds.gateways.stripe"


def test_the_canned_server_answers_late_counts_and_forgets() -> None:
    http = urllib3.PoolManager(retries=False, timeout=10)
    with canned_server() as server:
        server.reset(delays={"gateway": 0.05})
        answer = http.request("GET", f"{server.url}/v1/payments/pay_1")
        assert answer.json()["amount_captured"] == 10_000
        assert server.counts()["requests"] == {"gateway GET /v1/payments": 1}
        server.reset()
        assert server.counts()["requests"] == {}


@pytest.mark.long
def test_a_successful_refund_costs_five_write_units_on_the_wire() -> None:
    with canned_server() as server:
        ours, baseline = measure(server)

    of_tables = {"Ledger": 1, "PaymentAuditTrail": 2, "Refunds": 2}
    assert ours.write_units == of_tables | {OPTIONAL_INDEXES: 2}
    assert ours.all_write_units == 5
    assert max(ours.largest_item_bytes.values()) <= 1024
    assert baseline.all_write_units == 4


def test_a_batch_reads_a_unit_for_each_key_that_it_names_found_or_not() -> None:
    tables = Tables()
    tables.answer("PutItem", json.dumps({"TableName": "Ledger", "Item": row("Ledger", 1)}).encode())
    keys = [{"transaction_id": row("Ledger", number)["transaction_id"]} for number in (1, 2)]

    def read(**more: Any) -> tuple[list[Item], float]:
        before = tables.read_units
        request = {"RequestItems": {"Ledger": {"Keys": keys} | more}}
        answer = json.loads(tables.answer("BatchGetItem", json.dumps(request).encode()))
        assert answer["UnprocessedKeys"] == {}
        return answer["Responses"]["Ledger"], tables.read_units - before

    assert read(ConsistentRead=True) == ([row("Ledger", 1)], 2.0)
    assert read() == ([row("Ledger", 1)], 1.0)
