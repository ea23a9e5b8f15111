"""One refund at a time on an idle local stack: how long until it is final, audited and announced.

The emulator polls its queue and its streams at intervals of its own, so the seconds say nothing of
AWS; each step's share of them shows where a refund waits.
"""

from __future__ import annotations

import json
import secrets
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from benchmarks.results import Result, median_result
from refunds.domain.clock import from_rfc3339
from refunds.domain.identifiers import entry_id
from refunds.tables.wire import item_from_wire
from refunds_devkit.sandbox.client import SandboxClient
from refunds_ops.stack.stack import Stack

REFUNDS = 10
LONGEST_SECONDS = 120
FINAL_VERSION = 2
"""Version 1 is PROCESSING, version 2 SUCCEEDED: the sandbox answers at once."""
_POLL_SECONDS = 0.05

T = TypeVar("T")


@dataclass(frozen=True)
class Latency:
    """Seconds from sending the message."""

    final: float
    entry: float
    event: float


def latencies(stack: Stack, gateway_url: str) -> list[Latency]:
    """Sends one refund, waits for its event, and then sends the next."""
    name = f"l{secrets.token_hex(3)}"
    SandboxClient(gateway_url).add_payments(
        {
            "id": f"pay_{name}_{number}",
            "amount_captured": 10_000,
            "currency": "USD",
            "status": "captured",
        }
        for number in range(REFUNDS)
    )
    with _announced(stack, name) as queue:
        return [_one(stack, queue, f"{name}_{number}") for number in range(REFUNDS)]


def latency_results(measured: list[Latency]) -> list[Result]:
    total = statistics.median(each.event for each in measured)
    waits = (
        ("message to final status", [each.final for each in measured]),
        ("final status to audit entry", [each.entry - each.final for each in measured]),
        ("audit entry to event", [each.event - each.entry for each in measured]),
    )
    results = [
        median_result(
            f"one refund on an idle local stack: {what}",
            seconds,
            "s",
            note=f"{100 * statistics.median(seconds) / total:.0f} % of the way to the event",
        )
        for what, seconds in waits
    ]
    whole = median_result(
        "one refund on an idle local stack: message to event",
        [each.event for each in measured],
        "s",
    )
    return [*results, whole]


def _one(stack: Stack, queue: str, suffix: str) -> Latency:
    refund_id, transaction_id = f"rf_{suffix}", f"pay_{suffix}"
    body = {
        "refund_id": refund_id,
        "transaction_id": transaction_id,
        "user_id": "ada",
        "amount_minor": 2500,
        "currency": "USD",
        "reason": "order_cancelled",
        "requested_by": "system:bench",
    }
    sent = time.time()
    stack.sqs.send_message(QueueUrl=stack["RefundQueueUrl"], MessageBody=json.dumps(body))
    announced = _wait_for(lambda: _event_of(stack, queue, refund_id))
    refund = _item(stack, "RefundsTableName", {"refund_id": refund_id})
    entry = _item(
        stack,
        "AuditTableName",
        {"transaction_id": transaction_id, "entry_id": entry_id(refund_id, FINAL_VERSION)},
    )
    return Latency(
        final=from_rfc3339(refund["updated_at"]).timestamp() - sent,
        entry=from_rfc3339(entry["recorded_at"]).timestamp() - sent,
        event=announced - sent,
    )


def _item(stack: Stack, table: str, key: dict[str, str]) -> dict[str, Any]:
    wire: Any = {name: {"S": value} for name, value in key.items()}
    answer = stack.dynamodb.get_item(TableName=stack[table], Key=wire, ConsistentRead=True)
    return item_from_wire(answer["Item"])


def _event_of(stack: Stack, queue: str, refund_id: str) -> float | None:
    answer = stack.sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10)
    now = time.time()
    bodies = [json.loads(message["Body"]) for message in answer.get("Messages", [])]
    return now if any(body["detail"]["refund_id"] == refund_id for body in bodies) else None


def _wait_for(found: Callable[[], T | None]) -> T:
    deadline = time.monotonic() + LONGEST_SECONDS
    while time.monotonic() < deadline:
        if (value := found()) is not None:
            return value
        time.sleep(_POLL_SECONDS)
    raise RuntimeError(f"a refund took longer than {LONGEST_SECONDS} s on an idle stack")


@contextmanager
def _announced(stack: Stack, name: str) -> Iterator[str]:
    """A queue that gets what is published on the stack's bus."""
    bus = stack["EventBusName"]
    queue = stack.sqs.create_queue(QueueName=name)["QueueUrl"]
    attributes = stack.sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])
    arn = attributes["Attributes"]["QueueArn"]
    pattern = json.dumps({"source": ["refunds"]})
    stack.events.put_rule(Name=name, EventBusName=bus, EventPattern=pattern)
    stack.events.put_targets(Rule=name, EventBusName=bus, Targets=[{"Id": "queue", "Arn": arn}])
    yield queue
    stack.events.remove_targets(Rule=name, EventBusName=bus, Ids=["queue"])
    stack.events.delete_rule(Name=name, EventBusName=bus)
    stack.sqs.delete_queue(QueueUrl=queue)
