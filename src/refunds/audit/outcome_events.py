"""Outcome events for the order system, mailers and analytics. No personal data in them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from refunds.domain.audit_entry import SAME_STATUS_EVENTS
from refunds.domain.redaction import shown_code
from refunds.domain.refund import Item, Status

if TYPE_CHECKING:
    from mypy_boto3_events import EventBridgeClient

    from refunds.batches import Pool
    from refunds.domain.intake import Intake
    from refunds.domain.request import RefusedError

SOURCE = "refunds"
GATEWAY_DOWN = "Gateway Down"
REQUESTS_STOPPED = "Requests Stopped"
INTAKE_EVENTS = (GATEWAY_DOWN, REQUESTS_STOPPED)
"""Events that make the reconciler stop the queue at once."""
_BATCH = 10  # PutEvents takes no more

_SILENT = frozenset({Status.PROCESSING})


class PublishError(Exception):
    """The bus did not take every event."""


class OutcomeEvent(NamedTuple):
    """``detail_type`` such as "Refund Succeeded"; ``detail`` as in docs/events/."""

    detail_type: str
    detail: Item


def outcome_event(entry: Item) -> OutcomeEvent | None:
    """The event for an audit entry; None if the entry changes nothing for consumers."""
    status = Status(entry["status"])
    if status in _SILENT or entry["event"] in SAME_STATUS_EVENTS:
        return None
    details = entry["details"]
    detail: Item = {
        "refund_id": entry["refund_id"],
        "version": entry["version"],
        "transaction_id": entry["transaction_id"],
        "status": status.value,
        "amount_minor": details.get("amount_minor"),
        "currency": details["currency"],
        "failure_code": shown_code(details.get("failure_code")),
        "occurred_at": entry["occurred_at"],
    }
    return OutcomeEvent(f"Refund {status.replace('_', ' ').title()}", detail)


def refused_event(message_id: str, error: RefusedError) -> OutcomeEvent:
    """The event for a message that never became a refund. Its contents stay in the DLQ."""
    return OutcomeEvent(
        "Refund Refused",
        {
            "message_id": message_id,
            "error_code": error.code.value,
            "error_message": error.message,
        },
    )


def gateway_down_event(intake: Intake) -> OutcomeEvent:
    """The event that makes the reconciler stop the queue at once; see ``breaker.queue_mapping``."""
    return OutcomeEvent(GATEWAY_DOWN, {"since": intake.since, "why": intake.why})


def requests_stopped_event(intake: Intake) -> OutcomeEvent:
    """The event of an automatic stop; see ``breaker.kill_switch``."""
    return OutcomeEvent(REQUESTS_STOPPED, {"since": intake.paused_at, "why": intake.paused_why})


class OutcomeBus:
    """With a ``pool``, events of different refunds are published in parallel."""

    def __init__(self, client: EventBridgeClient, bus_name: str, pool: Pool | None = None) -> None:
        self._client = client
        self._bus = bus_name
        self._pool = pool

    def publish(self, events: Sequence[OutcomeEvent]) -> None:
        """Publish all events at least once, and the events of one refund in order.

        Raises ``PublishError`` when some were not taken.
        """
        tens = [events[start : start + _BATCH] for start in range(0, len(events), _BATCH)]
        each_once = len({event.detail.get("refund_id") for event in events}) == len(events)
        side_by_side = self._pool.map if self._pool and each_once else map
        for _ in side_by_side(self._put, tens):
            pass

    def _put(self, events: Sequence[OutcomeEvent]) -> None:
        entries: list[Any] = [
            {
                "EventBusName": self._bus,
                "Source": SOURCE,
                "DetailType": event.detail_type,
                "Detail": json.dumps(event.detail),
            }
            for event in events
        ]
        answer = self._client.put_events(Entries=entries)
        if answer["FailedEntryCount"]:
            raise PublishError(f"{answer['FailedEntryCount']} of {len(entries)} not taken")
