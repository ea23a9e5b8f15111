"""Volume: many open refunds, a slow gateway, a long list and many dead letters, all at once.

Whatever the others do, each has its turn within a bound that follows from the shares of a run
(``refunds.processing.reconciler``). The production code is played, and the longest wait of each
kind is measured.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any
from unittest.mock import patch

from tests.simulator.alarm_play import request
from tests.simulator.functions import TIMEOUT_SECONDS
from tests.simulator.kernel import Violation
from tests.simulator.sqs import DAY
from tests.simulator.world import SCHEDULE_SECONDS, World

from refunds.processing.reconciler import ARCHIVE_SHARE, SWEEP_SHARE
from refunds.processing.recorder import LONGEST_RECHECK

MINUTE, HOUR = 60.0, 3600.0
ARCHIVED_AT_SECONDS = 4 * DAY
OLD = "old-refund"
"""The oldest refund in the gateway's list: the customer's bank sends it back."""


@dataclass(frozen=True)
class Volume:
    refunds: int = 200
    gateway_seconds: float = 12.0
    threads: int = 2
    """50 in Lambda. Fewer stand for more refunds, where the wait is the same."""
    page_size: int = 10
    dead_letters: int = 60
    hours: float = 4.0

    @property
    def settling_seconds(self) -> float:
        """Of a run that are left for settling."""
        return TIMEOUT_SECONDS["reconcile"] * (1 - ARCHIVE_SHARE - SWEEP_SHARE)

    @property
    def look_bound_seconds(self) -> float:
        """An open refund is looked at within an hour of its last look, a run later at most, and
        when all others that are due before it have had their turn."""
        one_after_another = self.refunds * self.gateway_seconds / self.threads
        runs = math.ceil(one_after_another / self.settling_seconds)
        return LONGEST_RECHECK.total_seconds() + SCHEDULE_SECONDS * (1 + runs)

    @property
    def reversal_bound_seconds(self) -> float:
        """A pass through the list, twice: it may have passed the refund just before."""
        pages = math.ceil((self.refunds + 1) / self.page_size)
        sweep_seconds = TIMEOUT_SECONDS["reconcile"] * SWEEP_SHARE - 15.0 - self.gateway_seconds
        pages_a_run = max(1, math.floor(sweep_seconds / self.gateway_seconds))
        return 2 * SCHEDULE_SECONDS * (1 + math.ceil(pages / pages_a_run))

    @property
    def archive_bound_seconds(self) -> float:
        """After the four days: the next run, and 500 letters a run at least."""
        return SCHEDULE_SECONDS * (2 + math.ceil(self.dead_letters / 500))


@dataclass
class Waits:
    """The longest wait of each kind, in seconds, beside its bound."""

    volume: Volume
    look_seconds: float = 0.0
    reversal_seconds: float = math.inf
    archive_seconds: float = 0.0
    not_archived: int = 0
    looks: dict[str, list[float]] = field(default_factory=dict)
    overdue_alarm: bool = False

    def rows(self) -> list[tuple[str, float, float]]:
        """What waits, how long it did at most, and the bound."""
        volume = self.volume
        return [
            ("a look at an open refund", self.look_seconds, volume.look_bound_seconds),
            ("a late reversal", self.reversal_seconds, volume.reversal_bound_seconds),
            ("a dead letter", self.archive_seconds, volume.archive_bound_seconds),
        ]

    def faults(self) -> Iterator[str]:
        volume = self.volume
        for what, waited, bound in self.rows():
            if waited > bound:
                yield f"{what} has waited for {waited:.0f} s; the bound is {bound:.0f} s"
        if self.not_archived:
            yield f"{self.not_archived} dead letters were never archived"
        if len(self.looks) < volume.refunds:
            yield f"{volume.refunds - len(self.looks)} refunds were never looked at"


def play_volume(volume: Volume) -> Waits:
    """Raises ``Violation`` when an invariant does not hold on the way."""
    world, waits = World(1, concurrency=10), Waits(volume)
    world.kernel.max_events = 10**9
    world.flair.page_size = volume.page_size
    try:
        _open_refunds(world, volume)
        began = world.kernel.now
        for number in range(volume.dead_letters):
            letter = world.sqs.enqueue(world.dlq, f'{{"refused": {number}}}')
            letter.sent_at -= ARCHIVED_AT_SECONDS
        world.flair.fail(world.flair.refunds[0], "sent_back")
        with (
            patch.object(world.network, "request", _slow(world, volume, waits)),
            patch("tests.simulator.kernel.POOL_WIDTH", volume.threads),
        ):
            _watch(world, waits, began)
            world.run_schedule(volume.hours * HOUR)
        _measure(world, waits, began)
    finally:
        world.kernel.close()
    return waits


def _open_refunds(world: World, volume: Volume) -> None:
    """One refund that is paid, and many that stay pending."""
    for number in range(volume.refunds + 1):
        refund_id = OLD if number == 0 else f"r{number}"
        world.pay(f"tx{number}", 1_000)
        if number:
            world.flair.stubborn[refund_id] = "pending"
        world.send(request(refund_id, transaction_id=f"tx{number}"))
        if number % 500 == 0:
            world.run_for(30)
    for _ in range(60):
        world.run_for(2 * MINUTE)
        if len(world.refunds.items) == volume.refunds + 1:
            break
    else:
        raise Violation("volume", "the requests were not all processed")


def _slow(world: World, volume: Volume, waits: Waits) -> Any:
    call = world.network.request

    def slow(method: str, url: str, **more: Any) -> Any:
        if "reference=" in url:
            reference = url.partition("reference=")[2].partition("&")[0]
            waits.looks.setdefault(reference, []).append(world.kernel.now)
        world.kernel.pause(volume.gateway_seconds)
        return call(method, url, **more)

    return slow


def _watch(world: World, waits: Waits, began: float) -> None:
    def changed(key: Any, old: Any, new: Any) -> None:
        if key == (OLD,) and new is not None and new["status"]["S"] == "REVERSED":
            waits.reversal_seconds = min(waits.reversal_seconds, world.kernel.now - began)

    def moved(queue: Any) -> None:
        if queue is world.dlq and queue.messages:
            waits.archive_seconds = world.kernel.now - began

    world.refunds.on_write.append(changed)
    world.sqs.on_change.append(moved)


def _measure(world: World, waits: Waits, began: float) -> None:
    waits.looks.pop(OLD, None)
    for looks in waits.looks.values():
        instants = [began, *looks, world.kernel.now]
        gaps = [after - before for before, after in pairwise(instants)]
        waits.look_seconds = max(waits.look_seconds, *gaps)
    waits.not_archived = len(world.dlq.messages)
    waits.overdue_alarm = world.watch.advance().on_after("OpenRefundsOverdue", began)
