"""Does chosen steps of a backup, so that their cost can be measured: benchmarks/backup_steps.py."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import zlib
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

from refunds.backup.digest import audit_leaves
from refunds.backup.merkle import leaf_hash, node_hash
from refunds.backup.table_scan import PageReader, ReadLimit, Source
from refunds.lambda_runtime import lambda_clients
from refunds.wiring.backup_refunds import PATIENT_CLIENT_CONFIG

Pages = Iterator[tuple[bytes, int]]
"""Each page, and its number of rows."""

_HASH = bytes(32)


def _over_http(table: str, segment: int, segments: int) -> Pages:
    connection = http.client.HTTPConnection(urlsplit(os.environ["AWS_ENDPOINT_URL"]).netloc)
    request: dict[str, Any] = {"TableName": table, "ConsistentRead": True}
    request |= {"Segment": segment, "TotalSegments": segments}
    headers = {"X-Amz-Target": "DynamoDB_20120810.Scan"}
    while True:
        connection.request("POST", "/", json.dumps(request).encode(), headers)
        page = connection.getresponse().read()
        rest = json.loads(_without_items(page))
        yield page, rest["Count"]
        if (last := rest.get("LastEvaluatedKey")) is None:
            connection.close()
            return
        request["ExclusiveStartKey"] = last


def _without_items(page: bytes) -> bytes:
    return page[: page.index(b'"Items":[') + len('"Items":[')] + page[page.rindex(b"]") :]


def _through_botocore(client: Any, table: str, segment: int, segments: int) -> Pages:
    request = {"TableName": table, "ConsistentRead": True, "ReturnConsumedCapacity": "TOTAL"}
    request |= {"Segment": segment, "TotalSegments": segments}
    while True:
        answer = client.scan(**request)
        yield answer["Page"], answer["Count"]
        if (last := answer.get("LastEvaluatedKey")) is None:
            return
        request["ExclusiveStartKey"] = last


def _keep_page(
    response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: Any
) -> None:
    customized_response_dict["Page"] = response_dict["body"]
    response_dict["body"] = _without_items(response_dict["body"])


def _cut(reader: PageReader, table: str, segment: int, segments: int) -> Pages:
    last = None
    while True:
        page = reader.read(Source(table, table), segment, segments, last)
        yield page.lines, page.count
        if (last := page.last_key) is None:
            return


def _do(steps: Collection[str], pages: Pages) -> tuple[int, int]:
    """Do the steps that follow reading. Returns the numbers of pages and rows."""
    compress = zlib.compressobj(level=1, wbits=31)
    md5, sha256 = hashlib.md5(), hashlib.sha256()
    pages_read = rows_read = 0
    for page, count in pages:
        packed = compress.compress(page) if "gzip" in steps else b""
        if "hashes" in steps:
            md5.update(packed)
            sha256.update(packed)
        if "merkle" in steps:
            for _ in range(count):
                leaf_hash(_HASH)
                node_hash(_HASH, _HASH)
        if "leaves" in steps:
            audit_leaves(page, count)
        pages_read += 1
        rows_read += count
    return pages_read, rows_read


def _client() -> Any:
    return lambda_clients("dynamodb", config=PATIENT_CLIENT_CONFIG).dynamodb


_keeps_pages, _cuts_pages = _client(), _client()
_keeps_pages.meta.events.register("before-parse.dynamodb.Scan", _keep_page)
_reader = PageReader(_cuts_pages, ReadLimit(0))


def handler(event: dict[str, Any], context: Any) -> dict[str, int]:
    """Do ``steps`` with ``table``, in as many ``segments`` as a backup would."""
    table, steps, segments = event["table"], event["steps"], event["segments"]

    def read(segment: int) -> tuple[int, int]:
        if "cut" in steps:
            return _do(steps, _cut(_reader, table, segment, segments))
        if "botocore" in steps:
            return _do(steps, _through_botocore(_keeps_pages, table, segment, segments))
        return _do(steps, _over_http(table, segment, segments))

    with ThreadPoolExecutor(segments) as pool:
        done = list(pool.map(read, range(segments)))
    return {"pages": sum(pages for pages, _ in done), "rows": sum(rows for _, rows in done)}
