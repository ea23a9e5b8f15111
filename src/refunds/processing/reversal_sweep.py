"""Finds late reversals: refunds in the gateway's list that the bank has sent back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from refunds.domain.clock import Clock, Deadline, from_rfc3339
from refunds.domain.identifiers import REFUND_ID
from refunds.domain.refund import Refund, Status
from refunds.failures import Failure, classify
from refunds.gateways.contract import (
    NOT_OURS,
    Gateway,
    GatewayRefund,
    GatewayStatus,
    GatewayUnavailableError,
    ListsBefore,
    RefundPage,
)
from refunds.gateways.routing import Gateways
from refunds.processing.evidence import Evidence, is_live
from refunds.processing.paid_refunds import PaidRefunds
from refunds.processing.recorder import Later
from refunds.processing.sweep_plan import SweepState
from refunds.processing.sweep_walk import PageRead, Walk
from refunds.processing.turns import MIN_LEFT_SECONDS, Turn
from refunds.tables.refunds import RefundsTable
from refunds.tables.state import Control

if TYPE_CHECKING:
    # Importing it would load Powertools' batch processor, which not every function uses.
    from refunds.batches import Pool

IDLE_PAGES = 50
"""Pages that a run reads of each list although nothing is due."""

MAX_ROUNDS = 10_000
MAX_PAGE_FAILURES = 3
"""A walk whose page can't be read is given up after so many failures, if the gateway answers
otherwise."""

MAX_PAGE_TRIES = 3
"""A page with a refund that can't be handled is read so many times before the walk goes on."""

SAVE_EVERY_SECONDS = 10.0

DEFAULT_PAGES_AT_ONCE = 4


@dataclass(frozen=True)
class SweepResult:
    """``complete``: the sweeps of all gateways reached the end of their lists in this run."""

    pages: int = 0
    reversed: int = 0
    paid_though_ended: int = 0
    """Refunds that ended here without money, and that the list shows as paid."""
    failed: int = 0
    unreadable: int = 0
    complete: bool = True
    behind_seconds: int | None = None
    """How much longer than promised some refunds have not been looked at; None if unknown: an alarm
    then stays as it is."""
    unseen_seconds: Mapping[str, int] = field(default_factory=dict)
    """By tier of age: how long ago the refunds were looked at that waited the longest."""
    failures: tuple[Failure, ...] = ()

    def plus(self, other: SweepResult) -> SweepResult:
        behind = (self.behind_seconds, other.behind_seconds)
        return SweepResult(
            self.pages + other.pages,
            self.reversed + other.reversed,
            self.paid_though_ended + other.paid_though_ended,
            self.failed + other.failed,
            self.unreadable + other.unreadable,
            self.complete and other.complete,
            max((each for each in behind if each is not None), default=None),
            {
                tier: max(self.unseen_seconds.get(tier, 0), other.unseen_seconds.get(tier, 0))
                for tier in {**self.unseen_seconds, **other.unseen_seconds}
            },
            self.failures + other.failures,
        )

    def with_failure(self, error: Exception, refund_id: str | None = None) -> SweepResult:
        failure = classify(error)
        if refund_id is not None:
            failure = replace(failure, detail={**failure.detail, "refund_id": refund_id})
        return replace(self, failed=self.failed + 1, failures=(*self.failures, failure))


class ReversalSweep:
    def __init__(  # noqa: PLR0913 - its parts, each by keyword
        self,
        *,
        refunds: RefundsTable,
        evidence: Evidence,
        paid: PaidRefunds,
        gateways: Gateways,
        control: Control,
        clock: Clock,
        pool: Pool,
        pages_at_once: int = DEFAULT_PAGES_AT_ONCE,
    ) -> None:
        self._refunds = refunds
        self._evidence = evidence
        self._paid = paid
        self._gateways = gateways
        self._control = control
        self._clock = clock
        self._pool = pool
        self._pages_at_once = pages_at_once

    def sweep(self, deadline: Deadline) -> SweepResult:
        """Continue the sweep of each gateway, each within its share of the time left. Never
        raises."""
        gateways = [gateway for gateway in self._gateways if gateway.can_reverse]
        result = SweepResult()
        unknown = False
        for place, gateway in enumerate(gateways):
            share = deadline.left_seconds() / (len(gateways) - place)
            turn = Turn(deadline.within(max(share, MIN_LEFT_SECONDS)), deadline)
            swept = self._sweep(gateway, turn)
            unknown |= swept.behind_seconds is None
            result = result.plus(swept)
        if unknown and not result.behind_seconds:
            # "Not behind" of one gateway says nothing about the other: the alarm stays as it is.
            result = replace(result, behind_seconds=None)
        return result

    def reverse(self, gateway: Gateway, shown: GatewayRefund, deadline: Deadline) -> bool:
        """Reverse our refund if the gateway shows that the bank sent it back. Returns whether it
        did."""
        if shown.status is not GatewayStatus.FAILED:
            return False
        refund_id = _refund_id_of(shown)
        refund = self._refunds.get(refund_id) if refund_id else None
        if (
            refund is None
            or refund.status is not Status.SUCCEEDED
            or refund.open_shard is not None  # its own look reverses it, once its money is held
            or not _is_of(shown, refund, gateway)
        ):
            return False
        if refund.gateway_refund_id not in (None, shown.gateway_refund_id):
            return False
        # The gateway may have made a second one. While that is paid, so is the refund.
        found = self._evidence.search(refund, deadline)
        if not found:
            # A second one may be missing, too. This fails the page, so it is tried again every
            # hour, and SweepErrors is on until the gateway shows what its list shows.
            raise GatewayUnavailableError("no look-up shows what the list shows as failed")
        if is_live(found):
            return False
        return not isinstance(self._paid.reverse(refund, shown), Later)

    def _mark_paid(self, gateway: Gateway, shown: GatewayRefund, deadline: Deadline) -> bool:
        """Keep a refund in sight that the gateway shows as paid and that ended here without money.
        Returns whether it was not in sight before.

        Its money counts against the payment from now on, so that no other refund overdraws it.
        """
        refund_id = _refund_id_of(shown)
        refund = self._refunds.get(refund_id) if refund_id else None
        if (
            refund is None
            or refund.status not in (Status.FAILED, Status.REJECTED)
            or (refund.seen_paid_at is not None and refund.open_shard is not None)
            or not _is_of(shown, refund, gateway)
        ):
            return False
        # Before it is marked: a run that dies in between, or can't count it, finds it again.
        self._evidence.count_balance(refund, deadline)
        return self._paid.mark(refund)

    def _sweep(self, gateway: Gateway, turn: Turn) -> SweepResult:
        try:
            state = SweepState.from_item(
                self._control.sweep(gateway.name), gateway.account, self._clock.now()
            )
        except Exception as exc:
            # The other sweeps and the other parts of the run continue. The next run tries again.
            return SweepResult(complete=False).with_failure(exc)
        pass_ = _Pass(state, self._pages_at_once, self._clock.monotonic())
        try:
            self._read_pages(gateway, pass_, turn)
        except Exception as exc:
            pass_.result = pass_.result.with_failure(exc)
        try:
            self._control.set_sweep(gateway.name, pass_.state.item())
        except Exception as exc:
            # What this run has read is read again.
            pass_.result = pass_.result.with_failure(exc)
        now = self._clock.now()
        return replace(
            pass_.result,
            complete=pass_.ended and not pass_.state.walks,
            behind_seconds=int(pass_.state.behind(now).total_seconds()),
            unseen_seconds={
                tier: int(unseen.total_seconds())
                for tier, unseen in pass_.state.unseen(now).items()
            },
        )

    def _read_pages(self, gateway: Gateway, pass_: _Pass, turn: Turn) -> None:
        """Read what is due, several pages at once. When nothing is, read on all the same, some
        pages a run: of a short list that is all of it."""
        for _ in range(MAX_ROUNDS):
            if turn.over or not self._plan(gateway, pass_):
                return
            walks = pass_.state.walks[: pass_.at_once]
            steps = list(self._pool.map(lambda walk: self._read(gateway, walk, turn), walks))
            for step in steps:
                self._take_step(gateway, pass_, step, turn)
            if any(step.unreadable for step in steps):
                # The gateway may have a limit: one page after the other, then none in this run.
                if len(steps) == 1:
                    return
                pass_.at_once, pass_.turned_away = 1, True
            self._save_sometimes(gateway, pass_)

    def _plan(self, gateway: Gateway, pass_: _Pass) -> bool:
        """Whether anything is left to read in this run."""
        now = self._clock.now()
        # What could not be read is due. It is read again in the next run, not at once.
        at_once = 0 if pass_.turned_away else pass_.at_once
        planned = pass_.state.planned(now, at_once, any_day=isinstance(gateway, ListsBefore))
        if not planned.walks:
            if pass_.ended or pass_.idle_pages == IDLE_PAGES:
                return False
            pass_.idle_pages += 1
            walks = pass_.state.walks[:1] or (Walk.from_top(now),)
            planned = replace(pass_.state, walks=walks)
        pass_.state = planned
        return True

    def _take_step(self, gateway: Gateway, pass_: _Pass, step: _Step, turn: Turn) -> None:
        pass_.result = pass_.result.plus(step.result)
        if step.page is not None:
            if not step.page.handled and step.walk.tries < MAX_PAGE_TRIES - 1:
                # Once more: without this page its whole day counts as not read.
                pass_.state = pass_.state.after_try(step.walk)
                return
            pass_.state = pass_.state.after(step.walk, step.page, self._clock.now())
            pass_.ended |= step.page.next_cursor is None
            return
        if not step.unreadable:
            return  # The turn ended. The next run reads the page again.
        pass_.state = pass_.state.after_failure(step.walk)
        failed = replace(step.walk, failures=step.walk.failures + 1)
        if failed.failures >= MAX_PAGE_FAILURES and self._reads(gateway, turn):
            # The gateway answers, but not for this page. What the walk has not read is still due.
            pass_.state = pass_.state.without(failed, self._clock.now())

    def _reads(self, gateway: Gateway, turn: Turn) -> bool:
        within = turn.deadline.within(gateway.timeout_seconds)
        try:
            gateway.list_refunds(within, created_from=self._clock.now())
        except GatewayUnavailableError:
            return False
        return True

    def _read(self, gateway: Gateway, walk: Walk, turn: Turn) -> _Step:
        asked_at = self._clock.now()
        try:
            page = self._page(gateway, walk, turn)
            if page.next_cursor is not None and page.next_cursor == walk.cursor:
                raise GatewayUnavailableError("the gateway's list does not go on")
        except Exception as exc:
            return _Step(walk, None, SweepResult().with_failure(exc), unreadable=True)
        result, whole = self._take(gateway, page, turn)
        if not whole:
            return _Step(walk, None, result)
        read = PageRead(
            asked_at=asked_at,
            refunds=len(page.refunds),
            created=_dates(page, from_rfc3339(walk.created_from)),
            next_cursor=page.next_cursor,
            handled=not result.failed,
        )
        return _Step(walk, read, result)

    def _page(self, gateway: Gateway, walk: Walk, turn: Turn) -> RefundPage:
        deadline = turn.deadline.within(gateway.timeout_seconds)
        created_from = from_rfc3339(walk.created_from)
        if walk.created_before is not None and isinstance(gateway, ListsBefore):
            return gateway.list_refunds_before(
                deadline,
                created_from=created_from,
                created_before=from_rfc3339(walk.created_before),
                cursor=walk.cursor,
            )
        return gateway.list_refunds(deadline, created_from=created_from, cursor=walk.cursor)

    def _save_sometimes(self, gateway: Gateway, pass_: _Pass) -> None:
        # A run that is killed loses as much as was read since.
        if self._clock.monotonic() - pass_.saved_at_seconds >= SAVE_EVERY_SECONDS:
            self._control.set_sweep(gateway.name, pass_.state.item())
            pass_.saved_at_seconds = self._clock.monotonic()

    def _take(self, gateway: Gateway, page: RefundPage, turn: Turn) -> tuple[SweepResult, bool]:
        """Handle the page's refunds. One that fails does not stop the others: its day counts as
        not read, and is read again.

        Returns also whether the turn lasted for all of them. What was handled stays handled, so
        each run gets further.
        """
        result = SweepResult(pages=1, unreadable=page.unreadable)
        try:
            to_handle = self._to_handle(page)
        except Exception as exc:
            return result.with_failure(exc), True
        for place, shown in enumerate(to_handle):
            if place and turn.over:
                return result, False
            try:
                if shown.status is GatewayStatus.FAILED:
                    reversed_ = self.reverse(gateway, shown, turn.deadline)
                    result = replace(result, reversed=result.reversed + reversed_)
                else:
                    marked = self._mark_paid(gateway, shown, turn.deadline)
                    result = replace(result, paid_though_ended=result.paid_though_ended + marked)
            except Exception as exc:
                result = result.with_failure(exc, _refund_id_of(shown))
        return result, True

    def _to_handle(self, page: RefundPage) -> list[GatewayRefund]:
        """The page's refunds that differ from what is recorded here, by one request for all of
        them: most failed here, too."""
        ids = [_refund_id_of(shown) for shown in page.refunds]
        known = self._refunds.statuses(list(dict.fromkeys(filter(None, ids))), complete=True)
        return [
            shown
            for refund_id, shown in zip(ids, page.refunds, strict=True)
            if refund_id is not None and _may_differ(shown, known.get(refund_id))
        ]


@dataclass
class _Pass:
    """The sweep of one gateway's list in one run."""

    state: SweepState
    at_once: int
    saved_at_seconds: float
    result: SweepResult = field(default_factory=SweepResult)
    idle_pages: int = 0
    turned_away: bool = False
    """Whether a page could not be read."""
    ended: bool = False
    """Whether a walk came to the end of the list."""


class _Step(NamedTuple):
    """A page of a walk; None if it could not be read, or not handled in time."""

    walk: Walk
    page: PageRead | None
    result: SweepResult
    unreadable: bool = False


def _may_differ(shown: GatewayRefund, status: Status | None) -> bool:
    """Whether the gateway's refund may have to be recorded. ``status``: as it is recorded."""
    if shown.status is GatewayStatus.FAILED:
        # Not there: perhaps the read was too early for it.
        return status in (Status.SUCCEEDED, None)
    return status in (Status.FAILED, Status.REJECTED)


def _dates(page: RefundPage, created_from: datetime) -> list[datetime]:
    """When the page's refunds were created. A date long before what was asked for is none: a
    gateway may show 1970 or year 1 where it has no date, and the list does not end there."""
    earliest = created_from - timedelta(days=1)
    return [
        shown.created_at
        for shown in page.refunds
        if shown.created_at is not None and shown.created_at >= earliest
    ]


def _refund_id_of(shown: GatewayRefund) -> str | None:
    """The refund id that the gateway's refund may be of, whatever stage it began in."""
    if shown.refund_id != NOT_OURS:
        return shown.refund_id
    refund_id = (shown.gateway_reference or "").rpartition(".")[2]
    return refund_id if REFUND_ID.fullmatch(refund_id) else None


def _is_of(shown: GatewayRefund, refund: Refund, gateway: Gateway) -> bool:
    reference = shown.gateway_reference or shown.refund_id
    return (
        refund.gateway == gateway.name
        and refund.gateway_account in (None, gateway.account)
        and refund.reference == reference
    )
