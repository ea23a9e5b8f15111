"""The reconciler: archives old dead letters, settles what stays open, finds late reversals.

One run does a bounded amount of work. Each part has its own share of the time, so none waits for
the others. The next run begins with what this run did not reach.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import NamedTuple

from refunds.domain.clock import Deadline
from refunds.domain.refund import Refund, Status
from refunds.failures import Failure
from refunds.gateways.routing import Gateways
from refunds.processing.dead_letters import ArchiveResult, DeadLetterArchiver
from refunds.processing.open_refunds import OpenRefunds, OpenResult
from refunds.processing.reversal_sweep import ReversalSweep, SweepResult
from refunds.processing.settler import Settler
from refunds.processing.turns import Turn
from refunds.tables.refunds import RefundsTable

ARCHIVE_SHARE = 0.15
"""The archiver's share of a run. It comes first, because a message that is not archived in time is
lost."""

SWEEP_SHARE = 0.35
"""The sweep's share of a run. Settling has the time in between."""


class RunResult(NamedTuple):
    """What one run did."""

    dead_letters: ArchiveResult = ArchiveResult()
    open: OpenResult = OpenResult()
    sweep: SweepResult = SweepResult()

    @property
    def failed(self) -> int:
        return self.dead_letters.failed + self.open.failed + self.sweep.failed

    @property
    def failures(self) -> tuple[Failure, ...]:
        return (*self.dead_letters.failures, *self.open.failures, *self.sweep.failures)


class Reconciler:
    def __init__(  # noqa: PLR0913 - its parts, each by keyword
        self,
        *,
        archiver: DeadLetterArchiver,
        open_refunds: OpenRefunds,
        sweep: ReversalSweep,
        refunds: RefundsTable,
        settler: Settler,
        gateways: Gateways,
    ) -> None:
        self._archiver = archiver
        self._open_refunds = open_refunds
        self._sweep = sweep
        self._refunds = refunds
        self._settler = settler
        self._gateways = gateways

    def run(
        self,
        deadline: Deadline,
        down: Collection[str] = (),
        *,
        before_sweep: Callable[[RunResult], None] = lambda result: None,
    ) -> RunResult:
        """One whole run. Returns when nothing is due, or when the time is up.

        ``down``: gateways that do not answer now. ``before_sweep`` gets the result so far.
        """
        total_seconds = deadline.left_seconds()
        result = RunResult(
            dead_letters=self._archiver.archive(
                Turn.until(deadline, total_seconds * (1 - ARCHIVE_SHARE))
            ),
            open=self._open_refunds.settle(Turn.until(deadline, total_seconds * SWEEP_SHARE), down),
        )
        before_sweep(result)
        return result._replace(sweep=self._sweep.sweep(deadline))

    def look_at(self, refund_id: str, deadline: Deadline) -> Refund | None:
        """Take one step for a refund at once, because a webhook says that it changed.

        The gateway is asked, whatever the webhook says. Returns the refund's new state, or None if
        there is no such refund. Never postpones a refund's next check. Raises
        ``GatewayUnavailableError``.
        """
        refund = self._refunds.get(refund_id)
        if refund is None:
            return None
        if refund.status is Status.SUCCEEDED:
            gateway = self._gateways.named(refund.gateway, refund.gateway_account)
            for shown in self._settler.evidence.search(refund, deadline):
                self._sweep.reverse(gateway, shown, deadline)
            return self._refunds.get(refund_id)
        if refund.status is Status.IN_REVIEW:
            return self._open_refunds.ask_about_review(refund, deadline)
        waits = refund.status in (Status.PROCESSING, Status.PENDING)
        if waits and refund.open_shard and not self._settler.lease_left_seconds(refund):
            return self._open_refunds.next_step(refund, deadline)
        return refund
