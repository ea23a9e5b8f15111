"""Many rows of every attribute type, and how long things take with them."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

import urllib3
from tests.support.backup_parts import refund

from refunds.domain.audit_entry import audit_entry
from refunds.tables.wire import item_to_wire

BATCH = 25

Wire = dict[str, Any]


class Timed:
    """What each step took, printed at the end: docs/backup.md has the figures."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, int, float]] = []
        self._began = time.monotonic()

    def step(self, what: str, rows: int) -> None:
        now = time.monotonic()
        self.steps.append((what, rows, now - self._began))
        self._began = now

    def show(self) -> str:
        return "\n".join(
            f"{what:<28}{rows:>10,} rows {seconds:>8.1f} s {rows / max(seconds, 0.01):>9,.0f}/s"
            for what, rows, seconds in self.steps
        )


def every_type(number: int) -> Wire:
    """A row with every attribute type, and text that careless readers of JSON stumble over."""
    return {
        "refund_id": {"S": f"rf-{number:07d}"},
        "version": {"N": "1"},
        "text": {"S": f'}}}},{{"{number}\u2028\u0085é😀\\"\n'},
        "empty": {"S": ""},
        "number": {"N": str(-number)},
        "fraction": {"N": f"{number}.14159265358979323846"},
        "bytes": {"B": base64_of(number.to_bytes(8) + b"\xff")},
        "yes": {"BOOL": number % 2 == 0},
        "nothing": {"NULL": True},
        "list": {"L": [{"M": {"a": {"S": "x"}}}, {"M": {"b": {"N": str(number)}}}, {"L": []}]},
        "map": {"M": {"deep": {"M": {"bytes": {"B": "AA=="}}}}},
        "texts": {"SS": ["b", f"a{number}"]},
        "numbers": {"NS": ["1", str(number + 2)]},
        "binaries": {"BS": ["AQ==", base64_of(number.to_bytes(8, "little"))]},
    }


def entry(number: int) -> Wire:
    made = audit_entry(refund(number).item())
    return item_to_wire(made | {"recorded_at": refund(number).updated_at})


def base64_of(content: bytes) -> str:
    return base64.b64encode(content).decode()


def fill(url: str, table: str, make: Callable[[int], Wire], rows: int) -> None:
    """Write rows that ``make`` makes of their numbers."""
    load(url, table, (make(number) for number in range(rows)))


def load(url: str, table: str, items: Iterable[Wire]) -> None:
    """Write items in wire form as they are, past botocore, which would take most of the time."""
    http = urllib3.PoolManager(maxsize=4, timeout=600)
    headers = {
        "X-Amz-Target": "DynamoDB_20120810.BatchWriteItem",
        "Content-Type": "application/x-amz-json-1.0",
        # The engines look at its form only.
        "Authorization": "AWS4-HMAC-SHA256 Credential=test/20260101/eu-central-1/dynamodb/"
        "aws4_request, SignedHeaders=host, Signature=0",
        "X-Amz-Date": "20260101T000000Z",
    }

    def put(chunk: list[Wire]) -> None:
        puts = [{"PutRequest": {"Item": item}} for item in chunk]
        body = json.dumps({"RequestItems": {table: puts}}).encode()
        answer = http.request("POST", url, body=body, headers=headers)
        assert answer.status == 200, answer.data
        assert not answer.json().get("UnprocessedItems")

    left = iter(items)
    with ThreadPoolExecutor(4) as pool:
        # Some at a time: the pool would take them all at once into memory.
        while chunks := [chunk for _ in range(100) if (chunk := list(islice(left, BATCH)))]:
            list(pool.map(put, chunks))
