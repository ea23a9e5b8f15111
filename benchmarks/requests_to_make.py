"""Events as Lambda receives them: SQS batches of usual refund requests."""

from __future__ import annotations

import json
import time
from itertools import count
from typing import Any

_numbers = count(1)


def request(number: int) -> dict[str, Any]:
    """A usual request for a payment that no other request uses."""
    return {
        "refund_id": f"rf_{number:012d}_7f3a",
        "transaction_id": f"pay_{number:012d}_b2c9",
        "user_id": f"user-{number:08d}",
        "amount_minor": 2500,
        "currency": "USD",
        "reason": "requested_by_customer",
        "requested_by": "agent:anna.miller",
        "requested_at": "2026-11-23T07:10:00Z",
    }


def sqs_event(records: int) -> dict[str, Any]:
    """A batch of new requests. No two events share a refund or a payment."""
    return {"Records": [_record(next(_numbers)) for _ in range(records)]}


def _record(number: int) -> dict[str, Any]:
    # Just sent: a message that has waited for days is looked up at the gateway first.
    sent_ms = int(time.time() * 1000)
    return {
        "messageId": f"059f36b4-87a3-44ab-83d2-{number:012d}",
        "receiptHandle": f"AQEBwJnKyrHigUMZj6rYigCgxlaS3SLy0a{number:012d}",
        "body": json.dumps(request(number)),
        "attributes": {
            "ApproximateReceiveCount": "1",
            "SentTimestamp": str(sent_ms),
            "SenderId": "AIDAIENQZJOLO23YVJ4VO",
            "ApproximateFirstReceiveTimestamp": str(sent_ms + 1),
        },
        "messageAttributes": {},
        "md5OfBody": "e4e68fb7bd0e697a0ae8f1bb342846b3",
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:us-east-1:123456789012:refund-requests",
        "awsRegion": "us-east-1",
    }
