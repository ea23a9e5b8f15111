"""A clean audit trail of any size as DynamoDB's answers, made once and kept in files.

    python -m benchmarks.stored_trail FOLDER ENTRIES

So a benchmark of `refunds verify` has none of the making of its data in it. Pages have up to 1 MB,
in an order that has nothing to do with ids. ``client`` reads them in place of sending a request.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from refunds.domain.audit_entry import audit_entry
from refunds.domain.refund import Refund, Status, change_status
from refunds.tables.wire import item_to_wire

TABLES = ("Refunds", "Ledger", "Audit")
PAGE_REFUNDS = {"Refunds": 900, "Ledger": 2000, "Audit": 350}
"""Refunds a page: about as many as 1 MB has of each table's items."""

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


def _items(table: str, place: int, refunds: int) -> Iterator[dict[str, Any]]:
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


def make(folder: Path, entries: int) -> None:
    """Write the answers to every Scan of a trail with this many entries."""
    refunds = entries // 2
    for table in TABLES:
        (folder / table).mkdir(parents=True)
        for start in range(0, refunds, PAGE_REFUNDS[table]):
            end = min(start + PAGE_REFUNDS[table], refunds)
            found = [
                item_to_wire(item)
                for place in range(start, end)
                for item in _items(table, place, refunds)
            ]
            answer = {"Items": found, "Count": len(found), "ScannedCount": len(found)}
            if end < refunds:
                answer["LastEvaluatedKey"] = {"place": {"N": str(end)}}
            (folder / table / str(start)).write_text(json.dumps(answer, separators=(",", ":")))
        about = {"Table": {"ItemCount": entries if table == "Audit" else refunds}}
        (folder / table / "description").write_text(json.dumps(about))


def client(folder: Path) -> Any:
    """A DynamoDB client that is answered from the files."""
    import boto3
    from botocore.awsrequest import AWSResponse, HeadersDict

    def answer(request: Any, **_: Any) -> Any:
        body = json.loads(request.body)
        name = "description"
        if request.headers["X-Amz-Target"].endswith(b".Scan"):
            name = body.get("ExclusiveStartKey", {}).get("place", {}).get("N", "0")
        headers: Any = HeadersDict()
        content = (folder / body["TableName"] / name).read_bytes()
        return AWSResponse(request.url, 200, headers, _Body(content))

    made = boto3.client(
        "dynamodb",
        region_name="eu-central-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",  # noqa: S106 - none is needed
    )
    made.meta.events.register("before-send.dynamodb", answer)
    return made


class _Body(io.BytesIO):
    """An answer's bytes as urllib3 gives them."""

    def stream(self, **_: Any) -> Iterator[bytes]:
        yield self.read()


if __name__ == "__main__":
    make(Path(sys.argv[1]), int(sys.argv[2]))
