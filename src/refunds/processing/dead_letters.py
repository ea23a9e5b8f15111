"""Archives dead letters in S3 before SQS deletes them for their age (rule 11)."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from refunds.audit.failures_bucket import FailureStore
from refunds.domain.clock import Clock, Deadline
from refunds.domain.refund import Status
from refunds.domain.request import RefusedError, named_refund_id, parse_message
from refunds.failures import Failure, FailureKind, classify
from refunds.processing.deferral import first_sent_by
from refunds.processing.processor import Processor
from refunds.processing.settler import Settler
from refunds.processing.turns import Turn
from refunds.tables.refunds import RefundsTable

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

ARCHIVE_AFTER = timedelta(days=4)
MAX_ARCHIVE_BATCHES = 50
"""The number of batches of ten messages. It limits how many a run reads, and so how long they are
hidden from others."""

LOOK_SECONDS = 60
"""How long a message stays hidden if the run dies before it shows it again."""

ARCHIVED = "dead-letters"
"""Prefix of the archived dead letters that nobody has dealt with yet. An operator's command moves
an object elsewhere once it is dealt with."""

STREAM_RECORDS = ("audit", "aws/lambda")
"""Prefixes of stream records that did not become audit entries: WriteAudit's and Lambda's."""

UNKNOWN_AGE_SECONDS = 30 * 86_400
"""Reported as the age when the queue can't be read. It is above every threshold, so that no alarm
ends."""


class NotYetError(Exception):
    """The refund is being worked on. The next run archives its message."""


class ArchiveResult(NamedTuple):
    """``archived`` messages moved; ``oldest_seconds`` is the age of the oldest that stays."""

    archived: int = 0
    oldest_seconds: int = 0
    failed: int = 0
    unhandled: int = 0
    """Archived dead letters that nobody has dealt with, of this run or before; 1,000 at most."""
    unhandled_records: int = 0
    """Stream records in the failures bucket that nobody has put back; 2,000 at most."""
    failures: tuple[Failure, ...] = ()

    def plus(self, other: ArchiveResult) -> ArchiveResult:
        return ArchiveResult(
            self.archived + other.archived,
            max(self.oldest_seconds, other.oldest_seconds),
            self.failed + other.failed,
            self.unhandled + other.unhandled,
            self.unhandled_records + other.unhandled_records,
            self.failures + other.failures,
        )

    def with_failure(self, error: Exception) -> ArchiveResult:
        failure = classify(error)
        if isinstance(error, NotYetError):
            failure = Failure(FailureKind.UNAVAILABLE, "refund_in_progress")
        return self._replace(failed=self.failed + 1, failures=(*self.failures, failure))


class DeadLetterArchiver:
    """Moves messages that have been in the dead-letter queue for days to S3, before SQS deletes
    them for their age (rule 11)."""

    def __init__(  # noqa: PLR0913 - its parts, each by keyword
        self,
        *,
        client: SQSClient,
        queue_url: str,
        refunds: RefundsTable,
        settler: Settler,
        processor: Processor,
        failures: FailureStore,
        clock: Clock,
    ) -> None:
        self._client = client
        self._queue_url = queue_url
        self._refunds = refunds
        self._settler = settler
        self._processor = processor
        self._failures = failures
        self._clock = clock

    def archive(self, turn: Turn) -> ArchiveResult:
        """Move messages that are old enough, and count those that wait for a person. Never raises.

        Also finds the oldest message that stays: SQS's own age metric leaves out messages that were
        received more than three times, and every run receives them here.
        """
        result = ArchiveResult()
        stays: list[str] = []
        try:
            for _ in range(MAX_ARCHIVE_BATCHES):
                messages = [] if turn.over else self._receive()
                if not messages:
                    break
                for message in messages:
                    looked = self._look_at(message, turn.deadline)
                    result = result.plus(looked)
                    if not looked.archived:
                        stays.append(message["ReceiptHandle"])
        except Exception as exc:
            # A failure here must not stop open refunds from being settled. The next run tries
            # again.
            result = result.with_failure(exc)._replace(oldest_seconds=UNKNOWN_AGE_SECONDS)
        return self._count(self._show_again(stays, result))

    def _receive(self) -> list[Any]:
        answer = self._client.receive_message(
            QueueUrl=self._queue_url,
            MaxNumberOfMessages=10,
            MessageSystemAttributeNames=["SentTimestamp", "SenderId"],
            MessageAttributeNames=["All"],
            VisibilityTimeout=LOOK_SECONDS,
        )
        return list(answer.get("Messages", []))

    def _show_again(self, receipts: list[str], result: ArchiveResult) -> ArchiveResult:
        """Make the messages that stay visible again at once."""
        try:
            for start in range(0, len(receipts), 10):
                self._client.change_message_visibility_batch(
                    QueueUrl=self._queue_url,
                    Entries=[
                        {"Id": str(number), "ReceiptHandle": receipt, "VisibilityTimeout": 0}
                        for number, receipt in enumerate(receipts[start : start + 10])
                    ],
                )
        except Exception as exc:
            return result.with_failure(exc)  # They become visible again after LOOK_SECONDS.
        return result

    def _count(self, result: ArchiveResult) -> ArchiveResult:
        try:
            return result._replace(
                unhandled=self._failures.count(ARCHIVED),
                unhandled_records=sum(map(self._failures.count, STREAM_RECORDS)),
            )
        except Exception as exc:
            # The objects may be there although they can't be counted, so the alarms must stay on.
            return result.with_failure(exc)._replace(unhandled=1, unhandled_records=1)

    def _look_at(self, message: dict[str, Any], deadline: Deadline) -> ArchiveResult:
        sent_seconds = int(message["Attributes"]["SentTimestamp"]) / 1000
        age_seconds = int(self._clock.now().timestamp() - sent_seconds)
        if age_seconds < ARCHIVE_AFTER.total_seconds():
            return ArchiveResult(oldest_seconds=age_seconds)
        try:
            self._move(message, deadline)
        except Exception as exc:
            # It stays, and counts as waiting. The other messages are still handled.
            return ArchiveResult(oldest_seconds=age_seconds).with_failure(exc)
        return ArchiveResult(archived=1)

    def _move(self, message: dict[str, Any], deadline: Deadline) -> None:
        attributes = message.get("MessageAttributes", {})
        sent_by = first_sent_by(
            {
                "attributes": message["Attributes"],
                "messageAttributes": {
                    name: {"stringValue": value.get("StringValue")}
                    for name, value in attributes.items()
                },
            }
        )
        self._keep_open(message["Body"], sent_by, deadline, refused="error_code" in attributes)
        self._failures.keep(
            ARCHIVED,
            message["MessageId"],
            {
                "body": message["Body"],
                "sent_at_ms": int(message["Attributes"]["SentTimestamp"]),
                "sent_by": sent_by,
                "attributes": {
                    name: value.get("StringValue") for name, value in attributes.items()
                },
            },
        )
        self._client.delete_message(
            QueueUrl=self._queue_url, ReceiptHandle=message["ReceiptHandle"]
        )

    def _keep_open(
        self, body: str, sent_by: str | None, deadline: Deadline, *, refused: bool
    ) -> None:
        """Keep an unfinished refund findable through the index once its message is gone (rule 10),
        release what the request of a refund that has ended still holds (rule 3), and resume a
        request that was reserved and never claimed (rule 14)."""
        try:
            request = parse_message(body, sent_by=sent_by)
        except RefusedError:
            # An older release may have accepted it, and begun to pay.
            request = None
        refund_id = request.refund_id if request else named_refund_id(body)
        refund = self._refunds.get(refund_id) if refund_id else None
        if refund is None and request and not refused:
            refund = self._processor.resume_reserved(request, deadline)
        if refund is None:
            return
        if request:
            self._processor.give_back_unused(refund, request, deadline)
        if refund.status is not Status.PROCESSING or refund.open_shard:
            return
        if not self._settler.recorder.recheck(refund):
            raise NotYetError
