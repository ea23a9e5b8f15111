"""That the benchmarks' stand-in for AWS counts and answers as DynamoDB does."""

from __future__ import annotations

import json
from typing import Any

import pytest
import urllib3
from benchmarks.canned_dynamodb import (
    OPTIONAL_INDEXES,
    Item,
    Tables,
    item_bytes,
    row,
    scan_page,
    updated,
    write_units,
)
from benchmarks.servers import canned_server
from benchmarks.work import measure


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
