"""Handles one message of the queue. It is deleted when done, refused to the DLQ, put back with a
delay, or sent again later because its gateway is down."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools.utilities.batch import EventType
from botocore.exceptions import BotoCoreError, ClientError

from refunds.audit.outcome_events import OutcomeBus, refused_event
from refunds.batches import Pool, run_batch
from refunds.breaker.breaker import Hold
from refunds.domain.clock import Deadline, from_rfc3339
from refunds.domain.refund import Refund
from refunds.domain.request import (
    ErrorCode,
    RefundRequest,
    RefusedError,
    masked_body,
    parse_message,
)
from refunds.processing.deferral import FIRST_SENT_BY, RESENT, Deferral, first_sent_by
from refunds.processing.delivery import Delivery
from refunds.processing.processor import Processor
from refunds.processing.recorder import Later, Recorded
from refunds.tables.ledger import LedgerRead

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

LONGEST_DELAY_SECONDS = 3600
"""Multiplied by the queue's maxReceiveCount, it stays below the queue's retention (rule 11)."""


Parsed = RefundRequest | Exception
"""A record's request, or why it has none: ``RefusedError``, or an error of ours."""


class PutBackError(Exception):
    """The message stays in the queue. It becomes visible again after ``delay_seconds``, or after
    the queue's own visibility timeout if that is None. ``misconfiguration`` names what a person
    must correct first."""

    def __init__(
        self, reason: str, delay_seconds: int | None, misconfiguration: str | None = None
    ) -> None:
        super().__init__(reason)
        self.delay_seconds = delay_seconds
        self.misconfiguration = misconfiguration


def retry_delay_seconds(
    receive_count: int, first_seconds: int, random: Callable[[], float], least: float | None
) -> int:
    """An exponential delay with full jitter, so that the retries of many messages spread out.

    ``random`` gives 0 ≤ x < 1; ``least`` is the wait that is known to be needed.
    """
    ceiling = min(LONGEST_DELAY_SECONDS, first_seconds << min(receive_count - 1, 20))
    # The wait that the protocol or the gateway asked for, plus jitter.
    wanted = (least or 0.0) + ceiling * random()
    return min(LONGEST_DELAY_SECONDS, math.ceil(wanted))


@dataclass(frozen=True)
class Deferred:
    """The message was sent again with a delay: its gateway is down."""

    reason: str


class RefundQueue:
    def __init__(  # noqa: PLR0913 - its parts, each by keyword
        self,
        *,
        client: SQSClient,
        queue_url: str,
        dead_letter_queue_url: str,
        bus: OutcomeBus,
        processor: Processor,
        first_retry_seconds: int,
        random: Callable[[], float],
        hold: Callable[[str], Hold | None] = lambda transaction_id: None,
    ) -> None:
        """``hold``: whether a request about this payment must wait for its gateway."""
        self._hold = hold
        self._deferral = Deferral(client, queue_url)
        self._client = client
        self._queue_url = queue_url
        self._dead_letter_queue_url = dead_letter_queue_url
        self._bus = bus
        self._processor = processor
        self._first_retry_seconds = first_retry_seconds
        self._random = random

    def handle(
        self,
        record: dict[str, Any],
        deadline: Deadline,
        *,
        parsed: Parsed | None = None,
        look_up_first: bool = False,
        read: LedgerRead | None = None,
    ) -> Refund | RefusedError | Deferred:
        """Handle one record of an SQS event. Returns when the message may be deleted.

        ``parsed``: the record's request, if it was parsed before. ``read``: its payment's ledger,
        if it was read before. Raises ``PutBackError`` or another error when the message must be
        delivered again.
        """
        try:
            request = parsed or parse_record(record)
            if isinstance(request, Exception):
                raise request
            result: Recorded | Later
            if (hold := self._hold(request.transaction_id)) is not None:
                if hold.send_again:
                    self._deferral.send_again(record, hold.seconds)
                    return Deferred(hold.reason)
                result = Later(hold.reason, hold.seconds)
            else:
                delivery = replace(_delivery(record, look_up_first), read=read)
                result = self._processor.process(request, deadline, delivery)
        except RefusedError as refused:
            self._refuse(record, refused)
            return refused
        except Exception as exc:
            # A throttled table, an expired credential or a bug: the message deserves another
            # attempt.
            raise self._put_back(record, type(exc).__name__, None) from exc
        if isinstance(result, Later):
            raise self._put_back(
                record, result.reason, result.delay_seconds, result.misconfiguration
            )
        return result.refund

    def _refuse(self, record: dict[str, Any], refused: RefusedError) -> None:
        # The event comes first: if the bus fails, the message comes back, and only the event is
        # sent twice, never the copy in the DLQ. The copy comes before the deletion, so it may be
        # sent twice but is never lost.
        self._bus.publish([refused_event(record["messageId"], refused)])
        body = record["body"]
        attributes = {"error_code": refused.code.value, "error_message": refused.message}
        if sent_by := first_sent_by(record):
            attributes[FIRST_SENT_BY] = sent_by  # from here on SQS only knows this function
        if refused.code is ErrorCode.CARD_NUMBER:
            # Dead letters are kept for months. The digest shows which message this was.
            attributes["body_sha256"] = hashlib.sha256(body.encode()).hexdigest()
            body = masked_body(body)
        self._client.send_message(
            QueueUrl=self._dead_letter_queue_url,
            MessageBody=body,
            MessageAttributes={
                name: {"DataType": "String", "StringValue": value}
                for name, value in attributes.items()
            },
        )

    def _put_back(
        self,
        record: dict[str, Any],
        reason: str,
        least_seconds: float | None,
        misconfiguration: str | None = None,
    ) -> PutBackError:
        delay_seconds = retry_delay_seconds(
            int(record["attributes"]["ApproximateReceiveCount"]),
            self._first_retry_seconds,
            self._random,
            least_seconds,
        )
        try:
            self._client.change_message_visibility(
                QueueUrl=self._queue_url,
                ReceiptHandle=record["receiptHandle"],
                VisibilityTimeout=delay_seconds,
            )
        except (ClientError, BotoCoreError):
            # The message comes back anyway, after the queue's visibility timeout.
            return PutBackError(reason, None, misconfiguration)
        return PutBackError(reason, delay_seconds, misconfiguration)


def parse_record(record: dict[str, Any]) -> Parsed:
    """The request in a record of an SQS event, or why there is none."""
    try:
        return parse_message(record["body"], sent_by=first_sent_by(record))
    except Exception as exc:
        return exc  # it does not affect the batch's other records


def _delivery(record: dict[str, Any], look_up_first: bool) -> Delivery:
    sent_ms = record["attributes"].get("SentTimestamp")
    sent_at = None if sent_ms is None else datetime.fromtimestamp(int(sent_ms) / 1000, UTC)
    resent = record.get("messageAttributes", {}).get(RESENT)
    if resent is None:
        return Delivery(sent_at, look_up_first=look_up_first)
    # Anybody can set the attribute. It makes no message younger than SQS has it.
    with suppress(ValueError):
        first = from_rfc3339(str(resent.get("stringValue")))
        sent_at = first if sent_at is None else min(first, sent_at)
    return Delivery(sent_at, look_up_first=True)


Result = Refund | RefusedError | Deferred | Exception
"""What became of a message: its refund, or why it was refused, sent again later, or put back."""


def handle_batch(  # noqa: PLR0913 - the batch and its parts
    records: list[dict[str, Any]],
    queue: RefundQueue,
    deadline: Deadline,
    pool: Pool,
    on_result: Callable[[dict[str, Any], Result], None],
    *,
    look_up_first: bool = False,
    read_ledgers: Callable[[set[str]], Mapping[str, LedgerRead]] = lambda transaction_ids: {},
) -> dict[str, Any]:
    """Handle the records of an SQS event in parallel; returns the partial batch response.

    ``on_result`` is called with each record and its result, in the thread that handled it.
    ``read_ledgers`` reads the ledgers of all payments of the batch at once. It may leave some out:
    their records read those ledgers themselves.
    """
    parsed = {record["messageId"]: parse_record(record) for record in records}
    payments = {each.transaction_id for each in parsed.values() if isinstance(each, RefundRequest)}
    ledgers = read_ledgers(payments) if payments else {}

    def handle(raw: dict[str, Any]) -> None:
        request = parsed[raw["messageId"]]
        payment = request.transaction_id if isinstance(request, RefundRequest) else ""
        try:
            result: Result = queue.handle(
                raw,
                deadline,
                parsed=request,
                look_up_first=look_up_first,
                read=ledgers.get(payment),
            )
        except Exception as exc:
            on_result(raw, exc)
            raise
        on_result(raw, result)

    return run_batch(records, handle, EventType.SQS, pool)[1]
