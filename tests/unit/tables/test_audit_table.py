"""The audit table's conditional writes: an entry is put once."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError
from tests.support.builders import refund
from tests.support.failing_client import Failing
from tests.support.world import World

from refunds.domain.audit_entry import audit_entry
from refunds.tables.audit_trail import AuditTable
from refunds.tables.wire import item_to_wire


def test_an_entry_is_put_once_and_the_one_there_is_returned(world: World) -> None:
    entry = audit_entry(refund().item())

    assert world.audit.put_new(entry) is None
    assert world.audit.put_new(entry | {"recorded_at": "later"}) == entry
    assert world.stack.items(world.stack.audit_table) == [entry]


def test_the_latest_entry_of_a_refund_is_found_among_others(world: World) -> None:
    for there in (
        refund(version=1),
        refund(version=2),
        refund(version=10),
        refund(refund_id="refund-11", version=99),
        refund(transaction_id="payment-2", version=50),
    ):
        world.audit.put_new(audit_entry(there.item()))
    theirs = {"transaction_id": "payment-1", "entry_id": "REFUND#refund-1#~", "record_type": "X"}
    world.stack.clients.dynamodb.put_item(
        TableName=world.stack.audit_table, Item=item_to_wire(theirs)
    )

    latest = world.audit.latest("payment-1", "refund-1")
    assert latest is not None
    assert latest["version"] == 10
    assert world.audit.latest("payment-1", "refund") is None


def test_an_audit_error_that_is_no_failed_condition_is_raised() -> None:
    failing: Any = Failing()
    with pytest.raises(ClientError):
        AuditTable(failing, "t").put_new({})


def test_a_trail_of_a_payment_without_an_end_is_given_up() -> None:
    asked: list[Any] = []

    class Endless:
        def query(self, **arguments: Any) -> Any:
            asked.append(arguments.get("ExclusiveStartKey"))
            return {"Items": [], "LastEvaluatedKey": {"entry_id": {"S": str(len(asked))}}}

    client: Any = Endless()
    with pytest.raises(RuntimeError, match="more than 50 pages"):
        AuditTable(client, "table").latest_of_payment("payment-1")
    assert asked[:3] == [None, {"entry_id": {"S": "1"}}, {"entry_id": {"S": "2"}}]
    assert len(asked) == 50


def test_the_latest_entry_of_each_refund_of_a_payment_is_found(world: World) -> None:
    for there in (
        refund(version=1),
        refund(version=2),
        refund(refund_id="refund-2", version=10),
        refund(refund_id="refund-2", version=9),
        refund(refund_id="refund-3", transaction_id="payment-2"),
    ):
        world.audit.put_new(audit_entry(there.item()))
    theirs = {"transaction_id": "payment-1", "entry_id": "REFUND#refund-1#~", "record_type": "X"}
    world.stack.clients.dynamodb.put_item(
        TableName=world.stack.audit_table, Item=item_to_wire(theirs)
    )
    found = world.audit.latest_of_payment("payment-1")
    assert {name: entry["version"] for name, entry in found.items()} == {
        "refund-1": 2,
        "refund-2": 10,
    }
