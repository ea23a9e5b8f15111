"""A row that somebody has damaged by hand hides no other refund from those who must act."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.builders import NOW, refund
from tests.support.command_line import Refunds
from tests.support.world import World

from refunds.domain.clock import rfc3339
from refunds.domain.refund import Refund, Status
from refunds.tables.wire import item_to_wire
from refunds_ops.open_refunds import open_refunds
from refunds_ops.stack.stack import find_stack

DAMAGE: list[tuple[str, dict[str, Any] | None]] = [
    ("status", None),
    ("status", {"N": "1"}),
    ("amount_minor", {"N": "1.5"}),
    ("amount_minor", {"S": "a lot"}),
    ("currency", None),
    ("transaction_id", None),
    ("open_since", {"S": "yesterday"}),
    ("check_at", {"S": "soon"}),
]


def in_review(refund_id: str) -> Refund:
    due = rfc3339(NOW)
    return refund(
        refund_id=refund_id,
        status=Status.IN_REVIEW,
        open_shard="1",
        open_since=due,
        check_at=due,
    )


@pytest.fixture(params=DAMAGE, ids=str)
def damaged(request: pytest.FixtureRequest, world: World) -> None:
    name, value = request.param
    item = item_to_wire(in_review("bad").item())
    item.pop(name)
    if value is not None:
        item[name] = value
    world.stack.clients.dynamodb.put_item(TableName=world.stack.refunds_table, Item=item)
    world.put(in_review("good"))


@pytest.mark.usefixtures("damaged")
@pytest.mark.parametrize("command", [("open",), ("review", "list")], ids=" ".join)
def test_the_others_are_listed_and_the_damaged_row_is_named(
    refunds: Refunds, command: tuple[str, ...]
) -> None:
    ran = refunds(*command)
    assert (ran.status, "good" in ran.out, "bad" in ran.out) == (1, True, False)
    assert "Rows that can't be read: 1 (bad). See: refunds verify" in " ".join(ran.err.split())
    assert [each["refund_id"] for each in refunds(*command, "--json").lines] == ["good"]


@pytest.mark.usefixtures("damaged", "refunds")
def test_whoever_counts_them_is_told() -> None:
    unreadable: list[str] = []
    found = open_refunds(find_stack(None), unreadable=unreadable)
    assert ([each["refund_id"] for each in found], unreadable) == (["good"], ["bad"])
