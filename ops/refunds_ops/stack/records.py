"""Reading refunds and their audit trail, for the commands that show them."""

from __future__ import annotations

from typing import Any

from refunds.domain.identifiers import RECORD_TYPE
from refunds.domain.refund import Item
from refunds.tables.wire import item_from_wire
from refunds_ops.stack.stack import Stack

MAX_ENTRIES = 2000
"""The most audit entries of one transaction that are read; each refund has a handful."""


def refund_item(stack: Stack, refund_id: str) -> Item | None:
    answer = stack.dynamodb.get_item(
        TableName=stack["RefundsTableName"],
        Key={"refund_id": {"S": refund_id}},
        ConsistentRead=True,
    )
    return item_from_wire(answer["Item"]) if "Item" in answer else None


def audit_entries(
    stack: Stack, transaction_id: str, refund_id: str | None = None
) -> tuple[list[Item], bool]:
    """A transaction's refund entries (of one refund, if named), by refund and version.

    The second value says whether that is all: at most ``MAX_ENTRIES`` are read.
    """
    entries: list[Item] = []
    arguments: dict[str, Any] = {
        "TableName": stack["AuditTableName"],
        "KeyConditionExpression": "transaction_id = :tx AND begins_with(entry_id, :prefix)",
        "ExpressionAttributeValues": {
            ":tx": {"S": transaction_id},
            # The payment side's entries are in the same table, under another prefix.
            ":prefix": {"S": f"{RECORD_TYPE}#" + (f"{refund_id}#" if refund_id else "")},
        },
        "ConsistentRead": True,
    }
    while len(entries) < MAX_ENTRIES:
        answer = stack.dynamodb.query(**arguments)
        entries += [item_from_wire(wire) for wire in answer["Items"]]
        if not (last := answer.get("LastEvaluatedKey")):
            return entries, True
        arguments["ExclusiveStartKey"] = last
    return entries[:MAX_ENTRIES], False
