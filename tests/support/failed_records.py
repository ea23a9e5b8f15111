"""What Lambda leaves in the failures bucket when a batch of the stream can't be handled."""

from __future__ import annotations

import json
from typing import Any

from tests.support.audit_rows import Trail


def lambdas_object(records: list[Any], *, payload: str = "text") -> dict[str, Any]:
    """What Lambda's on-failure destination writes to S3 for a DynamoDB stream."""
    event = {"Records": records}
    told: dict[str, Any] = {
        "requestContext": {
            "requestId": "316aa6d0-8154-xmpl-9af7-85d5f4a6bc81",
            "functionArn": "arn:aws:lambda:eu-central-1:123456789012:function:WriteAudit",
            "condition": "RetryAttemptsExhausted",
            "approximateInvokeCount": 11,
        },
        "responseContext": {
            "statusCode": 200,
            "executedVersion": "7",
            "functionError": "Unhandled",
        },
        "version": "1.0",
        "timestamp": "2026-11-23T08:10:00.000Z",
        "DDBStreamBatchInfo": {
            "shardId": "shardId-00000001573689847184-864758bb",
            "startSequenceNumber": "800000000003126276362",
            "endSequenceNumber": "800000000003126276362",
            "approximateArrivalOfFirstRecord": "2026-11-23T07:10:00Z",
            "approximateArrivalOfLastRecord": "2026-11-23T07:10:00Z",
            "batchSize": len(records),
            "streamArn": "arn:aws:dynamodb:eu-central-1:123456789012:table/Refunds/stream/1",
        },
    }
    if payload != "none":
        told["payload"] = json.dumps(event) if payload == "text" else event
    return told


def keep_as_lambda(trail: Trail, records: list[Any], **more: Any) -> str:
    key = "aws/lambda/0b2e/shardId-1/2026/11/23/2026-11-23T08.10.00-6a1c"
    trail.stack.clients.s3.put_object(
        Bucket=trail.stack.failures_bucket,
        Key=key,
        Body=json.dumps(lambdas_object(records, **more)).encode(),
    )
    return key


def records_of(trail: Trail, refund_id: str) -> list[Any]:
    return [
        record
        for record in trail.stream.records
        if record["dynamodb"]["Keys"] == {"refund_id": {"S": refund_id}}
    ]
