"""Whether the audit trail keeps up, by the newest refunds themselves."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any

from refunds.domain.clock import from_rfc3339, rfc3339
from refunds.domain.identifiers import entry_id
from refunds.tables.refund_indexes import Span
from refunds_ops.open_refunds import indexes_of

if TYPE_CHECKING:
    from refunds_ops.stack.stack import Stack

NEWEST = 20
WITHIN = timedelta(days=1)
LATE_SECONDS = 60.0


@dataclass(frozen=True)
class AuditLag:
    """Of ``checked`` refunds, those whose last change has no audit entry yet."""

    checked: int
    behind: tuple[str, ...] = ()
    seconds: float = 0.0
    """Since the oldest of those changes."""

    @property
    def late(self) -> bool:
        """Whether that is more than the stream takes."""
        return bool(self.behind) and self.seconds > LATE_SECONDS


def audit_lag(stack: Stack, now: datetime, pool: Executor) -> AuditLag:
    """Looks at the newest refunds of the last day."""
    indexes = indexes_of(stack, page_size=NEWEST, pool=pool)
    span = Span(rfc3339(now - WITHIN), rfc3339(now + timedelta(minutes=5)))
    found = islice(indexes.by_day(span, newest_first=True), NEWEST)
    refunds = list(indexes.items([each.refund_id for each in found]))
    if not refunds:
        return AuditLag(0)
    keys: list[Any] = [
        {
            "transaction_id": {"S": refund["transaction_id"]},
            "entry_id": {"S": entry_id(refund["refund_id"], refund["version"])},
        }
        for refund in refunds
    ]
    table = stack["AuditTableName"]
    answer: Any = stack.dynamodb.batch_get_item(
        RequestItems={table: {"Keys": keys, "ProjectionExpression": "entry_id"}}
    )
    unread = answer.get("UnprocessedKeys", {}).get(table, {}).get("Keys", [])
    there = {item["entry_id"]["S"] for item in (*answer["Responses"].get(table, []), *unread)}
    missing = [
        refund
        for refund, key in zip(refunds, keys, strict=True)
        if key["entry_id"]["S"] not in there
    ]
    oldest = min((from_rfc3339(refund["updated_at"]) for refund in missing), default=now)
    return AuditLag(
        len(refunds),
        tuple(refund["refund_id"] for refund in missing),
        max(0.0, (now - oldest).total_seconds()),
    )
