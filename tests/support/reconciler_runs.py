"""A run of the reconciler, and what it finds open."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from tests.support.builders import NOW, refund, shown
from tests.support.world import World

from refunds.domain.clock import rfc3339
from refunds.domain.refund import Refund, Status
from refunds.gateways.contract import GatewayStatus
from refunds.processing.reconciler import RunResult
from refunds.tables.refunds import shard_of

RUN_SECONDS = 300.0
HOUR_AGO = rfc3339(NOW - timedelta(hours=1))


def run(world: World, seconds: float = RUN_SECONDS) -> RunResult:
    return world.reconciler.run(world.deadline(seconds))


def names(result: RunResult) -> list[str]:
    return [failure.name for failure in result.failures]


def opened(world: World, refund_id: str = "refund-1", **changes: Any) -> Refund:
    """An unfinished refund in the index, due, that no attempt is at work on."""
    fields = {
        "refund_id": refund_id,
        "lease_until": None,
        "open_since": HOUR_AGO,
        "open_shard": shard_of(refund_id),
        "check_at": rfc3339(NOW),
        "amount_minor": 100,
    }
    return world.put(refund(**fields | changes))


def paid(world: World, **changes: Any) -> Refund:
    return world.put(
        refund(status=Status.SUCCEEDED, version=2, gateway_refund_id="gw-1", **changes)
    )


def bounced(**changes: Any) -> Any:
    return shown(status=GatewayStatus.FAILED, failure_code="account_closed", **changes)


def dead_letter(world: World, content: Any) -> None:
    world.stack.clients.sqs.send_message(
        QueueUrl=world.stack.dead_letter_queue_url,
        MessageBody=content if isinstance(content, str) else json.dumps(content),
        MessageAttributes={"error_code": {"DataType": "String", "StringValue": "invalid_json"}},
    )
