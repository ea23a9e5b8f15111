"""The canned DynamoDB: applies every write and counts its capacity units.

Benchmarks need answers over HTTP in microseconds: moto takes milliseconds for each, and the
simulator's DynamoDB, which has crashes and a lagging index, is called in the same process.

Units follow AWS's "Read and write consumption". A write costs its larger image, old or new, rounded
up to whole KB. An index entry that is added, removed or changed is a separate write.
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/read-write-operations.html
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

Item = dict[str, Any]
"""An item in wire form: ``{"refund_id": {"S": "r-1"}, …}``."""

OPTIONAL_INDEXES = "indexes by user and by day"
"""The name of their units: a stack can do without them (UserIndex, DayIndex)."""

KEYS: Mapping[str, tuple[str, ...]] = {
    "Refunds": ("refund_id",),
    "Ledger": ("transaction_id",),
    "PaymentAuditTrail": ("transaction_id", "entry_id"),
    "Idempotency": ("id",),
    "PlainRefunds": ("refund_id",),
    "PlainAudit": ("transaction_id", "entry_id"),
}
INDEXES: Mapping[str, Mapping[str, tuple[tuple[str, ...], ...]]] = {
    "Refunds": {
        "Refunds indexes": (("open_shard", "check_at"),),
        OPTIONAL_INDEXES: (("user_id", "created_at"), ("day_shard", "created_at")),
    }
}
"""The key of each index, by the name under which its units are counted. All project keys only."""

LONG_IN_USE: Mapping[tuple[str, ...], Item] = {
    ("Ledger", "#look-up-first"): {
        "transaction_id": {"S": "#look-up-first"},
        "look_up_first_until": {"S": "2000-01-01T00:00:00.000000Z"},
    }
}
"""What a stack has that is older than 28 days. Without this item, every claim first looks up its
refund at the gateway."""

PAGE_BYTES = 1024 * 1024
"""The size at which DynamoDB ends a page."""


def attribute_bytes(value: Mapping[str, Any]) -> int:
    """A value's size as DynamoDB counts it."""
    ((kind, content),) = value.items()
    match kind:
        case "S":
            return len(str(content).encode())
        case "N":
            digits = str(content).lstrip("-").replace(".", "").strip("0")
            return math.ceil(len(digits) / 2) + 1 + str(content).startswith("-")
        case "BOOL" | "NULL":
            return 1
        case "L":
            return 3 + sum(1 + attribute_bytes(each) for each in content)
        case "M":
            return 3 + sum(
                1 + len(name.encode()) + attribute_bytes(each) for name, each in content.items()
            )
    raise ValueError(f"no size known for {kind}")


def item_bytes(item: Item) -> int:
    """An item's size as DynamoDB counts it, attribute names included."""
    return sum(len(name.encode()) + attribute_bytes(value) for name, value in item.items())


def write_units(table: str, before: Item | None, after: Item | None) -> dict[str, int]:
    """The units to replace one image with another: for the table, and for its indexes."""
    units = {table: math.ceil(max(item_bytes(before or {}), item_bytes(after or {}), 1) / 1024)}
    for name, keys in INDEXES.get(table, {}).items():
        for key in keys:
            entries = [_index_entry(table, key, image or {}) for image in (before, after)]
            if entries[0] != entries[1]:
                # A changed key deletes one entry and puts another.
                cost = sum(math.ceil(item_bytes(entry) / 1024) for entry in entries if entry)
                units[name] = units.get(name, 0) + cost
    return units


def _index_entry(table: str, key: tuple[str, ...], image: Item) -> Item:
    if not all(name in image for name in key):
        return {}
    return {name: image[name] for name in (*KEYS[table], *key)}


def updated(item: Item, request: Mapping[str, Any]) -> Item:
    """The item after an UpdateItem: ``SET`` with one ``+`` or ``-``, and ``REMOVE``."""
    names = request.get("ExpressionAttributeNames", {})
    values = request.get("ExpressionAttributeValues", {})
    new = dict(item)

    def operand(text: str) -> Any:
        text = text.strip()
        return values[text] if text.startswith(":") else item[names.get(text, text)]

    sections = re.split(r"\b(SET|REMOVE)\b", request["UpdateExpression"])
    for clause, body in zip(sections[1::2], sections[2::2], strict=True):
        for part in body.split(","):
            if clause == "REMOVE":
                new.pop(names.get(part.strip(), part.strip()), None)
                continue
            path, _, expression = part.partition("=")
            first, *calculation = re.split(r"\s([+-])\s", expression)
            value = operand(first)
            if calculation:
                operator, second = calculation
                sign = 1 if operator == "+" else -1
                value = {"N": str(int(value["N"]) + sign * int(operand(second)["N"]))}
            new[names.get(path.strip(), path.strip())] = value
    return new


@dataclass
class Tables:
    """``rows``: the number of canned rows that a Scan of each table returns."""

    rows: dict[str, int] = field(default_factory=dict)
    stream_of: str | None = None
    """The table whose changes become stream records."""
    items: dict[tuple[str, ...], Item] = field(default_factory=lambda: dict(LONG_IN_USE))
    stream: list[dict[str, Any]] = field(default_factory=list)
    units: dict[str, int] = field(default_factory=dict)
    read_units: float = 0.0
    largest: dict[str, int] = field(default_factory=dict)

    def counts(self) -> dict[str, Any]:
        return {
            "write_units": self.units,
            "read_units": self.read_units,
            "largest_item_bytes": self.largest,
        }

    def answer(self, operation: str, body: bytes) -> bytes:
        request = json.loads(body)
        match operation:
            case "Scan":
                return scan_page(request, self.rows.get(request["TableName"], 0))
            case "PutItem":
                self._write(request["TableName"], request["Item"], lambda _: request["Item"])
            case "UpdateItem":
                key = request["Key"]
                self._write(request["TableName"], key, lambda old: updated(old or key, request))
        answers: dict[str, Callable[[Item], Item]] = {
            "GetItem": self._get,
            "BatchGetItem": self._get_many,
            "BatchExecuteStatement": self._insert,
            "Query": lambda request: {"Items": [], "Count": 0, "ScannedCount": 0},
            "DescribeTable": self._describe,
        }
        respond = answers.get(operation)
        answer = respond(request) if respond else {}
        return json.dumps(answer, separators=(",", ":")).encode()

    def _get(self, request: Item) -> Item:
        consistent = request.get("ConsistentRead", False)
        item = self._read(request["TableName"], request["Key"], consistent=consistent)
        return {"Item": item} if item else {}

    def _get_many(self, request: Item) -> Item:
        responses = {
            table: [
                item
                for key in keys["Keys"]
                if (item := self._read(table, key, consistent=keys.get("ConsistentRead", False)))
            ]
            for table, keys in request["RequestItems"].items()
        }
        return {"Responses": responses, "UnprocessedKeys": {}}

    def _read(self, table: str, key: Item, *, consistent: bool) -> Item | None:
        item = self.items.get(_place(table, key))
        units = math.ceil(max(item_bytes(item or {}), 1) / 4096)
        self.read_units += units if consistent else units / 2
        return item

    def _insert(self, request: Item) -> Item:
        """PartiQL: INSERT INTO "Table" VALUE {'name': ?, …}; every key is free."""
        for each in request["Statements"]:
            table = each["Statement"].split('"')[1]
            names = each["Statement"].split("'")[1::2]
            item = dict(zip(names, each["Parameters"], strict=True))
            self._write(table, item, lambda _, item=item: item)
        return {"Responses": [{} for _ in request["Statements"]]}

    def _write(self, table: str, key: Item, change: Any) -> None:
        place = _place(table, key)
        before = self.items.get(place)
        after = change(before)
        self.items[place] = after
        for name, units in write_units(table, before, after).items():
            self.units[name] = self.units.get(name, 0) + units
        self.largest[table] = max(self.largest.get(table, 0), item_bytes(after))
        if table == self.stream_of:
            self.stream.append(stream_record(len(self.stream), before, after))

    def _describe(self, request: Item) -> Item:
        table = request["TableName"]
        described = {
            "TableName": table,
            "TableArn": f"arn:aws:dynamodb:us-east-1:123456789012:table/{table}",
            "TableId": "00000000-0000-0000-0000-000000000000",
            "TableStatus": "ACTIVE",
            "ItemCount": self.rows.get(table, 0),
            "TableSizeBytes": 0,
            "KeySchema": [
                {"AttributeName": name, "KeyType": kind}
                for name, kind in zip(KEYS[table], ("HASH", "RANGE"), strict=False)
            ],
            "AttributeDefinitions": [
                {"AttributeName": name, "AttributeType": "S"} for name in KEYS[table]
            ],
            "ProvisionedThroughput": {"ReadCapacityUnits": 0, "WriteCapacityUnits": 0},
            "BillingModeSummary": {"BillingMode": "PAY_PER_REQUEST"},
        }
        return {"Table": described}


def _place(table: str, key: Mapping[str, Any]) -> tuple[str, ...]:
    return (table, *(key[name]["S"] for name in KEYS[table]))


def stream_record(number: int, before: Item | None, after: Item) -> dict[str, Any]:
    """A stream record with both images, as Lambda receives it."""
    change: dict[str, Any] = {
        "ApproximateCreationDateTime": 1_790_000_000,
        "Keys": {name: after[name] for name in KEYS["Refunds"]},
        "NewImage": after,
        "SequenceNumber": f"{number:021d}",
        "SizeBytes": item_bytes(after),
        "StreamViewType": "NEW_AND_OLD_IMAGES",
    }
    if before is not None:
        change["OldImage"] = before
    return {
        "eventID": f"{number:032x}",
        "eventName": "INSERT" if before is None else "MODIFY",
        "eventVersion": "1.1",
        "eventSource": "aws:dynamodb",
        "awsRegion": "us-east-1",
        "dynamodb": change,
        "eventSourceARN": "arn:aws:dynamodb:us-east-1:123456789012:table/Refunds/stream/x",
    }


# --- Scans ----------------------------------------------------------------------------------------


def scan_page(request: Mapping[str, Any], rows: int) -> bytes:
    """One page of a scan over ``rows`` canned rows, divided among its segments."""
    segments, segment = request.get("TotalSegments", 1), request.get("Segment", 0)
    mine = rows // segments + (segment < rows % segments)
    start = int(request.get("ExclusiveStartKey", {}).get(KEYS[request["TableName"]][0], _ZERO)["S"])
    per_page, items = _page(request["TableName"])
    count = min(per_page, mine - start)
    if count < per_page:
        items = _items(request["TableName"], max(count, 0))
    last = b""
    if start + count < mine:
        key = {name: {"S": str(start + count)} for name in KEYS[request["TableName"]]}
        last = b',"LastEvaluatedKey":' + json.dumps(key, separators=(",", ":")).encode()
    head = f'{{"Count":{count},"ScannedCount":{count},"Items":['.encode()
    return head + items + b"]" + last + b"}"


def pages_of(table: str, rows: int) -> int:
    """The number of pages of a scan in one segment."""
    return math.ceil(rows / _page(table)[0])


_ZERO = {"S": "0"}


@cache
def _page(table: str) -> tuple[int, bytes]:
    """The number of rows that fill a page, and those rows."""
    # Computed with the largest row, so that no page exceeds its limit.
    per_page = PAGE_BYTES // item_bytes(row(table, 99_999))
    return per_page, _items(table, per_page)


@cache
def _items(table: str, count: int) -> bytes:
    return ",".join(
        json.dumps(row(table, number), separators=(",", ":")) for number in range(count)
    ).encode()


def row(table: str, number: int) -> Item:
    """A usual refund, ledger item or audit entry. All differ, so compression has work to do."""
    noise = f"{(number * 2_654_435_761) % 2**32:08x}{(number * 40_503) % 2**32:08x}"
    refund_id, transaction_id = f"rf_{noise}", f"pay_{noise[::-1]}"
    day, microsecond = number % 28 + 1, number % 10**6
    at = f"2026-11-{day:02d}T{number % 24:02d}:{number % 60:02d}:07.{microsecond:06d}Z"
    sha = (noise * 4)[:64]
    if table == "Ledger":
        return {
            "transaction_id": {"S": transaction_id},
            "captured": {"N": "10000"},
            "remaining": {"N": "7500"},
            "currency": {"S": "USD"},
            f"r#{refund_id}": {"N": "2500"},
        }
    if table == "PaymentAuditTrail":
        return {
            "transaction_id": {"S": transaction_id},
            "entry_id": {"S": f"REFUND#{refund_id}#000002"},
            "record_type": {"S": "REFUND"},
            "refund_id": {"S": refund_id},
            "version": {"N": "2"},
            "user_id": {"S": f"user-{noise[:6]}"},
            "event": {"S": "refund.succeeded"},
            "previous_status": {"S": "PROCESSING"},
            "status": {"S": "SUCCEEDED"},
            "outcome": {"S": "Refund Successful"},
            "processed_by": {"S": "refunds-prod-ProcessRefund:7"},
            "requested_by": {"S": "agent:anna"},
            "occurred_at": {"S": at},
            "recorded_at": {"S": at},
            "details": {
                "M": {
                    "amount_minor": {"N": str(number % 100_000)},
                    "currency": {"S": "USD"},
                    "reason": {"S": "requested_by_customer"},
                    "gateway": {"S": "flair"},
                    "gateway_refund_id": {"S": f"re_{sha[:24]}"},
                    "created_at": {"S": at},
                    "changed_fields": {"L": [{"S": "status"}, {"S": "gateway_refund_id"}]},
                }
            },
            "previous_hash": {"S": sha},
            "entry_hash": {"S": sha[::-1]},
        }
    return {
        "refund_id": {"S": refund_id},
        "transaction_id": {"S": transaction_id},
        "user_id": {"S": f"user-{noise[:6]}"},
        "amount_minor": {"N": str(number % 100_000)},
        "currency": {"S": "USD"},
        "status": {"S": "SUCCEEDED"},
        "reason": {"S": "requested_by_customer"},
        "requested_by": {"S": "agent:anna"},
        "processed_by": {"S": "refunds-prod-ProcessRefund:7"},
        "gateway": {"S": "flair"},
        "gateway_refund_id": {"S": f"re_{sha[:24]}"},
        "created_at": {"S": at},
        "updated_at": {"S": at},
        "version": {"N": "2"},
        "previous_status": {"S": "PROCESSING"},
        "changed_fields": {"L": [{"S": "status"}, {"S": "gateway_refund_id"}]},
        "previous_hash": {"S": sha},
        "fingerprint": {"S": f"1:{sha}"},
        "attempt_token": {"S": noise},
    }
