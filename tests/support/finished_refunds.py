"""Refunds with their whole audit trail, made some hours ago."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from tests.support.builders import refund
from tests.support.world import World

from refunds.domain.audit_entry import audit_entry
from refunds.domain.clock import rfc3339
from refunds.domain.refund import Refund, Status, change_status

NOW = datetime.now(UTC)


def at(hours_ago: float) -> str:
    return rfc3339(NOW - timedelta(hours=hours_ago))


def add(world: World, refund_id: str, hours_ago: float = 1, **changes: Any) -> Refund:
    """A refund with its whole audit trail: processing, and what it became."""
    became = changes.pop("became", Status.SUCCEEDED)
    later = {name: changes.pop(name) for name in ("failure_code", "check_at") if name in changes}
    first = refund(
        refund_id=refund_id, created_at=at(hours_ago), updated_at=at(hours_ago), **changes
    )
    entry = audit_entry(first.item())
    world.audit.put_new({**entry, "recorded_at": at(hours_ago)})
    last = first
    if became is not Status.PROCESSING:
        done = change_status(
            first, became, at=at(hours_ago), by="P:1", previous_hash=entry["entry_hash"], **later
        )
        world.audit.put_new({**audit_entry(done.item()), "recorded_at": at(hours_ago)})
        last = done
    world.refunds.put_new(last)
    return last
