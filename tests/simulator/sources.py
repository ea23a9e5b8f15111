"""Lambda's event source mappings: what turns a queue and a stream into invocations, with the
partial batch responses that say what must come again."""

from __future__ import annotations

import zlib
from typing import Any

from tests.simulator.dynamodb import Item, Key
from tests.simulator.functions import Functions
from tests.simulator.kernel import Kernel
from tests.simulator.sqs import SQS, Queue, event_record
from tests.simulator.telemetry import Metric

MAX_STREAM_RETRIES = 10


class QueueSource:
    """The queue to ProcessRefund: at most so many batches at once, of at most so many."""

    def __init__(  # noqa: PLR0913 - its parts, each by keyword
        self,
        kernel: Kernel,
        sqs: SQS,
        queue: Queue,
        functions: Functions,
        *,
        batch_size: int,
        concurrency: int,
    ) -> None:
        self._kernel = kernel
        self._sqs = sqs
        self._queue = queue
        self._functions = functions
        self._batch_size = batch_size
        self._concurrency = concurrency
        self._running = 0
        self._polling = False
        self.enabled = True
        sqs.on_visible.append(lambda visible: self.nudge() if visible is queue else None)

    def nudge(self) -> None:
        if self.enabled and not self._polling and self._running < self._concurrency:
            self._polling = True
            self._kernel.after(self._kernel.random.random(), self._poll)

    def switch(self, *, enabled: bool, concurrency: int) -> None:
        """What the mapping is told takes effect. Batches that have begun go on."""
        self.enabled, self._concurrency = enabled, concurrency
        self.nudge()

    def _poll(self) -> None:
        self._polling = False
        if self._running >= self._concurrency or not self.enabled:
            return
        batch = self._sqs.receive(self._queue, self._kernel.random.randint(1, self._batch_size))
        if not batch:
            return
        kernel = self._kernel
        kernel.counts["deliveries"] += len(batch)
        event = {"Records": [event_record(message) for message in batch]}
        handles = [message.handle() for message in batch]
        kernel.log("deliver", " ".join(f"{each.id}#{each.receive_count}" for each in batch))
        self._running += 1

        def done(result: Any) -> None:
            if isinstance(result, Exception):
                return  # Lambda leaves the batch to its visibility timeout
            failed = {each["itemIdentifier"] for each in (result or {})["batchItemFailures"]}
            for message, handle in zip(batch, handles, strict=True):
                stale = message.handle() != handle
                if message.id in failed or (stale and kernel.random.random() < 0.5):
                    continue
                kernel.log("delete", message.id)
                self._sqs.remove(message, "deleted")

        def over() -> None:
            self._running -= 1
            self.nudge()

        self._functions.invoke(
            "process", lambda env, deadline: env.process_refund.handle(event, deadline), done, over
        )
        self.nudge()


class Lane:
    """Part of a shard that is read in order."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []
        self.place = 0
        self.busy = False
        self.retries = 0
        self.most = 100


class StreamSource:
    """The Refunds table's stream to WriteAudit: in order for one key, batches split any way,
    retried and bisected, and after ten retries put aside (``given_up``)."""

    def __init__(self, kernel: Kernel, functions: Functions, *, lanes: int) -> None:
        self._kernel = kernel
        self._functions = functions
        self._lanes = [Lane() for _ in range(lanes)]
        self.given_up: list[dict[str, Any]] = []
        self._sequence = 0

    def write(self, key: Key, old: Item | None, new: Item | None) -> None:
        """A change of an item; an unchanged one makes no record."""
        if old == new:
            return
        self._sequence += 1
        change: dict[str, Any] = {
            "Keys": {"refund_id": {"S": key[0]}},
            "SequenceNumber": f"{self._sequence:021d}",
            "ApproximateCreationDateTime": int(self._kernel.now),
        }
        if old is not None:
            change["OldImage"] = old
        if new is not None:
            change["NewImage"] = new
        name = "INSERT" if old is None else "REMOVE" if new is None else "MODIFY"
        record = {"eventID": f"e{self._sequence}", "eventName": name, "dynamodb": change}
        lane = self._lanes[zlib.crc32(key[0].encode()) % len(self._lanes)]
        lane.records.append(record)
        self._later(lane, self._kernel.random.random())

    def drained(self) -> bool:
        return all(lane.place == len(lane.records) for lane in self._lanes)

    def forget(self) -> None:
        """The table was made again: its stream has no record of the former one."""
        for lane in self._lanes:
            assert not lane.busy
            lane.records, lane.place, lane.retries = [], 0, 0

    def replay(self, records: list[dict[str, Any]]) -> None:
        """An operator puts records back that were given up."""
        for record in records:
            key = record["dynamodb"]["Keys"]["refund_id"]["S"]
            lane = self._lanes[zlib.crc32(key.encode()) % len(self._lanes)]
            lane.records.append(record)
            self._later(lane, 0.1)

    def _later(self, lane: Lane, seconds: float) -> None:
        self._kernel.after(seconds, lambda: self._read(lane))

    def _read(self, lane: Lane) -> None:
        kernel = self._kernel
        if lane.busy or lane.place == len(lane.records):
            return
        if lane.place and kernel.fault("stream replays"):
            lane.place = max(0, lane.place - kernel.random.randint(1, 5))
        start = lane.place
        size = kernel.random.randint(1, lane.most)
        batch = lane.records[start : start + size]
        oldest = batch[0]["dynamodb"]["ApproximateCreationDateTime"]
        self._report("IteratorAge", "Milliseconds", max(0.0, kernel.now - oldest) * 1000)
        lane.busy = True
        failures: list[str] | None = None

        def done(result: Any) -> None:
            nonlocal failures
            if not isinstance(result, Exception):
                failures = [each["itemIdentifier"] for each in result["batchItemFailures"]]

        def over() -> None:
            lane.busy = False
            self._advance(lane, start, batch, failures)
            self._later(lane, min(60.0, 2.0**lane.retries) if lane.retries else 0.05)

        self._functions.invoke(
            "audit",
            lambda env, deadline: env.write_audit.handle({"Records": batch}),
            done,
            over,
        )

    def _advance(
        self, lane: Lane, start: int, batch: list[dict[str, Any]], failures: list[str] | None
    ) -> None:
        """Go on behind what is done: up to the first failure, or nothing of a failed batch."""
        if failures is not None and not failures:
            lane.place, lane.retries, lane.most = start + len(batch), 0, 100
            return
        numbers = [record["dynamodb"]["SequenceNumber"] for record in batch]
        done = min(map(numbers.index, failures)) if failures else 0
        lane.place = start + done
        lane.most = max(1, (len(batch) - done) // 2)  # bisect
        lane.retries = 0 if done else lane.retries + 1
        if lane.retries > MAX_STREAM_RETRIES:
            self._kernel.counts["stream records given up"] += lane.most
            self.given_up += lane.records[lane.place : lane.place + lane.most]
            lane.place += lane.most
            lane.retries = 0
            self._report("OnFailureDestinationDeliveredEventCount", "Count", 1)

    def _report(self, name: str, unit: str, value: float) -> None:
        metric = Metric(self._kernel.now, "audit", name, unit, value)
        self._functions.services.aws_metrics.append(metric)
