"""What the console shows when a part of it can't be read."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError
from tests.support.console import Client
from tests.support.shop import Lived
from tests.support.world import World

from refunds_console import recent


class Denied:
    """A client whose every call IAM denies."""

    def __getattr__(self, name: str) -> Any:
        def call(**_: Any) -> Any:
            raise ClientError({"Error": {"Code": "AccessDenied", "Message": ""}}, name)

        return call


def damage(world: World, **changes: Any) -> None:
    name, client = world.stack.refunds_table, world.stack.clients.dynamodb
    [item] = client.scan(TableName=name)["Items"]
    client.put_item(TableName=name, Item={**item, **changes})


def test_alarms_that_cannot_be_read_are_no_all_clear(console: Client, lived: Lived) -> None:
    console.app.state.console._clients["cloudwatch"] = Denied()
    text = console.get("/").text
    assert "alarms can't be read" in text.replace("&#39;", "'")
    assert "Nothing needs a person." not in text
    assert "as far as it can be read" in text


@pytest.mark.parametrize("change", [{"note": {"B": b"x"}}, {"version": {"N": "1.5"}}])
def test_a_part_that_fails_by_itself_leaves_the_other_parts(
    console: Client, lived: Lived, world: World, change: Any
) -> None:
    lived.add("rf_1")
    damage(world, **change)
    assert console.get("/").status == 200


def test_sums_that_cannot_be_read_are_not_shown_as_no_refunds(
    console: Client, lived: Lived, world: World
) -> None:
    lived.add("rf_1")
    damage(world, amount_minor={"N": "1.5"})
    lived.add("rf_2")
    console.get("/money")
    console.read_all()
    text = console.get("/money").text
    assert "No refunds in the last days" not in text
    assert "Internal error: ValueError" in text


def test_after_a_failure_sums_are_left_alone_for_a_while(
    console: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[int] = []

    def broken(*_: Any) -> Any:
        reads.append(1)
        raise ValueError("4111111111111111")

    monkeypatch.setattr(recent, "from_table", broken)
    for _ in range(3):
        text = console.get("/fragments/money").text
        console.read_all()
        assert "4111111111111111" not in text
    assert len(reads) == 1


def test_one_day_keeps_no_more_names_than_the_most(
    console: Client, lived: Lived, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recent, "MAX_REFUNDS", 3)
    for number in range(8):
        lived.add(f"rf_{number}")
    console.read_all()
    known = console.app.state.console.recent.known(0)
    assert sum(len(day.found_by) for day in known.days) <= 3


def test_a_damaged_record_does_not_hide_the_list_of_all_others(
    console: Client, lived: Lived, world: World
) -> None:
    lived.add("rf_1")
    name, client = world.stack.refunds_table, world.stack.clients.dynamodb
    [item] = client.scan(TableName=name)["Items"]
    client.put_item(TableName=name, Item={k: v for k, v in item.items() if k != "user_id"})
    lived.add("rf_2")
    assert "rf_2" in console.get("/refunds").text


@pytest.mark.parametrize("query", ["day=0001-01-01", "since=0001-01-01"])
def test_the_first_day_is_a_refused_filter(console: Client, query: str) -> None:
    assert "Internal error" not in console.get(f"/refunds?{query}").text
