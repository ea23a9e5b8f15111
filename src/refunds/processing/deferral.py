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
from refunds.domain.limits import SENT_AGAIN
from refunds.domain.text import visible

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import MessageAttributeValueTypeDef

RESENT = "resent"
"""Attribute of a message that is sent again: when the first message was sent (RFC 3339)."""

FIRST_SENT_BY = "first_sent_by"
"""Attribute of a message that is sent again: the ``SenderId`` of the first."""

MAX_SENDERS_BYTES = 256
"""A record keeps so many (``short_text``). SQS's ``SenderId`` has at most 86: a role's id and a
session's name."""

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
    """Who sent the message first, and who sent it again."""
    return all_senders(_attribute(record, FIRST_SENT_BY), record["attributes"].get("SenderId"))


def all_senders(first: str | None, sender: str | None) -> str | None:
    """``first`` is what the message says about who sent it before; ``sender`` is SQS's word.

    Anyone can set the attribute, but nobody can remove a sender that SQS has seen: those come last,
    and the last 256 bytes are kept.
    """
    names = [name for each in (first, sender) if each for name in each.split(SENT_AGAIN)]
    # Each name where it was seen last: a request may be deferred and resent many times.
    names = list(reversed(dict.fromkeys(reversed(names))))
    text = visible(SENT_AGAIN.join(names)).encode(errors="replace")
    return text[-MAX_SENDERS_BYTES:].decode(errors="ignore") or None


def _attribute(record: dict[str, Any], name: str) -> str | None:
    value: str | None = record.get("messageAttributes", {}).get(name, {}).get("stringValue")
    return value


def _text(value: str) -> MessageAttributeValueTypeDef:
    return {"DataType": "String", "StringValue": value}
