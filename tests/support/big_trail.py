"""How much memory and time `refunds verify` takes for a trail of many entries.

    PYTHONPATH=src:ops:. python -m tests.support.big_trail 1000000

Scan is answered as DynamoDB does, in place of sending it: pages of up to 1 MB, in an order that has
nothing to do with ids. What reads them is boto3 and all of `verify`. The time includes making them.
"""

from __future__ import annotations

import io
import json
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any

import boto3
from benchmarks.memory import peak_mib
from botocore.awsrequest import AWSResponse, HeadersDict

from refunds.backup.table_scan import PageReader, ReadLimit
from refunds.domain.audit_entry import audit_entry
from refunds.domain.clock import SystemClock
from refunds.domain.refund import Refund, Status, change_status
from refunds.tables.wire import item_to_wire
from refunds_ops.audit.tables import Tables
from refunds_ops.audit.verify import Report, Verification

PAGE_ITEMS = {"Refunds": 900, "Ledger": 2000, "Audit": 350}
"""About as many as 1 MB has of each."""

_PRIME = 2_147_483_647


def versions(number: int) -> list[Refund]:
    """A refund of which two versions, and so two entries, are stored."""
    at = f"2026-11-23T07:10:00.{number % 1_000_000:06d}Z"
    first = Refund(
        refund_id=f"refund-{number:07d}",
        transaction_id=f"payment-{number:07d}",
        user_id=f"user-{number}",
        amount_minor=2500,
        currency="USD",
        status=Status.PROCESSING,
        reason="requested_by_customer",
        requested_by="agent:anna",
        processed_by="refunds-ProcessRefund-Q1W2E3R4T5Z6:7",
        gateway="flair",
        created_at=at,
        updated_at=at,
        version=1,
        fingerprint="1:" + "0" * 64,
    )
    second = change_status(
        first,
        Status.SUCCEEDED,
        at=at,
        by=first.processed_by,
        previous_hash=audit_entry(first.item())["entry_hash"],
        gateway_refund_id=f"fr_{number:010d}",
    )
    return [first, second]


def items(table: str, place: int, refunds: int) -> Iterator[dict[str, Any]]:
    """The items at one place of a table whose order is not that of the ids."""
    number = place * _PRIME % refunds
    if table == "Ledger":
        yield {
            "transaction_id": f"payment-{number:07d}",
            "captured": 10_000,
            "remaining": 7_500,
            "currency": "USD",
            f"r#refund-{number:07d}": 2_500,
        }
    elif table == "Refunds":
        yield versions(number)[-1].item()
    else:
        for each in versions(number):
            yield audit_entry(each.item()) | {"recorded_at": each.updated_at}


def answers(refunds: int) -> Any:
    """What DynamoDB would answer, given to boto3 in place of sending a request."""

    def answer(request: Any, **_: Any) -> AWSResponse:
        body = json.loads(request.body)
        operation = request.headers["X-Amz-Target"].decode().partition(".")[2]
        content = json.dumps(told(operation, body), separators=(",", ":")).encode()
        headers: Any = HeadersDict()
        return AWSResponse(request.url, 200, headers, Body(content))

    def told(operation: str, body: dict[str, Any]) -> dict[str, Any]:
        table = body["TableName"]
        if operation == "DescribeTable":
            return {"Table": {"ItemCount": refunds * (2 if table == "Audit" else 1)}}
        assert operation == "Scan", operation
        start = int(body.get("ExclusiveStartKey", {}).get("place", {}).get("N", "0"))
        end = min(start + PAGE_ITEMS[table], refunds)
        found = [
            item_to_wire(item)
            for place in range(start, end)
            for item in items(table, place, refunds)
        ]
        more = {"LastEvaluatedKey": {"place": {"N": str(end)}}} if end < refunds else {}
        return {"Items": found, "Count": len(found), "ScannedCount": len(found), **more}

    return answer


class Body(io.BytesIO):
    """An answer's bytes as urllib3 gives them."""

    def stream(self, **_: Any) -> Iterator[bytes]:
        yield self.read()


def verify(entries: int, *, quiet: bool) -> tuple[Report, float]:
    def client() -> Any:
        made = boto3.client(
            "dynamodb",
            region_name="eu-central-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",  # noqa: S106 - none is needed
        )
        made.meta.events.register("before-send.dynamodb", answers(entries // 2))
        return made

    def progress(name: str, pages: Iterable[list[Any]], about: int) -> Iterator[list[Any]]:
        began = time.monotonic()
        yield from pages
        if not quiet:
            print(f"{name}: {time.monotonic() - began:.1f} s, {peak_mib():.0f} MiB", flush=True)

    tables = Tables(
        client(),
        PageReader(client(), ReadLimit(0)),
        refunds="Refunds",
        ledger="Ledger",
        audit="Audit",
    )
    began = time.monotonic()
    report = Verification(tables, clock=SystemClock(), progress=progress).run()
    return report, time.monotonic() - began


def main(entries: int, *, quiet: bool) -> None:
    report, seconds = verify(entries, quiet=quiet)
    told = {
        **report.checked,
        "findings": len(report.findings),
        "seconds": round(seconds, 1),
        "max_rss_mb": round(peak_mib()),
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main(int(sys.argv[1]), quiet="--quiet" in sys.argv)
