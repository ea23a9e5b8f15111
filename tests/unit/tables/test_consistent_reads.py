"""Reads of a table are consistent: a stale one could pay a second time, or release money twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.support.builders import refund
from tests.support.world import World

from refunds.domain.audit_entry import audit_entry
from refunds.tables.audit_trail import AuditTable
from refunds.tables.ledger import LedgerTable
from refunds.tables.limit_counters import LimitCounters
from refunds.tables.refund_indexes import RefundIndexes
from refunds.tables.refunds import RefundsTable
from refunds.tables.state import Control


class RecordedReads:
    """Passes calls on, and notes of each read of a table whether it is consistent."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.consistent: list[bool] = []

    def get_item(self, **arguments: Any) -> Any:
        self.consistent.append(arguments.get("ConsistentRead", False))
        return self._client.get_item(**arguments)

    def batch_get_item(self, **arguments: Any) -> Any:
        for table in arguments["RequestItems"].values():
            self.consistent.append(table.get("ConsistentRead", False))
        return self._client.batch_get_item(**arguments)

    def query(self, **arguments: Any) -> Any:
        if "IndexName" not in arguments:  # DynamoDB offers no consistent read of an index
            self.consistent.append(arguments.get("ConsistentRead", False))
        return self._client.query(**arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


def insert_twice(client: Any, world: World) -> None:
    entry = audit_entry(refund().item())
    table = AuditTable(client, world.stack.audit_table)
    assert table.put_new(entry) is None
    assert table.put_new(entry) == entry


READS: dict[str, Callable[[Any, World], object]] = {
    "refund": lambda client, world: RefundsTable(client, world.stack.refunds_table).get("r1"),
    "refunds": lambda client, world: RefundsTable(client, world.stack.refunds_table).get_many(
        ["r1", "r2"]
    ),
    "refunds of an index": lambda client, world: list(
        RefundIndexes(client, world.stack.refunds_table).items(["r1", "r2"])
    ),
    "ledger": lambda client, world: LedgerTable(client, world.stack.ledger_table).get("payment-1"),
    "ledgers": lambda client, world: LedgerTable(client, world.stack.ledger_table).read_many(
        ["payment-1", "payment-2"]
    ),
    "counter": lambda client, world: LimitCounters(client, world.stack.ledger_table).get("#x"),
    "state": lambda client, world: Control(client, world.stack.ledger_table).intake(),
    "latest entry": lambda client, world: AuditTable(client, world.stack.audit_table).latest(
        "payment-1", "r1"
    ),
    "latest entries": lambda client, world: AuditTable(
        client, world.stack.audit_table
    ).latest_of_payment("payment-1"),
    "entry that is there": insert_twice,
}


@pytest.mark.parametrize("name", READS)
def test_a_read_that_decides_is_consistent(world: World, name: str) -> None:
    client = RecordedReads(world.stack.clients.dynamodb)
    READS[name](client, world)
    assert client.consistent
    assert all(client.consistent)
