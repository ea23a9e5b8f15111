"""The limit of any backup here: reads pages and compresses them as ours, and does nothing else."""

from __future__ import annotations

import http.client
import json
import os
import re
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

from refunds.backup.run import ONE_SEGMENT_ITEMS, SEGMENTS

_LAST_KEY = re.compile(rb'"LastEvaluatedKey":({.*})}$')
_COUNT = re.compile(rb'"Count":(\d+)')


def _read(table: str, segment: int, segments: int) -> int:
    connection = http.client.HTTPConnection(urlsplit(os.environ["AWS_ENDPOINT_URL"]).netloc)
    compress = zlib.compressobj(level=1, wbits=31)
    request: dict[str, Any] = {"TableName": table, "ConsistentRead": True}
    request |= {"Segment": segment, "TotalSegments": segments}
    rows = 0
    while True:
        headers = {"X-Amz-Target": "DynamoDB_20120810.Scan"}
        connection.request("POST", "/", json.dumps(request).encode(), headers)
        page = connection.getresponse().read()
        compress.compress(page)
        count = _COUNT.search(page[:100])
        assert count is not None
        rows += int(count[1])
        last = _LAST_KEY.search(page[-300:])
        if last is None:
            compress.flush()
            connection.close()
            return rows
        request["ExclusiveStartKey"] = json.loads(last[1])


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Read the table of ``{"table": …}`` in as many segments as ours."""
    connection = http.client.HTTPConnection(urlsplit(os.environ["AWS_ENDPOINT_URL"]).netloc)
    body = json.dumps({"TableName": event["table"]}).encode()
    connection.request("POST", "/", body, {"X-Amz-Target": "DynamoDB_20120810.DescribeTable"})
    rows = json.loads(connection.getresponse().read())["Table"]["ItemCount"]
    connection.close()
    segments = SEGMENTS if rows > ONE_SEGMENT_ITEMS else 1
    with ThreadPoolExecutor(segments) as pool:
        read = pool.map(lambda segment: _read(event["table"], segment, segments), range(segments))
        return {"rows": sum(read)}
