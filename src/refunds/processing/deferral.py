"""Sends a request away for some minutes because its gateway is down.

A message that is put back stays in flight and uses up a receive each time: a long outage would fill
the queue's 120,000 places in flight, and then send the messages to the dead-letter queue. So the
message is sent again with a delay, and the received one is deleted.

If this dies between the two, the message is there twice, which is harmless: ``refund_id`` makes
them one request. What SQS says about the first message is kept in attributes of the second.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from refunds.domain.clock import rfc3339

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import MessageAttributeValueTypeDef

RESENT = "resent"
"""Attribute of a message that is sent again: when it was first sent (RFC 3339)."""

FIRST_SENT_BY = "first_sent_by"
"""Attribute of a message that is sent again: the ``SenderId`` of the first."""

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
    """Who sent the message first. Anyone can set the attribute, so SQS's own word stays with it."""
    sender: str | None = record["attributes"].get("SenderId")
    first = _attribute(record, FIRST_SENT_BY)
    if first is None or first == sender:
        return sender
    # Deferred before: the first sender, then whoever SQS has seen sending it again.
    return first if first.endswith(f" via {sender}") else f"{first} via {sender}"


def _attribute(record: dict[str, Any], name: str) -> str | None:
    value: str | None = record.get("messageAttributes", {}).get(name, {}).get("stringValue")
    return value


def _text(value: str) -> MessageAttributeValueTypeDef:
    return {"DataType": "String", "StringValue": value}
