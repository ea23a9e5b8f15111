"""A gateway's long list that changes while it is read, and the sweep over it.

``check_state`` compares what the sweep's state says was looked at with what was.
"""

from __future__ import annotations

import random
from bisect import insort
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.support.builders import FakeClock, InlinePool

from refunds.domain.clock import Deadline
from refunds.domain.refund import Item, Status
from refunds.gateways.contract import (
    GatewayRefund,
    GatewayStatus,
    GatewayUnavailableError,
    RefundPage,
)
from refunds.processing.reversal_sweep import ReversalSweep, SweepResult
from refunds.processing.sweep_plan import SweepState


class CrashError(BaseException):
    """The process is gone."""


@dataclass(order=True)
class Listed:
    created: datetime
    number: int
    listed_at: datetime = field(compare=False)
    looked_at: datetime = field(compare=False, default=datetime.min.replace(tzinfo=UTC))


@dataclass
class SweptList:
    """A gateway whose list begins at the newest refund. A cursor is a place in that order."""

    clock: FakeClock
    page_size: int = 10
    name: str = "flair"
    account: str = "https://flair.example"
    timeout_seconds: float = 15.0
    can_reverse: bool = True
    rows: list[Listed] = field(default_factory=list)
    """Oldest first."""
    dice: random.Random = field(default_factory=lambda: random.Random(1))
    unavailable: float = 0.0
    page_seconds: float = 1.0
    dated: bool = True
    asked: list[str | None] = field(default_factory=list)
    expired: int = 0
    """Cursors are numbered. Those up to this number are no longer taken."""
    cursors: int = 0

    def add(self, created: datetime) -> Listed:
        row = Listed(created, len(self.rows) + 1, max(created, self.clock.now()))
        insort(self.rows, row)
        return row

    def list_refunds(
        self,
        deadline: Deadline,
        *,
        created_from: datetime,
        cursor: str | None = None,
        created_before: datetime | None = None,
    ) -> RefundPage:
        self.clock.advance(seconds=self.page_seconds)
        self.asked.append(cursor)
        serial = int(cursor.rpartition("/")[2]) if cursor else self.expired + 1
        if self.dice.random() < self.unavailable or serial <= self.expired:
            raise GatewayUnavailableError("HTTP 429")
        rows = [row for row in reversed(self.rows) if row.created >= created_from]
        if created_before is not None:
            rows = [row for row in rows if row.created < created_before]
        if cursor is not None:
            created, number, _ = cursor.split("/")
            place = (datetime.fromisoformat(created), int(number))
            rows = [row for row in rows if (row.created, row.number) < place]
        page = rows[: self.page_size]
        next_cursor = None
        if len(rows) > self.page_size:
            self.cursors += 1
            next_cursor = f"{page[-1].created.isoformat()}/{page[-1].number}/{self.cursors}"
        return RefundPage(tuple(self._shown(row) for row in page), next_cursor)

    def _shown(self, row: Listed) -> GatewayRefund:
        return GatewayRefund(
            gateway_refund_id=f"gw-{row.number}",
            transaction_id="payment-1",
            refund_id=f"r{row.number}",
            amount_minor=1,
            currency="USD",
            status=GatewayStatus.SUCCEEDED,
            created_at=row.created if self.dated else None,
        )


class SweptPeriods(SweptList):
    """A gateway whose list can begin in the past."""

    def list_refunds_before(self, deadline: Deadline, **asked: Any) -> RefundPage:
        return self.list_refunds(deadline, **asked)


@dataclass
class LookedAt:
    """In place of the table: notes which refunds were looked at, and may fail."""

    gateway: SweptList
    fails: float = 0.0

    def statuses(self, refund_ids: Sequence[str], *, complete: bool) -> dict[str, Status]:
        if self.gateway.dice.random() < self.fails:
            raise RuntimeError("throttled")
        numbers = {int(each[1:]) for each in refund_ids}
        for row in self.gateway.rows:
            if row.number in numbers:
                row.looked_at = self.gateway.clock.now()
        return {}


@dataclass
class Kept:
    """In place of the control items. ``crashes``: how often the process dies before a write, or
    right after it."""

    dice: random.Random
    item: Item = field(default_factory=dict)
    crashes: float = 0.0

    def sweep(self, gateway: str) -> Item:
        return self.item

    def set_sweep(self, gateway: str, item: Item) -> None:
        if self.dice.random() < self.crashes:
            raise CrashError
        self.item = item
        if self.dice.random() < self.crashes:
            raise CrashError


@dataclass
class Sweeping:
    gateway: SweptList
    pages_at_once: int = 3

    def __post_init__(self) -> None:
        self.kept = Kept(self.gateway.dice)
        self.table = LookedAt(self.gateway)
        self.gateways: Any = [self.gateway]

    def run(self, seconds: float = 60.0) -> SweepResult:
        refunds: Any = self.table
        evidence: Any = None
        paid: Any = None
        control: Any = self.kept
        sweep = ReversalSweep(
            refunds=refunds,
            evidence=evidence,
            paid=paid,
            gateways=self.gateways,
            control=control,
            clock=self.gateway.clock,
            pool=InlinePool(),
            pages_at_once=self.pages_at_once,
        )
        return sweep.sweep(Deadline.after(self.gateway.clock, seconds))

    def state(self) -> SweepState:
        return SweepState.from_item(self.kept.item, self.gateway.account, self.gateway.clock.now())

    def check_state(self) -> None:
        """Everything that the state says was looked at was looked at."""
        state = self.state()
        for row in self.gateway.rows:
            since = state.seen.get(row.created.toordinal())
            if since is not None and row.listed_at <= since:
                assert row.looked_at >= since, (row, since, state)

    def longest_unseen(self) -> timedelta:
        now = self.gateway.clock.now()
        return max(now - max(row.looked_at, row.created) for row in self.gateway.rows)
