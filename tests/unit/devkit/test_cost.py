from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from refunds_devkit.cli import cli
from refunds_devkit.cost.command import all_bills
from refunds_devkit.cost.model import INDEXES_LINE, Setup, ours, read_counts, read_prices

PRICES = read_prices()
COUNTS = read_counts()


def test_the_price_file_is_dated_and_names_its_region_and_sources() -> None:
    assert re.fullmatch(r"\d{4}-\d{2}-\d{2}", PRICES.as_of)
    assert PRICES.region == "us-east-1"
    assert all("https://aws.amazon.com/" in source for source in PRICES.sources.values())


def test_each_line_is_a_count_times_a_price() -> None:
    bill = ours(PRICES, COUNTS["ours"], Setup(batch=10, sent_together=10))

    assert bill.core["DynamoDB writes"] == pytest.approx(5 * 0.625)
    assert bill.core["DynamoDB reads"] == pytest.approx(1.1 * 0.125)
    assert bill.core["SQS"] == pytest.approx(0.3 * 0.40)
    assert bill.core["Lambda requests"] == pytest.approx(0.12 * 0.20)
    assert bill.more["Events"] == pytest.approx(1.0)
    assert bill.total == pytest.approx(sum(bill.core.values()))
    assert bill.with_all == pytest.approx(bill.total + sum(bill.more.values()))


def test_waiting_is_shared_by_a_batch_and_not_by_a_sequential_one() -> None:
    narrow, wide = (all_bills(PRICES, Setup(batch=batch)) for batch in (10, 50))

    assert wide[0].core["Lambda duration"] < narrow[0].core["Lambda duration"] / 2
    assert wide[1].core["Lambda duration"] == pytest.approx(narrow[1].core["Lambda duration"])


def test_less_memory_is_paid_for_with_slower_cpu() -> None:
    no_waiting = Setup(gateway_ms=0, dynamodb_ms=0)
    small, large = (
        ours(PRICES, COUNTS["ours"], replace(no_waiting, memory_mb=memory))
        for memory in (256, 1769)
    )

    # All of it CPU: four times the memory for a quarter of the time.
    assert small.core["Lambda duration"] == pytest.approx(large.core["Lambda duration"])


def test_the_tuned_stack_costs_what_the_target_says() -> None:
    this, sequential, states = all_bills(PRICES, Setup(batch=50, memory_mb=256))

    assert this.total <= 3.6
    assert this.total < sequential.total
    assert states.total == pytest.approx(154, abs=2)


def test_the_command_shows_all_three_designs_and_where_prices_are_from() -> None:
    result = CliRunner().invoke(cli, ["cost"])

    assert result.exit_code == 0, result.output
    for words in ("us-east-1", PRICES.as_of, "DynamoDB writes", "150.00", "KMS"):
        assert words in result.output


def test_the_command_takes_other_prices_and_talks_to_programs(tmp_path: Path) -> None:
    told = {
        "region": "eu-central-1",
        "as_of": "2027-01-01",
        "sources": {},
        "dollars": {name: 2 * price for name, price in PRICES.dollars.items()},
    }
    (tmp_path / "prices.json").write_text(json.dumps(told))

    result = CliRunner().invoke(cli, ["cost", "--json", "--prices", str(tmp_path / "prices.json")])

    assert result.exit_code == 0, result.output
    answer = json.loads(result.output)
    assert (answer["region"], answer["as_of"]) == ("eu-central-1", "2027-01-01")
    plain = all_bills(PRICES, Setup())[0]
    assert answer["bills"][0]["total"] == pytest.approx(2 * plain.total)


def test_a_file_without_prices_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "prices.json").write_text("{}")

    result = CliRunner().invoke(cli, ["cost", "--prices", str(tmp_path / "prices.json")])

    assert result.exit_code == 2
    assert "not a price file" in result.output


def test_each_list_index_costs_a_refund_one_write_unit() -> None:
    prices = read_prices()
    counts = read_counts()["ours"]
    assert counts.write_units <= 5
    lines = [
        ours(prices, counts, Setup(list_indexes=indexes)).more[INDEXES_LINE]
        for indexes in (0, 1, 2)
    ]
    unit = 1_000_000 * prices.dollars["write_unit"]
    assert lines == pytest.approx([0, unit, 2 * unit])
    with_all = [ours(prices, counts, Setup(list_indexes=indexes)).with_all for indexes in (0, 1, 2)]
    # Counted once: nothing else depends on them.
    assert with_all[2] - with_all[0] == pytest.approx(2 * unit)
