"""The reconciler: settles what stays open, finds late reversals, empties old dead letters.

One run does a bounded amount of work, and what it doesn't reach is first in line next time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from refunds.domain.clock import Clock, Deadline, from_rfc3339, rfc3339
from refunds.domain.refund import ENDED_WITHOUT_MONEY, Refund, Status
from refunds.gateways.contract import (
    NOT_OURS,
    Gateway,
    GatewayRefund,
    GatewayStatus,
    GatewayUnavailableError,
)
from refunds.gateways.routing import Gateways
from refunds.processing.dead_letters import DeadLetterArchiver
from refunds.processing.recorder import Later
from refunds.processing.settler import Settler
from refunds.tables.refunds import OPEN_SHARDS, RefundsTable
from refunds.tables.state import Control

if TYPE_CHECKING:
    from refunds.batches import Pool

PAGE = 25
MAX_ROUNDS = 40
"""Times that the due refunds of every shard are asked for: at most 8 x 25 x 40 a run."""

SWEEP_BACK = timedelta(days=180)
"""How long after its creation a refund may still be sent back by the customer's bank."""
MAX_SWEEP_PAGES = 50
MAX_CURSOR_FAILURES = 3

MIN_LEFT_SECONDS = 15.0
"""With less than this left, no further step is begun."""


@dataclass
class Summary:
    """What a run did: counts, and the ages of the oldest that it met of what waits."""

    settled: int = 0
    still_open: int = 0
    in_review: int = 0
    reversed: int = 0
    archived: int = 0
    failed: int = 0
    swept_pages: int = 0
    sweep_complete: bool = False
    oldest_open_seconds: int = 0
    oldest_dead_letter_seconds: int = 0
    errors: list[str] = field(default_factory=list)


class Reconciler:
    def __init__(
        self,
        *,
        refunds: RefundsTable,
        settler: Settler,
        gateways: Gateways,
        control: Control,
        clock: Clock,
        pool: Pool,
        archiver: DeadLetterArchiver,
    ) -> None:
        self._refunds = refunds
        self._settler = settler
        self._gateways = gateways
        self._control = control
        self._clock = clock
        self._pool = pool
        self._archiver = archiver

    def run(self, deadline: Deadline) -> Summary:
        """One whole run; returns when nothing is due or the time is up."""
        summary = Summary()
        total = deadline.left_seconds()
        # Each part has its share, so a flood in one starves no other.
        until = Deadline.after(self._clock, total * 0.6)
        self._guard(summary, lambda: self._settle_open(until, deadline, summary))
        self._sweep_all(deadline, summary)
        self._guard(summary, lambda: self._archive(deadline, summary))
        return summary

    def look_at(self, refund_id: str, deadline: Deadline) -> Refund | None:
        """The step for one refund, out of turn, because somebody has heard that it changed.

        Whatever was heard, the gateway is asked. Returns the refund as it then is, None when there
        is none. Never puts a refund's next look off: hearsay must not keep it waiting. Raises
        ``GatewayUnavailableError``.
        """
        refund = self._refunds.get(refund_id)
        if refund is None:
            return None
        if refund.status is Status.SUCCEEDED:
            gateway = self._gateways.named(refund.gateway)
            within = deadline.within(gateway.timeout_seconds)
            reference = gateway.reference_for(refund_id)
            for shown in gateway.find_refunds(reference, refund.transaction_id, within):
                self._reverse(gateway, shown, deadline, Summary())
            return self._refunds.get(refund_id)
        waits = refund.status in (Status.PROCESSING, Status.PENDING)
        if waits and refund.open_shard and not self._settler.lease_left_seconds(refund):
            return self._next_step(refund, deadline)
        return refund

    def _guard(self, summary: Summary, part: Callable[[], None]) -> None:
        try:
            part()
        except Exception as exc:
            # One part's trouble must not keep the others from running; the next run tries again.
            summary.failed += 1
            summary.errors.append(type(exc).__name__)

    def _archive(self, deadline: Deadline, summary: Summary) -> None:
        done = self._archiver.archive(deadline)
        summary.archived = done.archived
        summary.oldest_dead_letter_seconds = done.oldest_seconds
        summary.failed += len(done.errors)
        summary.errors.extend(done.errors)

    def _settle_open(self, until: Deadline, deadline: Deadline, summary: Summary) -> None:
        seen: set[str] = set()
        for _ in range(MAX_ROUNDS):
            now = rfc3339(self._clock.now())
            due = [
                refund_id
                for shard in range(OPEN_SHARDS)
                for refund_id in self._refunds.due(str(shard), now, PAGE)
                if refund_id not in seen
            ]
            if not due:
                return
            seen.update(due)
            for start in range(0, len(due), PAGE):
                if min(until.left_seconds(), deadline.left_seconds()) < MIN_LEFT_SECONDS:
                    return
                for result in self._pool.map(
                    lambda refund_id: self._settle(refund_id, deadline), due[start : start + PAGE]
                ):
                    _count(summary, result, self._clock)

    def _settle(self, refund_id: str, deadline: Deadline) -> Refund | str | None:
        """One open refund; what became of it, or the error's name."""
        refund: Refund | None = None
        try:
            refund = self._refunds.get(refund_id)
            if refund is None or refund.open_shard is None:
                return None  # the index was behind
            return self._next_step(refund, deadline)
        except Exception as exc:
            if refund is not None:
                self._put_off(refund)
            return type(exc).__name__

    def _next_step(self, refund: Refund, deadline: Deadline) -> Refund:
        if refund.status in ENDED_WITHOUT_MONEY:
            return self._settler.give_back(refund).refund
        if (
            refund.status not in (Status.PROCESSING, Status.PENDING)
            or self._settler.lease_left_seconds(refund)
            or deadline.left_seconds() < MIN_LEFT_SECONDS
        ):
            self._settler.recheck(refund)
            return refund
        result = self._settler.take_over(refund, deadline)
        return refund if isinstance(result, Later) else result.refund

    def _put_off(self, refund: Refund) -> None:
        # A refund that fails each time would else stay first in line and starve the others.
        try:
            self._settler.recheck(refund)
        except Exception:
            return  # then it does stay; its error is already counted

    def _sweep_all(self, deadline: Deadline, summary: Summary) -> None:
        """Sweep each gateway that refunds can come back from, each in its share of the time."""
        gateways = [gateway for gateway in self._gateways if gateway.can_reverse]
        completed: list[str] = []
        for place, gateway in enumerate(gateways):
            share = deadline.left_seconds() / (len(gateways) - place)
            until = deadline.within(max(share, MIN_LEFT_SECONDS))
            self._guard(summary, partial(self._sweep, gateway, until, summary, completed))
        summary.sweep_complete = len(completed) == len(gateways)

    def _sweep(
        self, gateway: Gateway, deadline: Deadline, summary: Summary, completed: list[str]
    ) -> None:
        """Go on through the gateway's list: a refund that we hold for paid and the gateway shows
        as failed has come back from the bank."""
        position = self._control.sweep_position(gateway.name)
        start = rfc3339(self._clock.now() - SWEEP_BACK)
        created_from, cursor = position.get("created_from") or start, position.get("cursor")
        failures = position.get("failures", 0)
        for _ in range(MAX_SWEEP_PAGES):
            if deadline.left_seconds() < MIN_LEFT_SECONDS:
                return
            try:
                page = gateway.list_refunds(
                    deadline.within(gateway.timeout_seconds),
                    created_from=from_rfc3339(created_from),
                    cursor=cursor,
                )
            except GatewayUnavailableError:
                # A cursor that the gateway no longer takes would stop the sweep for good.
                again = cursor is not None and failures + 1 >= MAX_CURSOR_FAILURES
                self._control.set_sweep_position(
                    gateway.name,
                    start if again else created_from,
                    None if again else cursor,
                    0 if again else failures + 1,
                )
                raise
            for shown in page.refunds:
                # One that can't be reversed now must not hold the sweep up: it comes by again.
                self._guard(summary, partial(self._reverse, gateway, shown, deadline, summary))
            summary.swept_pages += 1
            cursor, failures = page.next_cursor, 0
            self._control.set_sweep_position(
                gateway.name, created_from if cursor else start, cursor, 0
            )
            if cursor is None:
                completed.append(gateway.name)
                return

    def _reverse(
        self, gateway: Gateway, shown: GatewayRefund, deadline: Deadline, summary: Summary
    ) -> None:
        if shown.status is not GatewayStatus.FAILED or shown.reference == NOT_OURS:
            return
        refund = self._refunds.get(shown.reference)
        if (
            refund is None
            or refund.status is not Status.SUCCEEDED
            or refund.gateway != gateway.name
        ):
            return
        if refund.gateway_refund_id is None:
            # A person decided that it was paid, not by which of the gateway's refunds.
            found = gateway.find_refunds(
                gateway.reference_for(refund.refund_id),
                refund.transaction_id,
                deadline.within(gateway.timeout_seconds),
            )
            if any(each.status is not GatewayStatus.FAILED for each in found):
                return
        elif refund.gateway_refund_id != shown.gateway_refund_id:
            return
        if not isinstance(self._settler.reverse(refund, shown), Later):
            summary.reversed += 1


def _count(summary: Summary, result: Refund | str | None, clock: Clock) -> None:
    if isinstance(result, str):
        summary.failed += 1
        summary.errors.append(result)
    elif result is None or result.open_since is None or result.open_shard is None:
        summary.settled += result is not None
    else:
        age = clock.now() - from_rfc3339(result.open_since)
        summary.oldest_open_seconds = max(summary.oldest_open_seconds, int(age.total_seconds()))
        if result.status is Status.IN_REVIEW:
            summary.in_review += 1
        elif result.status in ENDED_WITHOUT_MONEY:
            summary.settled += 1
        else:
            summary.still_open += 1
