"""Records of the Refunds table's stream, as Lambda passes them to WriteAudit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.support.builders import NOW, refund

from refunds.domain.audit_entry import audit_entry
from refunds.domain.clock import rfc3339
from refunds.domain.refund import Refund, Status, change_status
from refunds.tables.wire import item_to_wire

CLAIMED = refund()
DONE = replace(
    change_status(
        CLAIMED,
        Status.SUCCEEDED,
        at=rfc3339(NOW),
        by="ProcessRefund:7",
        previous_hash=audit_entry(CLAIMED.item())["entry_hash"],
    ),
    lease_until=None,
)


def record(
    new: Refund | dict[str, Any] | None, old: Refund | None = None, number: int = 1
) -> dict[str, Any]:
    change: dict[str, Any] = {
        "ApproximateCreationDateTime": 1763881800.0,
        "SequenceNumber": f"{number:021d}",
    }
    if new is not None:
        change["NewImage"] = item_to_wire(new.item()) if isinstance(new, Refund) else new
    if old is not None:
        change["OldImage"] = item_to_wire(old.item())
    names = {(False, True): "INSERT", (True, True): "MODIFY", (True, False): "REMOVE"}
    return {
        "eventID": f"event-{number}",
        "eventName": names[old is not None, new is not None],
        "eventSource": "aws:dynamodb",
        "dynamodb": change,
    }
