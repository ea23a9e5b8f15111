"""A DynamoDB and S3 that store nothing: scans return any number of rows, every upload succeeds.

Measures what a backup itself costs in time and memory, so it runs in a process of its own. Moto
would hold every row and upload in memory; the simulator's DynamoDB has no HTTP interface.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.support.backup_parts import ledger_row, refund

from refunds.domain.audit_entry import audit_entry
from refunds.tables.wire import item_to_wire

PAGE_BYTES = 1024 * 1024


class Canned(ThreadingHTTPServer):
    """``rows`` rows in each of the tables refunds and audit; one in ledger."""

    daemon_threads = True

    def __init__(self, rows: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.rows = rows
        self.objects: dict[str, bytes] = {}
        refunds = [refund(number) for number in range(2000)]
        entries = [audit_entry(each.item()) | {"recorded_at": each.updated_at} for each in refunds]
        self.pages = {
            "refunds": _page([item_to_wire(each.item()) for each in refunds]),
            "audit": _page([item_to_wire(each) for each in entries]),
            "ledger": _page([item_to_wire(ledger_row(refunds[:1]))]),
        }

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


def _page(items: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], bytes]:
    """As many of the items as make a megabyte, and their JSON."""
    size, taken = 0, []
    for item in items:
        size += len(json.dumps(item))
        if size > PAGE_BYTES:
            break
        taken.append(item)
    return taken, json.dumps(taken, separators=(",", ":")).encode()


@contextmanager
def serving(rows: int) -> Iterator[Canned]:
    server = Canned(rows)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Canned

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def _answer(self, body: bytes = b"", status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _body(self) -> tuple[str, bytes]:
        """ETag and, of small ones, the bytes; chunked uploads are unpacked."""
        left, size, md5, kept = int(self.headers.get("Content-Length", 0)), 0, hashlib.md5(), b""
        chunked = "aws-chunked" in self.headers.get("Content-Encoding", "")
        while left > 0 and (chunk := self.rfile.read(min(left, 256 * 1024))):
            left -= len(chunk)
            size += len(chunk)
            md5.update(chunk)
            kept = kept + chunk if size < 200_000 else b""
        return f'"{md5.hexdigest()}"', _unchunked(kept) if chunked else kept

    def do_PUT(self) -> None:
        etag, content = self._body()
        self.server.objects[urlsplit(self.path).path] = content
        self._answer(ETag=etag)

    def do_GET(self) -> None:
        path, query = urlsplit(self.path).path, parse_qs(urlsplit(self.path).query)
        if "list-type" in query:
            self._answer(b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>")
        else:
            self._answer(self.server.objects[path])

    def do_POST(self) -> None:
        target = self.headers["X-Amz-Target"]
        length = int(self.headers["Content-Length"])
        self._dynamodb(target.partition(".")[2], json.loads(self.rfile.read(length)))

    def _dynamodb(self, operation: str, asked: dict[str, Any]) -> None:
        table = asked["TableName"]
        items, page = self.server.pages[table]
        rows = 1 if table == "ledger" else self.server.rows
        if operation == "DescribeTable":
            told = {
                "TableArn": f"arn:aws:dynamodb:eu-central-1:111122223333:table/{table}",
                "ItemCount": rows,
                "TableSizeBytes": rows * 600,
            }
            self._answer(json.dumps({"Table": told}).encode())
            return
        segments = asked.get("TotalSegments", 1)
        mine = rows // segments
        start = int(asked.get("ExclusiveStartKey", {}).get("at", {}).get("N", "0"))
        count = min(len(items), mine - start)
        if count < len(items):
            page = json.dumps(items[:count], separators=(",", ":")).encode()
        last = b""
        if start + count < mine:
            last = b',"LastEvaluatedKey":{"at":{"N":"%d"}}' % (start + count)
        units = b',"ConsumedCapacity":{"CapacityUnits":256.0}'
        self._answer(b'{"Count":%d,"Items":%s%s%s}' % (count, page, last, units))


def _unchunked(content: bytes) -> bytes:
    """The body in AWS's chunked form, without sizes and trailers."""
    found = b""
    while content:
        size, _, rest = content.partition(b"\r\n")
        length = int(size.partition(b";")[0] or b"0", 16)
        if not length:
            break
        found, content = found + rest[:length], rest[length + 2 :]
    return found
