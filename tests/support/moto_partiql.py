"""PartiQL's INSERT in moto, which can't do it: its own overwrites what is there.

Importing this replaces moto's BatchExecuteStatement by one that does as DynamoDB documents, for the
one form of statement that is used. MiniStack and dynoxide run the real one in tests/local and
tests/engines.
"""

from __future__ import annotations

import json
from typing import Any

from moto.core.responses import ActionResult
from moto.dynamodb.models.dynamo_type import DynamoType
from moto.dynamodb.responses import DynamoHandler
from tests.support.partiql import inserted


def _batch_execute_statement(self: DynamoHandler) -> ActionResult:
    items = [inserted(each["Statement"], each["Parameters"]) for each in self.body["Statements"]]
    backend: Any = self.dynamodb_backend
    keys = set()
    for name, item in items:
        table = backend.get_table(name)  # raises ResourceNotFoundException
        keys.add(json.dumps([name, item[table.hash_key_attr], item[table.range_key_attr]]))
    if len(keys) < len(items):
        raise AssertionError("DynamoDB refuses a request that names a key twice")
    return ActionResult({"Responses": [_insert(backend, name, item) for name, item in items]})


def _insert(backend: Any, name: str, item: dict[str, Any]) -> dict[str, Any]:
    table = backend.get_table(name)
    key = (DynamoType(item[attribute]) for attribute in (table.hash_key_attr, table.range_key_attr))
    if table.get_item(*key) is not None:
        return {"Error": {"Code": "DuplicateItem", "Message": "taken"}, "TableName": name}
    backend.put_item(name, item)
    return {"TableName": name}


DynamoHandler.batch_execute_statement = _batch_execute_statement  # type: ignore[method-assign]
