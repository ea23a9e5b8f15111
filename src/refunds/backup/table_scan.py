"""Reads a table in parallel segments without parsing its items.

DynamoDB's response already has the format of a backup. Parsing it and serializing it again is most
of the cost of a scan, so the items are cut out of the response before botocore parses it.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from refunds.domain.identifiers import RECORD_TYPE

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

    from refunds.tables.wire import Wire

UNIT_BYTES = 4096
"""One read unit pays for this much of a consistent read."""

MAX_WAIT_SECONDS = 20.0
"""The longest wait for the read limit: a run needs time to store what it has read, and to continue
in another invocation."""


@dataclass(frozen=True)
class Source:
    """A table to back up; ``filter_`` is a Scan's filter expression and its values."""

    name: str
    table: str
    filter_: str | None = None
    values: Mapping[str, Any] | None = None


def sources(refunds_table: str, ledger_table: str, audit_table: str) -> tuple[Source, ...]:
    """Refunds, ledger, then audit, so that no entry is older than the refund that it is about."""
    return (
        Source("refunds", refunds_table),
        # Ids with '#' are state of the functions, not transactions.
        Source(
            "ledger",
            ledger_table,
            "NOT begins_with(transaction_id, :note)",
            {":note": {"S": "#"}},
        ),
        # The payment side shares this table.
        Source("audit", audit_table, "record_type = :refund", {":refund": {"S": RECORD_TYPE}}),
    )


class ReadLimit:
    """Limits the read units per second of all segments together. 0 sets no limit.

    No segment waits longer than ``MAX_WAIT_SECONDS``, so pages of 256 units in four segments read
    at least about fifty units per second.
    """

    def __init__(
        self,
        units_per_second: int,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._units_per_second = units_per_second
        self._monotonic = monotonic
        self._sleep = sleep
        self._lock = threading.Lock()
        self._paid_until = 0.0

    def spend(self, units: float) -> None:
        """Wait until the units that were read before are within the limit, then count ``units`` as
        read."""
        if not self._units_per_second:
            return
        with self._lock:
            now = self._monotonic()
            start = min(max(now, self._paid_until), now + MAX_WAIT_SECONDS)
            self._paid_until = start + units / self._units_per_second
        if start > now:
            self._sleep(start - now)


@dataclass(frozen=True)
class Page:
    """Items as data lines, ``{"Item":{…}}`` and a newline each; ``last_key`` None at the end."""

    lines: bytes
    count: int
    last_key: Wire | None


class PageReader:
    """Scans with its own client, because this client's Scan responses have no items."""

    def __init__(self, client: DynamoDBClient, limit: ReadLimit) -> None:
        self._client = client
        self._limit = limit
        client.meta.events.register(
            "before-parse.dynamodb.Scan", _take_items, unique_id="refunds-take-items"
        )

    def read(self, source: Source, segment: int, segments: int, start: Wire | None) -> Page:
        """One consistently read page, of at most 1 MB before its filter."""
        arguments: dict[str, Any] = {
            "TableName": source.table,
            "ConsistentRead": True,
            "ReturnConsumedCapacity": "TOTAL",
        }
        if segments > 1:
            arguments |= {"Segment": segment, "TotalSegments": segments}
        if source.filter_:
            arguments |= {
                "FilterExpression": source.filter_,
                "ExpressionAttributeValues": source.values,
            }
        if start is not None:
            arguments["ExclusiveStartKey"] = start
        answer: Any = self._client.scan(**arguments)
        lines, count = answer["DataLines"]
        consumed = answer.get("ConsumedCapacity", {}).get("CapacityUnits")
        self._limit.spend(len(lines) / UNIT_BYTES if consumed is None else consumed)
        return Page(lines, count, answer.get("LastEvaluatedKey"))


def _take_items(
    response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: Any
) -> None:
    """Handles botocore's event before parsing: takes the items out of the response body."""
    if response_dict["status_code"] >= HTTPStatus.MULTIPLE_CHOICES:
        return
    body = response_dict["body"]
    rest, lines, count = _cut(body) or _parse(body)
    response_dict["body"] = rest
    customized_response_dict["DataLines"] = (lines, count)


_START, _END, _BETWEEN = b'"Items":[{', b"}}]", b'}},{"'
_FIRST_ATTRIBUTE = re.compile(rb'\{"\w+":\{"[SN]":"')


def _cut(body: bytes) -> tuple[bytes, bytes, int] | None:
    """The response without its items, and the items as lines; None when the response must be parsed
    to find them.

    Items usually begin with the same attribute, and a longer text is found twice as fast. A
    ``{"transaction_id":{"S":"`` is no part of a string, where quotes are escaped, so it begins an
    item or a map inside of one. Such a map follows ``"M":``. So ``}},{"transaction_id":{"S":"`` is
    always between two items.
    """
    start = body.find(_START) + len(_START) - 1
    first = _FIRST_ATTRIBUTE.match(body, start) if start >= len(_START) else None
    found = _cut_between(body, b"}}," + first[0]) if first else None
    return found or _cut_between(body, _BETWEEN)


def _cut_between(body: bytes, between: bytes) -> tuple[bytes, bytes, int] | None:
    """None when the response has other than one ``between`` between any two items.

    In compact JSON there is a ``}},{"`` between any two items, and perhaps another one inside of an
    item. If their number is the number of items less one, none is inside of an item. The end of the
    items is right if the remaining text is JSON: a wrong end would be inside a string.
    """
    items = body.split(between)
    start = items[0].find(_START) + len(_START) - 1
    end = items[-1].rfind(_END) + len(_END) - 1
    if start < len(_START) - 1 or end < len(_END) - 1 or (len(items) == 1 and end <= start):
        return None
    rest = items[0][:start] + items[-1][end:]
    try:
        count = json.loads(rest)["Count"]
    except (ValueError, KeyError, TypeError):
        return None
    if len(items) != count:
        return None
    # The whole page is copied only once, because copying took longer than anything else here.
    items[-1] = items[-1][:end] + b"}\n"
    items[0] = b'{"Item":' + items[0][start:]
    return rest, _one_line_each((b'}}}\n{"Item":' + between[3:]).join(items)), count


def _one_line_each(lines: bytes) -> bytes:
    # A JSON string may contain Unicode's other line breaks unescaped. Readers that split lines as
    # Unicode does would split the item there. Most pages lack even the first bytes of these line
    # breaks, and a single byte is found fastest.
    if any(byte in lines for byte in _LINE_BREAKS_BEGIN):
        for line_break, escaped in _LINE_BREAKS:
            lines = lines.replace(line_break, escaped)
    return lines


_LINE_BREAKS = tuple(
    (mark.encode(), f"\\u{ord(mark):04x}".encode()) for mark in ("\x85", "\u2028", "\u2029")
)
_LINE_BREAKS_BEGIN = {line_break[:1] for line_break, _ in _LINE_BREAKS}


def _parse(body: bytes) -> tuple[bytes, bytes, int]:
    answer = json.loads(body)
    items = answer.pop("Items")
    lines = "".join(f'{{"Item":{json.dumps(item, separators=(",", ":"))}}}\n' for item in items)
    return json.dumps(answer).encode(), lines.encode(), len(items)
