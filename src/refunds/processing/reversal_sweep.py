"""Finds late reversals: refunds in the gateway's list that the bank has sent back."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace

from refunds.domain.clock import Clock, Deadline, from_rfc3339, rfc3339
from refunds.domain.identifiers import REFUND_ID
from refunds.domain.refund import Item, Refund, Status
from refunds.failures import Failure, classify
from refunds.gateways.contract import (
    NOT_OURS,
    Gateway,
    GatewayRefund,
    GatewayStatus,
    GatewayUnavailableError,
    RefundPage,
)
from refunds.gateways.routing import Gateways
from refunds.processing.balance import BalanceContendedError
from refunds.processing.recorder import Later
from refunds.processing.settler import SWEEP_BACK, Settler
from refunds.processing.turns import MIN_LEFT_SECONDS, Turn
from refunds.tables.refunds import RefundsTable
from refunds.tables.state import Control

MAX_SWEEP_PAGES = 50
MAX_CURSOR_FAILURES = 3


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
    behind_seconds: int = 0
    """How long the longest unfinished sweep has been running."""
    failures: tuple[Failure, ...] = ()

    def plus(self, other: SweepResult) -> SweepResult:
        return SweepResult(
            self.pages + other.pages,
            self.reversed + other.reversed,
            self.paid_though_ended + other.paid_though_ended,
            self.failed + other.failed,
            self.unreadable + other.unreadable,
            self.complete and other.complete,
            max(self.behind_seconds, other.behind_seconds),
            self.failures + other.failures,
        )

    def with_failure(self, error: Exception) -> SweepResult:
        return replace(self, failed=self.failed + 1, failures=(*self.failures, classify(error)))


class ReversalSweep:
    def __init__(
        self,
        *,
        refunds: RefundsTable,
        settler: Settler,
        gateways: Gateways,
        control: Control,
        clock: Clock,
    ) -> None:
        self._refunds = refunds
        self._settler = settler
        self._gateways = gateways
        self._control = control
        self._clock = clock

    def sweep(self, deadline: Deadline) -> SweepResult:
        """Continue the sweep of each gateway, each within its share of the time left. Never
        raises."""
        gateways = [gateway for gateway in self._gateways if gateway.can_reverse]
        result = SweepResult()
        for place, gateway in enumerate(gateways):
            share = deadline.left_seconds() / (len(gateways) - place)
            turn = Turn(deadline.within(max(share, MIN_LEFT_SECONDS)), deadline)
            result = result.plus(self._sweep(gateway, turn))
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
            or not _is_of(shown, refund, gateway)
        ):
            return False
        if refund.gateway_refund_id is None:
            # A person decided that it was paid, but not by which of the gateway's refunds.
            found = gateway.find_refunds(
                refund.reference,
                refund.transaction_id,
                deadline.within(gateway.timeout_seconds),
            )
            if any(each.status is not GatewayStatus.FAILED for each in found):
                return False
        elif refund.gateway_refund_id != shown.gateway_refund_id:
            return False
        return not isinstance(self._settler.reverse(refund, shown), Later)

    def _mark_paid(self, gateway: Gateway, page: RefundPage, deadline: Deadline) -> int:
        """Keep in sight what the page shows as paid and ended here without money; how many.

        Its money counts against the payment from now on, so that no other refund overdraws it.
        """
        live = {
            refund_id: shown
            for shown in page.refunds
            if shown.status is not GatewayStatus.FAILED and (refund_id := _refund_id_of(shown))
        }
        ended = [
            refund_id
            for refund_id, status in self._refunds.statuses(list(live)).items()
            if status in (Status.FAILED, Status.REJECTED)
        ]
        marked = 0
        for refund_id in ended:
            refund = self._refunds.get(refund_id)
            if (
                refund is not None
                and refund.status in (Status.FAILED, Status.REJECTED)
                and (refund.seen_paid_at is None or refund.open_shard is None)
                and _is_of(live[refund_id], refund, gateway)
            ):
                marked += self._settler.mark_paid(refund)
                with suppress(GatewayUnavailableError, BalanceContendedError):
                    self._settler.count_balance(refund, deadline)
        return marked

    def _sweep(self, gateway: Gateway, turn: Turn) -> SweepResult:
        result = SweepResult(complete=False)
        try:
            position = self._control.sweep_position(gateway.name)
            for _ in range(MAX_SWEEP_PAGES):
                if turn.over:
                    break
                page = self._next_page(gateway, position, turn)
                result = result.plus(self._take(gateway, page, turn))
                position = self._advance(gateway, position, page)
                if page.next_cursor is None:
                    return replace(result, complete=True)
            return replace(result, behind_seconds=self._behind(position))
        except Exception as exc:
            # The other sweeps and the other parts of the run continue. The next run tries again.
            return result.with_failure(exc)

    def _next_page(self, gateway: Gateway, position: Item, turn: Turn) -> RefundPage:
        cursor = position.get("cursor")
        created_from = position.get("created_from") or self._start()
        try:
            return gateway.list_refunds(
                turn.deadline.within(gateway.timeout_seconds),
                created_from=from_rfc3339(created_from),
                cursor=cursor,
            )
        except GatewayUnavailableError:
            # A cursor that the gateway no longer accepts would stop the sweep for good.
            failures = position.get("failures", 0) + 1
            again = cursor is not None and failures >= MAX_CURSOR_FAILURES
            self._control.set_sweep_position(
                gateway.name,
                self._start() if again else created_from,
                None if again else cursor,
                0 if again else failures,
            )
            raise

    def _take(self, gateway: Gateway, page: RefundPage, turn: Turn) -> SweepResult:
        """Reverse what the page shows as sent back. One that fails does not stop the others: the
        next sweep shows it again."""
        result = SweepResult(pages=1, unreadable=page.unreadable)
        for shown in page.refunds:
            try:
                reversed_ = self.reverse(gateway, shown, turn.deadline)
                result = replace(result, reversed=result.reversed + reversed_)
            except Exception as exc:
                result = result.with_failure(exc)
        try:
            result = replace(
                result, paid_though_ended=self._mark_paid(gateway, page, turn.deadline)
            )
        except Exception as exc:
            result = result.with_failure(exc)
        return replace(result, complete=False)

    def _advance(self, gateway: Gateway, position: Item, page: RefundPage) -> Item:
        created_from = position.get("created_from") or self._start()
        if page.next_cursor is None:
            created_from = self._start()
        self._control.set_sweep_position(gateway.name, created_from, page.next_cursor, 0)
        return {"created_from": created_from, "cursor": page.next_cursor}

    def _start(self) -> str:
        return rfc3339(self._clock.now() - SWEEP_BACK)

    def _behind(self, position: Item) -> int:
        began = from_rfc3339(position.get("created_from") or self._start()) + SWEEP_BACK
        return max(0, int((self._clock.now() - began).total_seconds()))


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
