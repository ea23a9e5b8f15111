"""DynamoDB: tables of items, conditional writes, an index that lags, and sizes that are counted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.simulator.aws import Wire, client_error
from tests.simulator.expressions import (
    ExpressionError,
    check_paths,
    check_placeholders,
    compile_condition,
    compile_update,
    updated_names,
)
from tests.simulator.kernel import Kernel
from tests.simulator.tap import STREAM_ARN
from tests.support.item_size import item_size
from tests.support.partiql import inserted

Item = dict[str, Any]
Key = tuple[str, ...]
OnWrite = Callable[[Key, Item | None, Item | None], None]

STALE_SECONDS = 10.0
"""How long an eventually consistent read may show what was there before."""


@dataclass
class Index:
    """A sparse index; every change reaches it after a while, for one item in order."""

    name: str
    hash_name: str
    range_name: str
    entries: dict[Key, tuple[str, str]] = field(default_factory=dict)
    writes: dict[Key, int] = field(default_factory=dict)


class Table:
    """Items in wire form by key. An item is never changed in place."""

    def __init__(
        self, kernel: Kernel, name: str, key_names: tuple[str, ...], index: Index | None = None
    ) -> None:
        self._kernel = kernel
        self.name = name
        self.key_names = key_names
        self.index = index
        self.items: dict[Key, Item] = {}
        self._before: dict[Key, tuple[float, Item | None]] = {}
        self.on_write: list[OnWrite] = []
        self.sizes: dict[Key, int] = {}
        self.write_units: dict[Key, int] = {}

    def key_of(self, item: Item) -> Key:
        return tuple(item[name]["S"] for name in self.key_names)

    def maybe_stale(self, key: Key) -> Item | None:
        """An eventually consistent read: the item, or what it was a moment ago."""
        changed_at, before = self._before.get(key, (0.0, None))
        stale = self._kernel.now - changed_at < STALE_SECONDS and self._kernel.random.random() < 0.5
        return before if stale else self.items.get(key)

    def write(self, key: Key, new: Item | None) -> None:
        """Put or remove an item, whatever is there."""
        old = self.items.get(key)
        self._before[key] = (self._kernel.now, old)
        if new is None:
            self.items.pop(key, None)
        else:
            self.items[key] = new
        size = item_size(new)
        # One for each begun KB of the larger of the item before and after.
        units = max(1, -(-max(size, self.sizes.get(key, 0)) // 1024))
        self.sizes[key] = size
        if self.index is not None:
            units += self._index(self.index, key, old, new)
        self.write_units[key] = self.write_units.get(key, 0) + units
        for listener in self.on_write:
            listener(key, old, new)

    def _index(self, index: Index, key: Key, old: Item | None, new: Item | None) -> int:
        entry, was = _entry(index, new), _entry(index, old)
        if entry == was:
            return 0
        index.writes[key] = number = index.writes.get(key, 0) + 1

        def reach() -> None:
            if index.writes[key] != number:
                return  # a later change has come with its own message
            if entry is None:
                index.entries.pop(key, None)
            else:
                index.entries[key] = entry

        lag = 0.05
        if self._kernel.fault("index lags"):
            lag = self._kernel.random.uniform(1, 120)
        self._kernel.after(lag, reach)
        # An index entry that moves is a removal and a put.
        return (entry is not None) + (was is not None)


def _entry(index: Index, item: Item | None) -> tuple[str, str] | None:
    if item is None or index.hash_name not in item or index.range_name not in item:
        return None
    return item[index.hash_name]["S"], item[index.range_name]["S"]


class DynamoDB:
    """The client: the methods of boto3's that the tables call."""

    def __init__(self, kernel: Kernel, wire: Wire, tables: list[Table]) -> None:
        self._kernel = kernel
        self._wire = wire
        self._tables = {table.name: table for table in tables}
        self.has_stream = True
        """Whether the tables have their streams: one made by hand may have none."""

    def get_item(
        self,
        *,
        TableName: str,  # noqa: N803
        Key: Item,  # noqa: N803
        ConsistentRead: bool = False,  # noqa: N803
    ) -> dict[str, Any]:
        table = self._tables[TableName]
        key = table.key_of(Key)

        def apply() -> dict[str, Any]:
            item = table.items.get(key) if ConsistentRead else table.maybe_stale(key)
            return {} if item is None else {"Item": item}

        return self._call("get", table, key, apply, writes=False)

    def batch_get_item(self, *, RequestItems: dict[str, Any]) -> dict[str, Any]:  # noqa: N803
        ((name, asked),) = RequestItems.items()
        table = self._tables[name]
        assert 1 <= len(asked["Keys"]) <= 100
        keys = [table.key_of(key) for key in asked["Keys"]]
        assert len(set(keys)) == len(keys), "DynamoDB refuses a key twice"

        consistent = asked.get("ConsistentRead", False)

        def apply() -> dict[str, Any]:
            read = [key for key in keys if not self._kernel.fault("dynamodb leaves keys out")]
            items = [table.items.get(key) if consistent else table.maybe_stale(key) for key in read]
            skipped = [
                wire for key, wire in zip(keys, asked["Keys"], strict=True) if key not in read
            ]
            return {
                "Responses": {name: [item for item in items if item is not None]},
                "UnprocessedKeys": {name: {"Keys": skipped}} if skipped else {},
            }

        return self._call("batch get", table, keys[0], apply, writes=False)

    def put_item(  # noqa: PLR0913 - as boto3's client
        self,
        *,
        TableName: str,  # noqa: N803
        Item: Item,  # noqa: N803
        ConditionExpression: str | None = None,  # noqa: N803
        ExpressionAttributeNames: dict[str, str] | None = None,  # noqa: N803
        ExpressionAttributeValues: Item | None = None,  # noqa: N803
        ReturnValuesOnConditionCheckFailure: str = "NONE",  # noqa: N803
    ) -> dict[str, Any]:
        table = self._tables[TableName]
        key = table.key_of(Item)
        names, values = ExpressionAttributeNames, ExpressionAttributeValues

        def apply() -> dict[str, Any]:
            _check(
                "PutItem",
                table.items.get(key),
                ConditionExpression,
                names,
                values,
                on_failure=ReturnValuesOnConditionCheckFailure,
            )
            table.write(key, Item)
            return {}

        return self._call("put", table, key, apply, writes=True)

    def batch_execute_statement(self, *, Statements: list[Item]) -> dict[str, Any]:  # noqa: N803
        """PartiQL INSERTs of one table. Each succeeds or fails for itself, in any order."""
        assert 1 <= len(Statements) <= 25
        items = [inserted(each["Statement"], each["Parameters"]) for each in Statements]
        (name,) = {name for name, _ in items}
        table = self._tables[name]
        keys = [table.key_of(item) for _, item in items]

        def apply() -> dict[str, Any]:
            if len(set(keys)) < len(keys):
                raise client_error("BatchExecuteStatement", "ValidationException")
            return {
                "Responses": [
                    self._insert(table, key, item)
                    for key, (_, item) in zip(keys, items, strict=True)
                ]
            }

        return self._call("insert", table, keys[0], apply, writes=True)

    def _insert(self, table: Table, key: Key, item: Item) -> dict[str, Any]:
        if self._kernel.fault("dynamodb throttles a statement"):
            return {"Error": {"Code": "ThrottlingError", "Message": ""}}
        if key in table.items:
            return {"Error": {"Code": "DuplicateItem", "Message": ""}, "TableName": table.name}
        table.write(key, item)
        return {"TableName": table.name}

    def update_item(  # noqa: PLR0913 - as boto3's client
        self,
        *,
        TableName: str,  # noqa: N803
        Key: Item,  # noqa: N803
        UpdateExpression: str,  # noqa: N803
        ConditionExpression: str | None = None,  # noqa: N803
        ExpressionAttributeNames: dict[str, str] | None = None,  # noqa: N803
        ExpressionAttributeValues: Item | None = None,  # noqa: N803
        ReturnValuesOnConditionCheckFailure: str = "NONE",  # noqa: N803
        ReturnValues: str = "NONE",  # noqa: N803
    ) -> dict[str, Any]:
        table = self._tables[TableName]
        key = table.key_of(Key)
        names, values = ExpressionAttributeNames, ExpressionAttributeValues

        def apply() -> dict[str, Any]:
            there = table.items.get(key)
            _check(
                "UpdateItem",
                there,
                ConditionExpression,
                names,
                values,
                on_failure=ReturnValuesOnConditionCheckFailure,
                update=UpdateExpression,
            )
            try:
                new = compile_update(UpdateExpression).apply(
                    there or Key, names or {}, values or {}
                )
            except ExpressionError as exc:
                raise client_error("UpdateItem", "ValidationException") from exc
            table.write(key, new)
            if ReturnValues == "NONE":
                return {}
            assert ReturnValues == "UPDATED_NEW"
            updated = updated_names(UpdateExpression, names or {})
            return {"Attributes": {name: new[name] for name in updated}}

        return self._call("update", table, key, apply, writes=True)

    def describe_table(self, *, TableName: str) -> dict[str, Any]:  # noqa: N803
        shown: dict[str, Any] = {"TableName": TableName}
        if self.has_stream:
            shown |= {"StreamSpecification": {"StreamEnabled": True}, "LatestStreamArn": STREAM_ARN}
        table = self._tables[TableName]
        return self._call("describe", table, ("",), lambda: {"Table": shown}, writes=False)

    def query(  # noqa: PLR0913 - as boto3's client
        self,
        *,
        TableName: str,  # noqa: N803
        KeyConditionExpression: str,  # noqa: N803
        ExpressionAttributeValues: Item,  # noqa: N803
        ExpressionAttributeNames: dict[str, str] | None = None,  # noqa: N803
        IndexName: str | None = None,  # noqa: N803
        ConsistentRead: bool = False,  # noqa: N803
        ScanIndexForward: bool = True,  # noqa: N803
        Limit: int = 1000,  # noqa: N803
        ExclusiveStartKey: Item | None = None,  # noqa: N803
    ) -> dict[str, Any]:
        table = self._tables[TableName]
        names = ExpressionAttributeNames or {}
        check_placeholders([KeyConditionExpression], names, ExpressionAttributeValues)
        condition = compile_condition(KeyConditionExpression)

        def apply() -> dict[str, Any]:
            candidates = table.items
            if IndexName:
                candidates = _index_items(table, IndexName, ExpressionAttributeValues)
            found = sorted(
                key
                for key, item in candidates.items()
                if condition(item, names, ExpressionAttributeValues)
            )
            if IndexName:
                assert table.index is not None
                entries = table.index.entries
                found.sort(key=lambda key: entries[key][1])
            if ExclusiveStartKey is not None:
                assert IndexName, "only an index is read page by page"
                assert ScanIndexForward
                assert table.index is not None
                start = (
                    ExclusiveStartKey[table.index.range_name]["S"],
                    table.key_of({name: ExclusiveStartKey[name] for name in table.key_names}),
                )
                found = [key for key in found if (entries[key][1], key) > start]
            if not ScanIndexForward:
                found.reverse()
            return {"Items": [candidates[key] for key in found[:Limit]]}

        read = (IndexName or "", ExpressionAttributeValues.get(":shard", {}).get("S", ""))
        return self._call("query", table, read, apply, writes=False)

    def _call(
        self, operation: str, table: Table, key: Key, apply: Callable[[], Any], *, writes: bool
    ) -> dict[str, Any]:
        answer: dict[str, Any] = self._wire.call(
            "dynamodb", f"{operation} {table.name}", " ".join(key), apply, writes=writes
        )
        return answer


def _index_items(table: Table, name: str, values: Item) -> dict[Key, Item]:
    """The index's items that a query with these values can find: it names its hash key's value."""
    index = table.index
    assert index is not None
    assert index.name == name
    return {
        key: {
            index.hash_name: {"S": entry[0]},
            index.range_name: {"S": entry[1]},
            **{part: {"S": value} for part, value in zip(table.key_names, key, strict=True)},
        }
        for key, entry in index.entries.items()
        if {"S": entry[0]} in values.values()
    }


def _check(  # noqa: PLR0913 - what a condition is checked with
    operation: str,
    there: Item | None,
    condition: str | None,
    names: dict[str, str] | None,
    values: Item | None,
    *,
    on_failure: str,
    update: str = "",
) -> None:
    """Raises what DynamoDB answers to a bad expression or a condition that does not hold."""
    if names == {} or values == {}:  # leave them out instead
        raise client_error(operation, "ValidationException")
    names, values = names or {}, values or {}
    try:
        check_placeholders([each for each in (condition, update) if each], names, values)
        if update:
            check_paths(update, names)
        holds = condition is None or compile_condition(condition)(there or {}, names, values)
    except ExpressionError as exc:
        raise client_error(operation, "ValidationException") from exc
    if not holds:
        item = {"Item": there} if on_failure == "ALL_OLD" and there else {}
        raise client_error(operation, "ConditionalCheckFailedException", **item)
