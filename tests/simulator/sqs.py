"""SQS: visibility, receive counts, redrive to the DLQ, duplicates, any order, retention."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError
from tests.simulator.aws import Wire, client_error
from tests.simulator.kernel import Kernel

DAY = 86400.0
MAX_DELAY_SECONDS = 900


SENDER_ID = "AROASHOP:shop"
"""Who sends every message, by SQS's word."""


class Message:
    """A message, wherever it is now. ``gone`` is None or how it left the queues."""

    def __init__(self, identity: str, body: str, attributes: dict[str, Any], now: float) -> None:
        self.id = identity
        self.body = body
        self.attributes = attributes
        self.sent_at = now
        self.visible_at = now
        self.receive_count = 0
        self.receipt = 0
        self.queue: Queue | None = None
        self.gone: str | None = None
        self.sender = SENDER_ID

    def handle(self) -> str:
        return f"{self.id}/{self.receipt}"


class Queue:
    """``max_receives`` and ``dead_letters``: after so many receives a message goes there."""

    def __init__(
        self,
        name: str,
        *,
        visibility_seconds: float,
        retention_seconds: float,
        max_receives: int | None = None,
        dead_letters: Queue | None = None,
    ) -> None:
        self.name = name
        self.visibility_seconds = visibility_seconds
        self.retention_seconds = retention_seconds
        self.max_receives = max_receives
        self.dead_letters = dead_letters
        self.messages: dict[str, Message] = {}

    @property
    def is_dead_letters(self) -> bool:
        return self.dead_letters is None


class SQS:
    """The service and its client. ``on_gone`` hears of each message that leaves the queues."""

    def __init__(self, kernel: Kernel, wire: Wire, queues: list[Queue]) -> None:
        self._kernel = kernel
        self._wire = wire
        self.queues = {queue.name: queue for queue in queues}
        self.all: dict[str, Message] = {}
        self.on_gone: list[Callable[[Message], None]] = []
        self.on_visible: list[Callable[[Queue], None]] = []
        self.on_change: list[Callable[[Queue], None]] = []
        """Told of a queue whose messages, or their receive counts, have changed."""

    # --- what the service does ------------------------------------------------------------------

    def enqueue(
        self,
        queue: Queue,
        body: str,
        attributes: dict[str, Any] | None = None,
        delay_seconds: float = 0.0,
    ) -> Message:
        message = Message(f"m{len(self.all) + 1}", body, attributes or {}, self._kernel.now)
        message.visible_at += delay_seconds
        self.all[message.id] = message
        self._place(queue, message)
        return message

    def receive(self, queue: Queue, most: int, visibility: float | None = None) -> list[Message]:
        """At most ``most`` messages, in any order, each now in flight."""
        kernel, now = self._kernel, self._kernel.now
        batch: list[Message] = []
        there = list(queue.messages.values())
        kernel.random.shuffle(there)
        for message in there:
            if len(batch) == most:
                break
            if message.visible_at > now and not (
                message.receive_count and kernel.fault("sqs delivers twice")
            ):
                continue
            if queue.max_receives is not None and message.receive_count >= queue.max_receives:
                assert queue.dead_letters is not None
                kernel.log("redrive", f"{message.id} to {queue.dead_letters.name}")
                kernel.counts["messages to the DLQ"] += 1
                del queue.messages[message.id]
                message.receive_count = 0
                message.visible_at = now
                self._place(queue.dead_letters, message)
                continue
            message.receive_count += 1
            message.receipt += 1
            self._show_at(
                message, now + (queue.visibility_seconds if visibility is None else visibility)
            )
            batch.append(message)
        if batch:
            self._changed(queue)
        return batch

    def remove(self, message: Message, how: str) -> None:
        """Delete a message for good (or so the caller thinks)."""
        queue = message.queue
        if queue is None or message.gone:
            return
        if how == "deleted" and self._kernel.fault("sqs deletes in vain"):
            return
        del queue.messages[message.id]
        message.gone = how
        message.queue = None
        self._changed(queue)
        for listener in self.on_gone:
            listener(message)
        if how == "deleted" and self._kernel.fault("sqs message comes back"):
            message.gone = None
            message.visible_at = self._kernel.now
            self._place(queue, message)

    def move(self, message: Message, queue: Queue) -> None:
        """An operator's redrive: the message starts anew there."""
        assert message.queue is not None
        del message.queue.messages[message.id]
        self._changed(message.queue)
        message.sent_at = message.visible_at = self._kernel.now
        message.receive_count = 0
        self._place(queue, message)

    def _changed(self, queue: Queue) -> None:
        for listener in self.on_change:
            listener(queue)

    def _place(self, queue: Queue, message: Message) -> None:
        queue.messages[message.id] = message
        message.queue = queue
        self._changed(queue)
        self._show_at(message, message.visible_at)
        sent_at = message.sent_at

        def expire() -> None:
            if message.queue is queue and message.sent_at == sent_at:
                self.remove(message, "expired")

        expire.dead = lambda: message.queue is not queue or message.sent_at != sent_at  # type: ignore[attr-defined]
        kept = sent_at + queue.retention_seconds - self._kernel.now
        self._kernel.after(max(0.0, kept), expire)

    def _show_at(self, message: Message, at: float) -> None:
        message.visible_at = at
        queue = message.queue
        assert queue is not None

        def visible() -> None:
            if message.queue is queue and message.visible_at <= self._kernel.now:
                for listener in self.on_visible:
                    listener(queue)

        visible.dead = lambda: message.queue is not queue or message.visible_at > at  # type: ignore[attr-defined]
        self._kernel.after(at - self._kernel.now, visible)

    def _in_flight(self, operation: str, queue: Queue, handle: str) -> Message:
        message = self.all[handle.split("/", maxsplit=1)[0]]
        latest = message.handle() == handle or self._kernel.random.random() < 0.5
        if message.queue is not queue or not latest:
            raise client_error(operation, "ReceiptHandleIsInvalid")
        return message

    # --- the client -----------------------------------------------------------------------------

    def send_message(
        self,
        *,
        QueueUrl: str,  # noqa: N803
        MessageBody: str,  # noqa: N803
        MessageAttributes: dict[str, Any] | None = None,  # noqa: N803
        DelaySeconds: int = 0,  # noqa: N803
    ) -> None:
        queue = self.queues[QueueUrl]
        assert 0 <= DelaySeconds <= MAX_DELAY_SECONDS

        def apply() -> None:
            if not queue.is_dead_letters:
                self._kernel.log("defer", MessageBody[:80])
                self._kernel.counts["messages deferred"] += 1
                self.enqueue(queue, MessageBody, MessageAttributes, DelaySeconds)
                return
            code = (MessageAttributes or {}).get("error_code", {}).get("StringValue", "")
            self._kernel.log("refuse", f"{code} to {QueueUrl}: {MessageBody[:80]}")
            if code == "idempotency_conflict":
                self._kernel.counts["conflicts refused"] += 1
            self.enqueue(queue, MessageBody, MessageAttributes)

        self._wire.call("sqs", "send", QueueUrl, apply, writes=True)

    def change_message_visibility(
        self,
        *,
        QueueUrl: str,  # noqa: N803
        ReceiptHandle: str,  # noqa: N803
        VisibilityTimeout: int,  # noqa: N803
    ) -> None:
        assert 0 <= VisibilityTimeout <= 43200
        queue = self.queues[QueueUrl]

        def apply() -> None:
            message = self._in_flight("ChangeMessageVisibility", queue, ReceiptHandle)
            if message.visible_at <= self._kernel.now:
                raise client_error("ChangeMessageVisibility", "MessageNotInflight")
            self._show_at(message, self._kernel.now + VisibilityTimeout)

        self._wire.call("sqs", "visibility", ReceiptHandle, apply, writes=True)

    def change_message_visibility_batch(
        self,
        *,
        QueueUrl: str,  # noqa: N803
        Entries: list[dict[str, Any]],  # noqa: N803
    ) -> dict[str, Any]:
        assert 1 <= len(Entries) <= 10
        queue = self.queues[QueueUrl]

        def apply() -> dict[str, Any]:
            failed = []
            for entry in Entries:
                try:
                    message = self._in_flight(
                        "ChangeMessageVisibility", queue, entry["ReceiptHandle"]
                    )
                except ClientError:
                    failed.append({"Id": entry["Id"], "Code": "ReceiptHandleIsInvalid"})
                    continue
                self._show_at(message, self._kernel.now + entry["VisibilityTimeout"])
            return {"Failed": failed}

        return self._wire.call("sqs", "visibility", QueueUrl, apply, writes=True)

    def receive_message(  # noqa: PLR0913 - as boto3 has it
        self,
        *,
        QueueUrl: str,  # noqa: N803
        MaxNumberOfMessages: int,  # noqa: N803
        MessageSystemAttributeNames: list[str],  # noqa: N803
        MessageAttributeNames: list[str],  # noqa: N803
        VisibilityTimeout: int,  # noqa: N803
        WaitTimeSeconds: int = 0,  # noqa: N803
    ) -> dict[str, Any]:
        queue = self.queues[QueueUrl]

        def apply() -> dict[str, Any]:
            batch = self.receive(queue, MaxNumberOfMessages, VisibilityTimeout)
            return {
                "Messages": [
                    {
                        "MessageId": message.id,
                        "ReceiptHandle": message.handle(),
                        "Body": message.body,
                        "Attributes": {
                            "SentTimestamp": str(int(message.sent_at * 1000)),
                            "ApproximateReceiveCount": str(message.receive_count),
                            "SenderId": message.sender,
                        },
                        "MessageAttributes": message.attributes,
                    }
                    for message in batch
                ]
            }

        return self._wire.call("sqs", "receive", QueueUrl, apply, writes=False)

    def delete_message(self, *, QueueUrl: str, ReceiptHandle: str) -> None:  # noqa: N803
        queue = self.queues[QueueUrl]

        def apply() -> None:
            message = self.all[ReceiptHandle.split("/", maxsplit=1)[0]]
            if message.queue is queue:
                self.remove(message, "archived" if queue.dead_letters is None else "deleted")

        self._wire.call("sqs", "delete", ReceiptHandle, apply, writes=True)


def event_record(message: Message) -> dict[str, Any]:
    """The message as Lambda's event has it."""
    return {
        "messageId": message.id,
        "receiptHandle": message.handle(),
        "body": message.body,
        "attributes": {
            "ApproximateReceiveCount": str(message.receive_count),
            "SentTimestamp": str(int(message.sent_at * 1000)),
            "SenderId": message.sender,
        },
        "messageAttributes": {
            name: {"dataType": value["DataType"], "stringValue": value["StringValue"]}
            for name, value in message.attributes.items()
        },
        "eventSource": "aws:sqs",
    }
