"""The files in events/: one event for each function and each interesting case.

`refunds-dev sample-events` writes them with the code that writes the real ones, so their images and
hashes are right. The payments are those of the sandbox gateway.
"""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from refunds.audit.outcome_events import GATEWAY_DOWN, SOURCE
from refunds.domain.audit_entry import audit_entry
from refunds.domain.clock import rfc3339
from refunds.domain.refund import Refund, Status, change_status
from refunds.domain.request import parse_message
from refunds.tables.wire import item_to_wire
from refunds_devkit.sandbox.webhooks import sign

Event = dict[str, Any]

FOLDER = Path(__file__).resolve().parents[2] / "events"

_BEGAN = datetime(2026, 11, 23, 7, 10, 0, 123456, UTC)
_QUEUE_ARN = "arn:aws:sqs:us-east-1:123456789012:refunds-local-refund-requests"
_STREAM_ARN = (
    "arn:aws:dynamodb:us-east-1:123456789012:table/refunds-local-Refunds/stream/"
    "2026-11-23T07:00:00.000"
)
WEBHOOK_SECRET = "sample-webhook-secret"  # noqa: S105 - signs the sample and nothing else
_SENDER = "AROAEXAMPLEORDERSYSTEM:orders"
_PROCESSOR = "refunds-local-ProcessRefund:1"


def sample_events() -> dict[str, Event]:
    """Each event by its file name."""
    return {
        "process-refund-full": _queue_event(_request("full", "pay_full", 10_000)),
        "process-refund-partial": _queue_event(_request("partial", "pay_partial", 2_500)),
        "process-refund-everything": _queue_event(_request("everything", "pay_foreign", None)),
        "process-refund-over-balance": _queue_event(_request("over", "pay_small", 500)),
        "process-refund-declined": _queue_event(_request("declined", "pay_declined", 2_500)),
        "process-refund-all-fields": _queue_event(
            _request(
                "all_fields",
                "pay_kwd",
                2_500,
                "KWD",
                reason_code="RMA-7",
                note="Arrived broken; the customer keeps the saucer.",
                line_items=[{"sku": "4006381333931", "quantity": 2, "amount_minor": 1_800}],
                expected_refundable_minor=12_345,
            )
        ),
        "process-refund-malformed": _queue_event(_request("malformed", "pay_full", "25.00")),
        "process-refund-card-number": _queue_event(
            _request("card_number", "pay_full", 1, note="card 4242 4242 4242 4242")
        ),
        "process-refund-duplicate-in-batch": _queue_event(
            *[_request("duplicate", "pay_partial", 1_000)] * 2
        ),
        "process-refund-batch-mixed": _queue_event(
            _request("mixed_1", "pay_partial", 500),
            '{"refund_id": "sample_mixed_2", "transaction_id": ',
            _request("mixed_3", "pay_not_there", 500),
            _request("mixed_4", "pay_jpy", 1_200, "JPY"),
        ),
        **_stream_events(),
        "reconcile": {},
        "reconcile-scheduled": _scheduled_event("ReconcileRefunds"),
        "reconcile-gateway-down": _gateway_down_event(),
        "reconcile-look-at": {"look_at": "sample_full"},
        "receive-webhook": _webhook_event("sample_full", "pay_full"),
        "backup": {},
        "backup-scheduled": _scheduled_event("BackupRefunds"),
    }


def _request(
    name: str,
    transaction_id: str,
    amount_minor: int | str | None,
    currency: str = "USD",
    **more: Any,
) -> str:
    message: dict[str, Any] = {
        "refund_id": f"sample_{name}",
        "transaction_id": transaction_id,
        "user_id": "user_ada",
        "amount_minor": amount_minor,
        "currency": currency,
        "reason": "order_cancelled",
        "requested_by": "agent:grace",
        "requested_at": "2026-11-23T08:09:59+01:00",
        "metadata": {"order": "A-1001"},
        **more,
    }
    return json.dumps({field: value for field, value in message.items() if value is not None})


def _queue_event(*bodies: str) -> Event:
    sent_ms = str(int(_BEGAN.timestamp() * 1000))
    return {
        "Records": [
            {
                "messageId": f"00000000-0000-4000-8000-{number:012d}",
                "receiptHandle": f"sample-receipt-handle-{number}",
                "body": body,
                "attributes": {
                    "ApproximateReceiveCount": "1",
                    "SentTimestamp": sent_ms,
                    "SenderId": _SENDER,
                    "ApproximateFirstReceiveTimestamp": sent_ms,
                },
                "messageAttributes": {},
                "md5OfBody": hashlib.md5(body.encode(), usedforsecurity=False).hexdigest(),
                "eventSource": "aws:sqs",
                "eventSourceARN": _QUEUE_ARN,
                "awsRegion": "us-east-1",
            }
            for number, body in enumerate(bodies, start=1)
        ]
    }


def _stream_events() -> dict[str, Event]:
    claimed, succeeded = sample_refund()
    moved_on = claimed.item() | {"lease_until": rfc3339(_BEGAN + timedelta(minutes=5))}
    tampered = succeeded.item() | {"amount_minor": 1}
    return {
        "write-audit-insert": _stream_event(_change("INSERT", new=claimed.item())),
        "write-audit-modify": _stream_event(
            _change("MODIFY", old=claimed.item(), new=succeeded.item())
        ),
        "write-audit-lease-only": _stream_event(
            _change("MODIFY", old=claimed.item(), new=moved_on)
        ),
        "write-audit-remove": _stream_event(_change("REMOVE", old=succeeded.item())),
        # Changes audited attributes without a new version, which our code never does.
        "write-audit-poison": _stream_event(_change("MODIFY", old=succeeded.item(), new=tampered)),
        "write-audit-batch-mixed": _stream_event(
            _change("INSERT", new=claimed.item()),
            _change("MODIFY", old=succeeded.item(), new=tampered),
            _change("MODIFY", old=claimed.item(), new=succeeded.item()),
        ),
    }


def sample_refund() -> tuple[Refund, Refund]:
    """A refund as stored after its claim, and after it has succeeded."""
    request = parse_message(_request("audited", "pay_full", 2_500), sent_by=_SENDER)
    claimed = Refund(
        **request.recorded_fields(),
        amount_minor=request.amount_minor,
        status=Status.PROCESSING,
        processed_by=_PROCESSOR,
        gateway="flair",
        created_at=rfc3339(_BEGAN),
        updated_at=rfc3339(_BEGAN),
        version=1,
        fingerprint=request.fingerprint(),
        attempt_token="0123456789abcdef",  # noqa: S106 - not a secret: a made-up attempt
        lease_until=rfc3339(_BEGAN + timedelta(seconds=70)),
        key_used_at=rfc3339(_BEGAN),
    )
    succeeded = change_status(
        claimed,
        Status.SUCCEEDED,
        at=rfc3339(_BEGAN + timedelta(seconds=0.4)),
        by=_PROCESSOR,
        previous_hash=audit_entry(claimed.item())["entry_hash"],
        gateway_refund_id="re_0123456789abcdef01234567",
        lease_until=None,
    )
    return claimed, succeeded


def _change(
    name: str, *, old: dict[str, Any] | None = None, new: dict[str, Any] | None = None
) -> Event:
    image = new or old or {}
    change: Event = {
        "ApproximateCreationDateTime": int(_BEGAN.timestamp()),
        "Keys": {"refund_id": {"S": image["refund_id"]}},
        "SizeBytes": len(json.dumps(image)),
        "StreamViewType": "NEW_AND_OLD_IMAGES",
    }
    if old is not None:
        change["OldImage"] = item_to_wire(old)
    if new is not None:
        change["NewImage"] = item_to_wire(new)
    return {"eventName": name, "dynamodb": change}


def _stream_event(*changes: Event) -> Event:
    records = []
    for number, change in enumerate(changes, start=1):
        sequence = {"SequenceNumber": f"{100_000_000_000_000_000_000 + number}"}
        records.append(
            {
                "eventID": f"{number:032x}",
                "eventVersion": "1.1",
                "eventSource": "aws:dynamodb",
                "awsRegion": "us-east-1",
                "eventSourceARN": _STREAM_ARN,
                "eventName": change["eventName"],
                "dynamodb": change["dynamodb"] | sequence,
            }
        )
    return {"Records": records}


def _scheduled_event(function: str) -> Event:
    """The event of a CloudWatch Events rule. The template's schedule sends ``{}``."""
    return {
        "version": "0",
        "id": "00000000-0000-4000-8000-000000000000",
        "detail-type": "Scheduled Event",
        "source": "aws.events",
        "account": "123456789012",
        "time": "2026-11-23T07:10:00Z",
        "region": "us-east-1",
        "resources": [f"arn:aws:events:us-east-1:123456789012:rule/{function}"],
        "detail": {},
    }


def _gateway_down_event() -> Event:
    """The bus's event after ProcessRefund has opened the breaker."""
    detail = {"since": rfc3339(_BEGAN), "why": "flair: HTTP 503"}
    return _scheduled_event("ReconcileRefundsGatewayDown") | {
        "source": SOURCE,
        "detail-type": GATEWAY_DOWN,
        "resources": [],
        "detail": detail,
    }


def _webhook_event(refund_id: str, transaction_id: str) -> Event:
    """A function URL's event for a gateway's webhook, signed with ``WEBHOOK_SECRET``."""
    shown = {
        "id": "re_1",
        "transaction_id": transaction_id,
        "reference": refund_id,
        "amount": 10_000,
        "currency": "USD",
        "status": "succeeded",
        "failure_code": None,
        "failure_message": None,
        "created_at": rfc3339(_BEGAN),
        "updated_at": rfc3339(_BEGAN + timedelta(seconds=5)),
    }
    at = int(_BEGAN.timestamp()) + 5
    body = json.dumps(
        {"id": "evt_1", "type": "refund.updated", "created": at, "data": {"object": shown}}
    )
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": "/",
        "rawQueryString": "",
        "headers": {
            "content-type": "application/json",
            "flair-signature": sign(WEBHOOK_SECRET, body.encode(), at),
        },
        "requestContext": {
            "http": {"method": "POST", "path": "/", "sourceIp": "192.0.2.7"},
            "stage": "$default",
            "timeEpoch": at * 1000,
        },
        "body": body,
        "isBase64Encoded": False,
    }


def as_file(event: Event) -> str:
    """The file's content for an event."""
    return json.dumps(event, indent=2) + "\n"


@click.command("sample-events")
def write_sample_events() -> None:
    """Write the sample events in events/ again, with the code that writes real ones."""
    for name, event in sample_events().items():
        (FOLDER / f"{name}.json").write_text(as_file(event))
    click.echo(f"{len(sample_events())} files written to {FOLDER}")
