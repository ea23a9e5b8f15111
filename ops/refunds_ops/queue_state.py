"""Why a request that is not a refund yet may still be waiting."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from refunds.domain.intake import Intake
    from refunds.tables.state import Control
    from refunds_ops.stack.stack import Stack


@dataclass(frozen=True)
class Depth:
    """Messages of a queue, as SQS counts them (approximately)."""

    waiting: int
    in_flight: int
    """Being processed, or waiting for a retry."""

    @property
    def all(self) -> int:
        return self.waiting + self.in_flight


def depth(stack: Stack, queue_url: str) -> Depth:
    there = stack.sqs.get_queue_attributes(
        QueueUrl=queue_url,
        AttributeNames=[
            "ApproximateNumberOfMessages",
            "ApproximateNumberOfMessagesNotVisible",
            "ApproximateNumberOfMessagesDelayed",
        ],
    )["Attributes"]
    return Depth(
        int(there["ApproximateNumberOfMessages"])
        + int(there["ApproximateNumberOfMessagesDelayed"]),
        int(there["ApproximateNumberOfMessagesNotVisible"]),
    )


def held_gateways(control: Control) -> dict[str, Intake]:
    """With several gateways, those that are down. Their requests wait, and the others' flow."""
    from refunds.domain.intake import BreakerState
    from refunds.gateways.registry import ADAPTERS

    states = {name: control.intake(name) for name in ADAPTERS}
    return {
        name: state for name, state in states.items() if state.breaker is not BreakerState.CLOSED
    }


def why_not_processed(stack: Stack) -> list[str]:
    """Where a request that is not a refund yet may be, most likely first."""
    from refunds.domain.intake import BreakerState
    from refunds.tables.state import Control
    from refunds_ops.statuses import acting

    control = Control(stack.dynamodb, stack["LedgerTableName"])
    intake = control.intake()
    queue = depth(stack, stack["RefundQueueUrl"])
    dead = depth(stack, stack["RefundDeadLetterQueueUrl"])
    found = []
    if intake.paused:
        found.append(
            f"The queue is paused by {acting(intake.paused_by, intake.paused_on_behalf_of)} "
            f"since {intake.paused_at}: {intake.paused_why}. Requests wait until: refunds resume"
        )
    if intake.breaker is not BreakerState.CLOSED:
        found.append(
            f"The gateway is down since {intake.since} (the breaker is {intake.breaker}): requests "
            "wait until it answers."
        )
    for name, state in held_gateways(control).items():
        found.append(
            f"The gateway {name} is down since {state.since}: its requests wait until it answers."
        )
    if queue.all:
        found.append(
            f"Requests in the queue: {queue.all:,}. This one may be among them: try again in a few "
            "seconds."
        )
    if dead.all:
        found.append(
            f"Dead letters, refused or failed: {dead.all:,}. Is it one of them? "
            "refunds dead-letters list"
        )
    if not found:
        found.append("No request waits or was refused. Was it sent to this stack?")
    return found
