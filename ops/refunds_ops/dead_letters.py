"""Dead letters for people: what is in the dead-letter queue and in the archive, and what to do
about it.

A message that ProcessRefund refused has an ``error_code``; one that failed too often was moved by
SQS and has none. After four days ReconcileRefunds archives both in the failures bucket.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from refunds.audit.failures_bucket import FailureStore
from refunds.domain.card_numbers import redacted
from refunds.domain.clock import SystemClock, from_rfc3339, rfc3339
from refunds.domain.identity import Identity
from refunds.domain.refund import Refund, Status
from refunds.domain.request import (
    RefundRequest,
    RefusedError,
    named_transaction_id,
    parse_message,
)
from refunds.processing.dead_letters import ARCHIVED
from refunds.processing.deferral import FIRST_SENT_BY, all_senders
from refunds.tables.ledger import LedgerTable
from refunds.tables.refunds import RefundsTable
from refunds_ops.errors import CommandError
from refunds_ops.open_refunds import indexes_of
from refunds_ops.resending import Forecast, forecast, is_same_request

if TYPE_CHECKING:
    from refunds_ops.stack.stack import Stack

CLOSED = "dead-letters-closed"
"""Prefix of dead letters that a person has resent or dropped: the message, who, when and why."""

RESENT = "resent"
"""Message attribute of a resent request: when it was first sent. ProcessRefund then looks the
refund up at the gateway first, whose idempotency keys may have expired since."""

LOOK_SECONDS = 120
"""How long a message is hidden from others while a command works on it."""
WAIT_SECONDS = 1
"""Long polling asks every server of SQS, short polling only some."""
MAX_LETTERS = 10_000
MAX_REPEATS = 20
"""After this many batches in a row without a new message, the queue counts as read. With thousands
of messages, the first ones are visible again before the last one was received."""


class NoLetterError(CommandError):
    """No dead letter has that message id."""


class StillNeededError(CommandError):
    """The message can't be dropped: nothing else would come back to its refund."""


@dataclass
class DeadLetter:
    """A message and where it is: ``receipt`` in the queue, ``key`` in the archive."""

    message_id: str
    body: str
    sent_at: str
    attributes: dict[str, str] = field(default_factory=dict)
    receipt: str | None = None
    key: str | None = None
    sender_id: str | None = None
    """Who sent it, as SQS or the archive reports it; None when it isn't known."""

    @property
    def sent_by(self) -> str:
        """Who sent it first, and who sent it again. The message's own word hides nobody that SQS
        has seen. A refused message was sent here by ProcessRefund."""
        return all_senders(self.attributes.get(FIRST_SENT_BY), self.sender_id) or "unknown"

    @property
    def where(self) -> str:
        return "archive" if self.key else "queue"

    @property
    def kind(self) -> str:
        return "refused" if self.error_code else "failed"

    @property
    def error_code(self) -> str | None:
        return self.attributes.get("error_code")

    @property
    def reason(self) -> str:
        if self.error_code:
            return f"{self.error_code}: {self.attributes.get('error_message', '')}"
        return "failed at every attempt"

    @property
    def first_sent_at(self) -> str:
        """When it was first sent, however often it was resent. Anybody can set the attribute: it
        counts only if it is an instant, and makes no message younger."""
        try:
            first = rfc3339(from_rfc3339(self.attributes.get(RESENT, "")))
        except ValueError:
            return self.sent_at
        return min(first, self.sent_at)

    @property
    def request(self) -> RefundRequest | None:
        try:
            return parse_message(self.body)
        except RefusedError:
            return None

    @property
    def refund_id(self) -> str:
        """The value if the body contains it, but never a possible card number."""
        if request := self.request:
            return request.refund_id
        found = re.search(r'"refund_id"\s*:\s*"([A-Za-z0-9_-]{1,64})"', self.body)
        return redacted(found[1]) if found else ""

    def as_json(self) -> dict[str, Any]:
        return {
            "message_id": self.message_id,
            "kind": self.kind,
            "where": self.where,
            "refund_id": self.refund_id,
            "error_code": self.error_code,
            "reason": self.reason,
            "sent_at": self.sent_at,
            "first_sent_at": self.first_sent_at,
        }


class DeadLetters:
    """All dead letters of a stack. When it ends as a context manager, it makes the messages of the
    queue visible to others again."""

    def __init__(self, stack: Stack, *, at_most: int = MAX_LETTERS) -> None:
        """``at_most``: read at most this many from the queue, and as many from the archive."""
        self._stack = stack
        self._at_most = at_most
        self._queue_url = stack["RefundDeadLetterQueueUrl"]
        self._bucket = stack["FailuresBucketName"]
        self._refunds = RefundsTable(stack.dynamodb, stack["RefundsTableName"])
        self._ledger = LedgerTable(stack.dynamodb, stack["LedgerTableName"])
        self._taken: dict[str, str] = {}

    def __enter__(self) -> DeadLetters:
        return self

    def __exit__(self, *_: object) -> None:
        receipts = list(self._taken.values())
        for start in range(0, len(receipts), 10):
            self._stack.sqs.change_message_visibility_batch(
                QueueUrl=self._queue_url,
                Entries=[
                    {"Id": str(number), "ReceiptHandle": receipt, "VisibilityTimeout": 0}
                    for number, receipt in enumerate(receipts[start : start + 10])
                ],
            )

    def all(self, *, archived: bool = True) -> list[DeadLetter]:
        """In the queue and (unless switched off) in the archive, oldest first."""
        found = [*self._in_queue(), *(self._in_archive() if archived else ())]
        return sorted(found, key=lambda letter: letter.first_sent_at)

    def named(self, message_id: str) -> DeadLetter:
        """Raises ``NoLetterError`` when it is not there."""
        [letter] = self.chosen([message_id])
        return letter

    def chosen(self, message_ids: Collection[str], *, archived: bool = True) -> list[DeadLetter]:
        """The letters with these ids, in their order. Reads no other message of the archive.

        Raises ``NoLetterError`` for one that is not there.
        """
        wanted = dict.fromkeys(message_ids)
        found: dict[str, DeadLetter] = {}
        for letter in chain(self._in_queue(), self._in_archive(wanted) if archived else ()):
            if letter.message_id in wanted:
                found.setdefault(letter.message_id, letter)
                if len(found) == len(wanted):
                    break
        for message_id in wanted:
            if message_id not in found:
                raise NoLetterError(
                    f"There is no dead letter {message_id}.",
                    "To list them: refunds dead-letters list",
                )
        return [found[message_id] for message_id in wanted]

    def _in_queue(self) -> Iterator[DeadLetter]:
        repeats = 0
        while len(self._taken) < self._at_most and repeats < MAX_REPEATS:
            answer: Any = self._stack.sqs.receive_message(
                QueueUrl=self._queue_url,
                MaxNumberOfMessages=10,
                MessageSystemAttributeNames=["SentTimestamp", "SenderId"],
                MessageAttributeNames=["All"],
                VisibilityTimeout=LOOK_SECONDS,
                WaitTimeSeconds=WAIT_SECONDS,
            )
            messages = answer.get("Messages", [])
            if not messages:
                return
            new = [each for each in messages if each["MessageId"] not in self._taken]
            repeats = 0 if new else repeats + 1
            self._taken |= {each["MessageId"]: each["ReceiptHandle"] for each in messages}
            yield from map(_received, new)

    def _in_archive(self, message_ids: Collection[str] | None = None) -> Iterator[DeadLetter]:
        """``message_ids``: only these. None: all."""
        s3 = self._stack.s3
        pages = s3.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=f"{ARCHIVED}/"
        )
        keys: Iterator[str] = (
            listed["Key"]
            for page in pages
            for listed in page.get("Contents", [])
            if message_ids is None or _message_id_of(listed["Key"]) in message_ids
        )
        for key in islice(keys, self._at_most):
            try:
                content = s3.get_object(Bucket=self._bucket, Key=key)["Body"].read()
            except ClientError as exc:
                if exc.response["Error"]["Code"] in ("NoSuchKey", "404"):
                    continue  # dealt with meanwhile
                raise
            yield _archived(key, content)

    def forecast(self, letter: DeadLetter) -> Forecast:
        """What sending it again would do."""
        return forecast(letter.body, self._refunds.get)

    def forecasts(self, letters: Sequence[DeadLetter]) -> list[Forecast]:
        """The same of many, whose refunds are read 100 in a request."""
        requests = (letter.request for letter in letters)
        refund_ids = dict.fromkeys(request.refund_id for request in requests if request)
        refunds = {
            refund.refund_id: refund
            for refund in map(Refund.from_item, indexes_of(self._stack).items(refund_ids))
        }
        return [forecast(letter.body, refunds.get) for letter in letters]

    def resend(self, letter: DeadLetter, *, by: Identity, why: str) -> None:
        """Send it to the refund queue again, marked as resent, then close it.

        If that is interrupted in between, the message is in both places. Sent twice, it is still
        one refund.
        """
        self._keep(letter, "resent", by=by, why=why)
        self._stack.sqs.send_message(
            QueueUrl=self._stack["RefundQueueUrl"],
            MessageBody=letter.body,
            MessageAttributes={
                name: {"DataType": "String", "StringValue": value}
                for name, value in {
                    RESENT: letter.first_sent_at,
                    FIRST_SENT_BY: letter.sent_by,
                }.items()
            },
        )
        self._remove(letter)

    def drop(self, letter: DeadLetter, *, by: Identity, why: str) -> None:
        """Close it for good. Its whole message stays in the failures bucket.

        Raises ``StillNeededError`` when nothing else would come back to a refund that has begun:
        ReconcileRefunds does, but only once its message is archived, and not if it was refused.
        """
        resumed = letter.request is not None and letter.kind == "failed"
        if (letter.receipt is not None or not resumed) and (begun := self._begun(letter)):
            advice = "Resend it, or wait until it is in the archive." if resumed else "Resend it."
            if letter.request is None:
                advice = "Send the corrected request with the same refund id first: refunds request"
            what = f"{letter.refund_id} {begun}, and only this message would come back to it."
            raise StillNeededError(what, advice)
        self._keep(letter, "dropped", by=by, why=why)
        self._remove(letter)

    def _begun(self, letter: DeadLetter) -> str | None:
        """How far the refund has come that only this message would come back to, if any."""
        request = letter.request
        if not (refund_id := letter.refund_id):
            return None
        refund = self._refunds.get(refund_id)
        # A record of another payment's refund says nothing about what this payment holds.
        if refund and (request is None or request.transaction_id == refund.transaction_id):
            waits = refund.status is Status.PROCESSING and refund.open_shard is None
            same = request is None or is_same_request(request, refund.fingerprint)
            return f"is {refund.status}" if waits and same else None
        payment = request.transaction_id if request else named_transaction_id(letter.body)
        ledger = self._ledger.get(payment) if payment else None
        held_minor = ledger.reservations.get(refund_id, 0) if ledger else 0
        return "has its money reserved" if held_minor else None

    def _keep(self, letter: DeadLetter, action: str, *, by: Identity, why: str) -> None:
        store = FailureStore(self._stack.s3, self._bucket, SystemClock())
        store.keep(
            CLOSED,
            letter.message_id,
            {
                "action": action,
                **by.recorded(),
                "why": why,
                "at": rfc3339(datetime.now(UTC)),
                "body": letter.body,
                "sent_at": letter.sent_at,
                "attributes": letter.attributes,
            },
        )

    def _remove(self, letter: DeadLetter) -> None:
        if letter.key is not None:
            self._stack.s3.delete_object(Bucket=self._bucket, Key=letter.key)
        if letter.receipt is not None:
            receipt = self._taken.pop(letter.message_id, letter.receipt)
            self._stack.sqs.delete_message(QueueUrl=self._queue_url, ReceiptHandle=receipt)


def _received(message: Mapping[str, Any]) -> DeadLetter:
    return DeadLetter(
        message["MessageId"],
        message["Body"],
        _instant(int(message["Attributes"]["SentTimestamp"])),
        {
            name: value.get("StringValue", "")
            for name, value in message.get("MessageAttributes", {}).items()
        },
        receipt=message["ReceiptHandle"],
        sender_id=message["Attributes"].get("SenderId"),
    )


def _message_id_of(key: str) -> str:
    return key.rsplit("/", 1)[-1].removesuffix(".json")


def _archived(key: str, content: bytes) -> DeadLetter:
    message_id = _message_id_of(key)
    try:
        kept = json.loads(content)
        return DeadLetter(
            message_id,
            str(kept["body"]),
            _instant(int(kept["sent_at_ms"])),
            {name: str(value) for name, value in kept.get("attributes", {}).items()},
            key=key,
            sender_id=kept.get("sent_by"),
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        # It is still shown, so that a person can look into it and drop it.
        return DeadLetter(message_id, content.decode(errors="replace"), _instant(0), key=key)


def _instant(milliseconds: int) -> str:
    return rfc3339(datetime.fromtimestamp(milliseconds / 1000, UTC))
