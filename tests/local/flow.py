"""How the end-to-end tests use the stack: send, wait with a deadline, read."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable
from typing import Any, TypeVar

from refunds.domain.refund import Item
from refunds_devkit.sandbox.client import SandboxClient
from refunds_ops.stack.records import audit_entries, refund_item
from refunds_ops.stack.stack import Stack

Found = TypeVar("Found")

DEADLINE_SECONDS = 60.0
# A message that meets another attempt at its refund waits until that attempt's lease has ended.
QUEUE_SECONDS = 150.0
POLL_SECONDS = 0.1


def eventually(
    look: Callable[[], Found | None], what: str, seconds: float = DEADLINE_SECONDS
) -> Found:
    """The first result of ``look`` that is not empty. Fails the test after ``seconds``."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(POLL_SECONDS)
    raise AssertionError(f"not within {seconds:.0f} s: {what}")


class Flow:
    def __init__(self, stack: Stack, sandbox: SandboxClient) -> None:
        self.stack = stack
        self.sandbox = sandbox

    def payment(self, captured_minor: int = 10_000, currency: str = "USD") -> str:
        """Creates a payment and returns its id."""
        transaction_id = f"pay_{secrets.token_hex(6)}"
        self.sandbox.add_payment(transaction_id, captured_minor, currency)
        return transaction_id

    def request(self, transaction_id: str, amount_minor: Any = None, **fields: Any) -> str:
        """A message body with a new refund id, unless ``fields`` has one."""
        message = {
            "refund_id": f"rf_{secrets.token_hex(6)}",
            "transaction_id": transaction_id,
            "user_id": "user_ada",
            "currency": "USD",
            "reason": "order_cancelled",
            "requested_by": "agent:grace",
        }
        if amount_minor is not None:
            fields["amount_minor"] = amount_minor
        return json.dumps(message | fields)

    def send(self, *bodies: str) -> None:
        for body in bodies:
            self.stack.sqs.send_message(QueueUrl=self.stack["RefundQueueUrl"], MessageBody=body)

    def refund(self, body: str, *statuses: str) -> Item:
        """The refund of a message body, once it has one of ``statuses``."""
        refund_id = json.loads(body)["refund_id"]

        def look() -> Item | None:
            item = refund_item(self.stack, refund_id)
            return item if item and item["status"] in statuses else None

        try:
            return eventually(look, f"{refund_id} is {' or '.join(statuses)}")
        except AssertionError as exc:
            raise AssertionError(f"{exc}; it is {refund_item(self.stack, refund_id)}") from None

    def entries(self, refund: Item) -> list[Item]:
        """A refund's audit entries, once each version has one."""

        def look() -> list[Item] | None:
            found, _ = audit_entries(self.stack, refund["transaction_id"], refund["refund_id"])
            return found if len(found) >= refund["version"] else None

        return eventually(look, f"{refund['version']} audit entries of {refund['refund_id']}")

    def dead_letter(self, body: str) -> dict[str, Any]:
        """Removes the refused message with this body from the dead-letter queue and returns it."""
        queue = self.stack["RefundDeadLetterQueueUrl"]

        def look() -> dict[str, Any] | None:
            answer = self.stack.sqs.receive_message(
                QueueUrl=queue,
                MaxNumberOfMessages=10,
                MessageAttributeNames=["All"],
                VisibilityTimeout=1,
            )
            for message in answer.get("Messages", []):
                if message["Body"] == body:
                    self.stack.sqs.delete_message(
                        QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"]
                    )
                    return dict(message)
            return None

        return eventually(look, f"a dead letter with the body {body[:80]}")

    def moved(self, transaction_id: str) -> list[int]:
        """Each movement of money at the gateway for a payment."""
        return [each["amount"] for each in self.sandbox.movements(transaction_id=transaction_id)]

    def queue_is_empty(self) -> None:
        """Waits until no message is visible or in flight."""
        names: Any = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]

        def look() -> bool:
            found = self.stack.sqs.get_queue_attributes(
                QueueUrl=self.stack["RefundQueueUrl"], AttributeNames=names
            )
            return not any(int(value) for value in found["Attributes"].values())

        eventually(look, "the queue is empty", QUEUE_SECONDS)

    def invoke(self, function: str, event: object = None) -> Any:
        """Invokes a function for one complete run and returns its response."""
        answer = self.stack.functions.invoke(
            FunctionName=self.stack[f"{function}FunctionName"],
            Payload=json.dumps({} if event is None else event).encode(),
        )
        said = json.loads(answer["Payload"].read())
        assert "FunctionError" not in answer, said
        return said
