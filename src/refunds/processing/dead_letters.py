"""Dead letters: archived in S3 before SQS deletes them for their age (rule 11)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from refunds.audit.failures_bucket import FailureStore
from refunds.domain.clock import Clock, Deadline
from refunds.domain.refund import Status
from refunds.domain.request import RefusedError, parse_message
from refunds.processing.settler import Settler
from refunds.tables.refunds import RefundsTable

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

ARCHIVE_AFTER = timedelta(days=4)
MAX_ARCHIVE_BATCHES = 20

MIN_LEFT_SECONDS = 15.0
"""With less than this left, no further batch is received."""


@dataclass(frozen=True)
class Archived:
    """``archived`` messages moved; ``oldest_seconds`` is the age of the oldest that stays."""

    archived: int = 0
    oldest_seconds: int = 0
    errors: tuple[str, ...] = ()

    def plus(self, other: Archived) -> Archived:
        return Archived(
            self.archived + other.archived,
            max(self.oldest_seconds, other.oldest_seconds),
            self.errors + other.errors,
        )


class DeadLetterArchiver:
    """Moves what has been in the DLQ for days to S3, before SQS deletes it for its age (11)."""

    def __init__(
        self,
        *,
        client: SQSClient,
        queue_url: str,
        refunds: RefundsTable,
        settler: Settler,
        failures: FailureStore,
        clock: Clock,
    ) -> None:
        self._client = client
        self._queue_url = queue_url
        self._refunds = refunds
        self._settler = settler
        self._failures = failures
        self._clock = clock

    def archive(self, deadline: Deadline) -> Archived:
        """Move what is old enough; at most 200 messages are looked at.

        Also finds the oldest that stays: SQS's own age metric passes over messages that were
        received more than three times, and these are received here at every run.
        """
        done = Archived()
        for _ in range(MAX_ARCHIVE_BATCHES):
            if deadline.left_seconds() < MIN_LEFT_SECONDS:
                break
            answer = self._client.receive_message(
                QueueUrl=self._queue_url,
                MaxNumberOfMessages=10,
                MessageSystemAttributeNames=["SentTimestamp"],
                MessageAttributeNames=["All"],
                VisibilityTimeout=60,
            )
            messages: list[Any] = list(answer.get("Messages", []))
            if not messages:
                break
            for message in messages:
                done = done.plus(self._look_at(message))
        return done

    def _look_at(self, message: dict[str, Any]) -> Archived:
        sent_seconds = int(message["Attributes"]["SentTimestamp"]) / 1000
        age_seconds = int(self._clock.now().timestamp() - sent_seconds)
        if age_seconds < ARCHIVE_AFTER.total_seconds():
            return Archived(oldest_seconds=age_seconds)
        try:
            self._move(message)
        except Exception as exc:
            # It stays, and counts as waiting. Its neighbours do not wait for it.
            return Archived(oldest_seconds=age_seconds, errors=(type(exc).__name__,))
        return Archived(archived=1)

    def _move(self, message: dict[str, Any]) -> None:
        self._keep_open(message["Body"])
        attributes = message.get("MessageAttributes", {})
        self._failures.keep(
            "dead-letters",
            message["MessageId"],
            {
                "body": message["Body"],
                "sent_at_ms": int(message["Attributes"]["SentTimestamp"]),
                "attributes": {
                    name: value.get("StringValue") for name, value in attributes.items()
                },
            },
        )
        self._client.delete_message(
            QueueUrl=self._queue_url, ReceiptHandle=message["ReceiptHandle"]
        )

    def _keep_open(self, body: str) -> None:
        """Once its message is gone, an unfinished refund must be found through the index (10), and
        nobody else would release what a request of a refund that has ended still holds (3)."""
        try:
            request = parse_message(body)
        except RefusedError:
            return
        refund = self._refunds.get(request.refund_id)
        if refund is None:
            return
        self._settler.give_back_unused(refund, request.transaction_id)
        if refund.status is not Status.PROCESSING or refund.open_shard:
            return
        if not self._settler.recheck(refund):
            raise RuntimeError("the refund is being worked on; its message is archived next time")
