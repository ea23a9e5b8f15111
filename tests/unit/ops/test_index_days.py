"""`refunds stack index-days`: refunds of a release that did not write the index's key."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError
from tests.support.command_line import Refunds
from tests.support.finished_refunds import add
from tests.support.world import World

from refunds.audit.writer import entry_of
from refunds_ops.stack import day_index


def forget_day(world: World, refund_id: str) -> None:
    world.stack.clients.dynamodb.update_item(
        TableName=world.stack.refunds_table,
        Key={"refund_id": {"S": refund_id}},
        UpdateExpression="REMOVE day_shard",
    )


def item(world: World, refund_id: str) -> dict[str, Any]:
    return world.stack.clients.dynamodb.get_item(
        TableName=world.stack.refunds_table, Key={"refund_id": {"S": refund_id}}
    )["Item"]


@pytest.fixture
def old(world: World) -> dict[str, Any]:
    """Two refunds of the old release, and a new one; r1 as it was stored then."""
    for refund_id in ("r1", "r2", "r3"):
        add(world, refund_id, 1)
    complete = item(world, "r1")
    for refund_id in ("r1", "r2"):
        forget_day(world, refund_id)
    return complete


def listed(refunds: Refunds) -> set[str]:
    return {row["refund_id"] for row in refunds("list", "--since", "24h", "--json").lines}


def test_old_refunds_are_listed_once_they_are_indexed(
    world: World, refunds: Refunds, old: dict[str, Any]
) -> None:
    assert listed(refunds) == {"r3"}
    assert refunds("stack", "index-days", "--dry-run", "--json").json == {
        "missing": 2,
        "indexed": 0,
    }
    assert listed(refunds) == {"r3"}

    before = item(world, "r1")
    assert refunds("stack", "index-days", "--json").json == {"missing": 2, "indexed": 2}
    assert listed(refunds) == {"r1", "r2", "r3"}
    assert item(world, "r1") == old  # nothing else has changed: version, hash and times
    assert refunds("show", "r1", "--json").json["intact"] is True
    record = {"OldImage": before, "NewImage": item(world, "r1")}
    assert entry_of({"eventName": "MODIFY", "dynamodb": record}) is None  # no audit entry

    again = refunds("stack", "index-days")
    assert (again.status, again.out) == (0, "Every refund is in the index of days.\n")


def test_one_that_is_gone_or_indexed_by_now_is_left_alone(
    world: World, refunds: Refunds, old: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = [day_index.Unindexed("gone", "2026-01-01T00:00:00.000000Z")]
    pages.append(day_index.Unindexed("r3", "2026-01-01T00:00:00.000000Z"))
    before = item(world, "r3")
    monkeypatch.setattr(day_index, "pages_without_day", lambda stack: iter([pages]))

    assert refunds("stack", "index-days", "--json").json["indexed"] == 0
    assert item(world, "r3") == before
    with pytest.raises(KeyError):
        item(world, "gone")


def test_a_failed_write_is_not_passed_over(
    world: World, refunds: Refunds, old: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(error: ClientError) -> bool:
        return False

    monkeypatch.setattr(day_index, "condition_failed", refused)
    gone = [day_index.Unindexed("gone", "2026-01-01T00:00:00.000000Z")]
    monkeypatch.setattr(day_index, "pages_without_day", lambda stack: iter([gone]))

    ran = refunds("stack", "index-days")
    assert (ran.status, "AWS request failed" in ran.err) == (3, True)
