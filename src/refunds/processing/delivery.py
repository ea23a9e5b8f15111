"""What is known about a request's message besides its body."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from refunds.tables.ledger import LedgerRead

QUEUE_KEEPS = timedelta(days=7)
"""The queue's MessageRetentionPeriod."""

LAST_DAY = timedelta(days=1)
"""A message this close to the end of its retention may not come back after a crash."""


@dataclass(frozen=True)
class Delivery:
    """``sent_at``: when it was first sent, None if unknown. ``look_up_first``: the tables may not
    know its refund, so the gateway is asked for it before a call. ``read``: the payment's ledger as
    it was when the batch began; None if it was not read.
    """

    sent_at: datetime | None = None
    look_up_first: bool = False
    read: LedgerRead | None = None

    def is_old(self, now: datetime) -> bool:
        """Whether SQS may delete the message before it could be delivered again after a crash
        (10)."""
        return self.sent_at is not None and now - self.sent_at > QUEUE_KEEPS - LAST_DAY


NOTHING_KNOWN = Delivery()
