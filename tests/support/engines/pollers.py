"""Stand-ins for Lambda's event source mappings: a queue's poller and a stream's.

They follow the rules in the AWS Lambda developer guide ("Using Lambda with Amazon SQS", "Using
Lambda with DynamoDB"). tests/engines/test_pollers.py has a test for each rule. Event filters are
left out: no mapping of template.yaml has one.
"""

from __future__ import annotations

import base64
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

Record = dict[str, Any]
Invoke = Callable[[dict[str, Any]], Any]
"""Calls the function with an event. Raises ``InvocationError``."""

AWS_ERRORS = (ClientError, BotoCoreError)
IDLE_SECONDS = 0.05
RECEIVE_SECONDS = 1
LIST_SHARDS_SECONDS = 5.0


class InvocationError(Exception):
    """The function raised, timed out or died."""


def failed_identifiers(response: Any, identifiers: Sequence[str]) -> set[str]:
    """The records that a partial batch response reports as failed.

    No response, and no or null ``batchItemFailures``, is a success of the whole batch. A malformed
    response, or one that names an unknown record, is a failure of the whole batch.
    """
    everything = set(identifiers)
    if response is None:
        return set()
    if not isinstance(response, dict):
        return everything
    failures = response.get("batchItemFailures")
    if failures is None:
        return set()
    if not isinstance(failures, list):
        return everything
    named: set[Any] = {
        each.get("itemIdentifier") if isinstance(each, dict) else None for each in failures
    }
    return named if named <= everything else everything


def queue_record(message: Any, queue_arn: str) -> Record:
    """A received message as Lambda passes it to a function."""
    attributes = message.get("MessageAttributes", {})
    return {
        "messageId": message["MessageId"],
        "receiptHandle": message["ReceiptHandle"],
        "body": message["Body"],
        "attributes": message["Attributes"],
        "messageAttributes": {
            name: {"dataType": value["DataType"], "stringValue": value.get("StringValue")}
            for name, value in attributes.items()
        },
        "md5OfBody": message["MD5OfBody"],
        "eventSource": "aws:sqs",
        "eventSourceARN": queue_arn,
        "awsRegion": queue_arn.split(":")[3],
    }


def deliver_messages(client: Any, queue_url: str, records: list[Record], invoke: Invoke) -> None:
    """Invoke the function with one batch, then delete the messages that succeeded.

    The others come back when their visibility timeout ends: the queue's, or what the function set.
    """
    identifiers = [record["messageId"] for record in records]
    try:
        failed = failed_identifiers(invoke({"Records": records}), identifiers)
    except InvocationError:
        return
    entries = [
        {"Id": str(number), "ReceiptHandle": record["receiptHandle"]}
        for number, record in enumerate(records)
        if record["messageId"] not in failed
    ]
    if entries:
        # A message whose deletion fails is delivered again, as at AWS.
        with suppress(*AWS_ERRORS):
            client.delete_message_batch(QueueUrl=queue_url, Entries=entries)


@dataclass
class Mapping:
    """What GetEventSourceMapping shows, and UpdateEventSourceMapping changes."""

    source_arn: str
    batch_size: int = 10
    concurrency: int = 10
    enabled: bool = True


class QueuePoller(threading.Thread):
    """Receives batches and has at most ``mapping.concurrency`` of them invoked at once."""

    def __init__(
        self, client: Any, queue_url: str, queue_arn: str, invoke: Invoke, mapping: Mapping
    ) -> None:
        super().__init__(name="queue-poller", daemon=True)
        self._client = client
        self._queue_url = queue_url
        self._queue_arn = queue_arn
        self._invoke = invoke
        self._mapping = mapping
        self._stopping = threading.Event()
        self._in_flight = 0
        self._lock = threading.Lock()

    def run(self) -> None:
        with ThreadPoolExecutor(self._mapping.concurrency) as pool:
            while not self._stopping.is_set():
                if not self._mapping.enabled or self._in_flight >= self._mapping.concurrency:
                    self._stopping.wait(IDLE_SECONDS)
                    continue
                if messages := self._receive():
                    records = [queue_record(each, self._queue_arn) for each in messages]
                    self._count(1)
                    pool.submit(self._deliver, records)

    def stop(self) -> None:
        self._stopping.set()
        self.join()

    def _receive(self) -> list[Any]:
        try:
            found = self._client.receive_message(
                QueueUrl=self._queue_url,
                MaxNumberOfMessages=min(10, self._mapping.batch_size),
                WaitTimeSeconds=RECEIVE_SECONDS,
                MessageSystemAttributeNames=["All"],
                MessageAttributeNames=["All"],
            )
        except AWS_ERRORS:
            self._stopping.wait(IDLE_SECONDS)
            return []
        return list(found.get("Messages", []))

    def _deliver(self, records: list[Record]) -> None:
        try:
            deliver_messages(self._client, self._queue_url, records, self._invoke)
        finally:
            self._count(-1)

    def _count(self, change: int) -> None:
        with self._lock:
            self._in_flight += change


@dataclass(frozen=True)
class StreamRules:
    """The properties of a stream's mapping. Ages and waits are in seconds."""

    batch_size: int = 100
    maximum_retry_attempts: int = 10
    maximum_record_age: float = 21_600
    bisect: bool = True


class ShardDelivery:
    """Delivers one shard's records in order. A batch that fails holds up those after it."""

    def __init__(
        self,
        rules: StreamRules,
        invoke: Invoke,
        on_failure: Callable[[list[Record], str], None],
        now: Callable[[], float],
        pause: Callable[[int], object] = lambda retries: None,
    ) -> None:
        """``on_failure`` takes discarded records with the condition that Lambda would name.
        ``pause`` waits before a retry, whose number it gets."""
        self._rules = rules
        self._invoke = invoke
        self._on_failure = on_failure
        self._now = now
        self._pause = pause

    def deliver(self, records: list[Record]) -> None:
        """Returns when each record was handled or discarded to ``on_failure``."""
        size = self._rules.batch_size
        waiting = deque((records[at : at + size], 0) for at in range(0, len(records), size))
        while waiting:
            batch, retries = waiting.popleft()
            batch = self._without_expired(batch)
            first_failed = self._first_failed(batch) if batch else None
            if first_failed is None:
                continue
            rest = batch[first_failed:]
            if retries >= self._rules.maximum_retry_attempts:
                self._on_failure(rest, "RetryAttemptsExhausted")
                continue
            self._pause(retries + 1)
            if self._rules.bisect and first_failed == 0 and len(rest) > 1:
                # Splitting a batch does not count as a retry.
                middle = len(rest) // 2
                waiting.extendleft([(rest[middle:], retries), (rest[:middle], retries)])
            else:
                waiting.appendleft((rest, retries + 1))

    def _first_failed(self, batch: list[Record]) -> int | None:
        """The position of the lowest sequence number that failed. Lambda uses it as checkpoint."""
        numbers = [record["dynamodb"]["SequenceNumber"] for record in batch]
        try:
            failed = failed_identifiers(self._invoke({"Records": batch}), numbers)
        except InvocationError:
            return 0
        return min((numbers.index(number) for number in failed), default=None)

    def _without_expired(self, batch: list[Record]) -> list[Record]:
        oldest = self._now() - self._rules.maximum_record_age
        expired = [r for r in batch if r["dynamodb"]["ApproximateCreationDateTime"] < oldest]
        if expired:
            self._on_failure(expired, "EventAgeExceeded")
        return [record for record in batch if record not in expired]


def stream_record(record: Any, stream_arn: str) -> Record:
    """A record of GetRecords as Lambda passes it to a function."""
    data = dict(record["dynamodb"])
    created = data.get("ApproximateCreationDateTime", datetime.now(UTC))
    data["ApproximateCreationDateTime"] = created.timestamp()
    return {
        "eventID": record["eventID"],
        "eventName": record["eventName"],
        "eventVersion": record.get("eventVersion", "1.1"),
        "eventSource": "aws:dynamodb",
        "eventSourceARN": stream_arn,
        "awsRegion": record.get("awsRegion", ""),
        "dynamodb": _json_safe(data),
    }


def _json_safe(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _json_safe(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_json_safe(each) for each in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value


class StreamPoller(threading.Thread):
    """Reads every shard of a stream from its beginning."""

    def __init__(self, client: Any, stream_arn: str, delivery: ShardDelivery) -> None:
        super().__init__(name="stream-poller", daemon=True)
        self._client = client
        self._stream_arn = stream_arn
        self._delivery = delivery
        self._stopping = threading.Event()
        # By shard, the last sequence number that was delivered.
        self._delivered: dict[str, str] = {}
        self._iterators: dict[str, str | None] = {}
        self._shards: list[str] = []
        self._shards_listed_at = 0.0
        self.empty_polls = 0
        """How often it has found that every shard was read to its end."""

    def run(self) -> None:
        while not self._stopping.is_set():
            try:
                found = self._poll()
                self.empty_polls += not found
            except AWS_ERRORS:
                # An expired or lost iterator: continue after the last delivered record.
                self._iterators.clear()
                found = False
            if not found:
                self._stopping.wait(IDLE_SECONDS)

    def stop(self) -> None:
        self._stopping.set()
        self.join()

    def _poll(self) -> bool:
        if time.monotonic() - self._shards_listed_at > LIST_SHARDS_SECONDS:
            described = self._client.describe_stream(StreamArn=self._stream_arn)
            self._shards = [each["ShardId"] for each in described["StreamDescription"]["Shards"]]
            self._shards_listed_at = time.monotonic()
        found = [self._poll_shard(shard_id) for shard_id in self._shards]
        return any(found)

    def _poll_shard(self, shard_id: str) -> bool:
        if shard_id not in self._iterators:
            self._iterators[shard_id] = self._new_iterator(shard_id)
        if (iterator := self._iterators[shard_id]) is None:
            return False  # closed, and read to its end
        got = self._client.get_records(ShardIterator=iterator)
        if got["Records"]:
            self._delivery.deliver([stream_record(r, self._stream_arn) for r in got["Records"]])
            self._delivered[shard_id] = got["Records"][-1]["dynamodb"]["SequenceNumber"]
        self._iterators[shard_id] = got.get("NextShardIterator")
        return bool(got["Records"])

    def _new_iterator(self, shard_id: str) -> str:
        position: dict[str, str] = {"ShardIteratorType": "TRIM_HORIZON"}
        if (number := self._delivered.get(shard_id)) is not None:
            position = {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": number}
        answer = self._client.get_shard_iterator(
            StreamArn=self._stream_arn, ShardId=shard_id, **position
        )
        return str(answer["ShardIterator"])
