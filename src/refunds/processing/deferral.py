"""Sends a request back to the queue for some minutes, because its gateway is down.

A message that is put back stays in flight, and each delivery counts as a receive. A long outage
would reach SQS's limit of 120,000 messages in flight, and then move the messages to the dead-letter
queue. So a copy is sent with a delay, and the received message is deleted.

After a crash between the two there are two messages, which is harmless: they have the same
``refund_id``. The copy's attributes keep what SQS says about the first message.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from refunds.domain.clock import rfc3339
from refunds.domain.refund import short_text

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import MessageAttributeValueTypeDef

RESENT = "resent"
"""Attribute of a message that is sent again: when the first message was sent (RFC 3339)."""

FIRST_SENT_BY = "first_sent_by"
"""Attribute of a message that is sent again: the ``SenderId`` of the first."""

MAX_FIRST_SENDER = 128
"""In characters. SQS's ``SenderId`` has at most 86: a role's id and a session's name."""

MAX_DELAY_SECONDS = 900
"""SQS's limit."""


class Deferral:
    def __init__(self, client: SQSClient, queue_url: str) -> None:
        self._client = client
        self._queue_url = queue_url

    def send_again(self, record: dict[str, Any], delay_seconds: float) -> None:
        """Send a record of an SQS event again. Raises what the client raises."""
        attributes = {
            RESENT: first_sent_at(record),
            FIRST_SENT_BY: first_sent_by(record),
        }
        self._client.send_message(
            QueueUrl=self._queue_url,
            MessageBody=record["body"],
            DelaySeconds=min(MAX_DELAY_SECONDS, int(delay_seconds)),
            MessageAttributes={
                name: _text(value) for name, value in attributes.items() if value is not None
            },
        )


def first_sent_at(record: dict[str, Any]) -> str | None:
    """When the message was sent for the first time, as RFC 3339."""
    if (resent := _attribute(record, RESENT)) is not None:
        return resent
    if (sent_ms := record["attributes"].get("SentTimestamp")) is None:
        return None
    return rfc3339(datetime.fromtimestamp(int(sent_ms) / 1000, UTC))


def first_sent_by(record: dict[str, Any]) -> str | None:
    """Who sent the message first. Anyone can set the attribute, so the sender that SQS has seen is
    kept beside it."""
    sender: str | None = record["attributes"].get("SenderId")
    first = _attribute(record, FIRST_SENT_BY)
    if first is None or first == sender:
        return sender
    # It was deferred before. Keep the first sender, and the sender that SQS reports for the copy.
    first = first.removesuffix(f" via {sender}")
    # The record keeps 256 bytes. The sender that SQS reports must never be cut off.
    return f"{(short_text(first) or '')[:MAX_FIRST_SENDER]} via {sender}"


def _attribute(record: dict[str, Any], name: str) -> str | None:
    value: str | None = record.get("messageAttributes", {}).get(name, {}).get("stringValue")
    return value


def _text(value: str) -> MessageAttributeValueTypeDef:
    return {"DataType": "String", "StringValue": value}
