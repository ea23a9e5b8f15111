"""Compares the tables with the gateway's list of refunds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from refunds.domain.clock import CLOCK_SKEW, later
from refunds.gateways.contract import GatewayRefund, GatewayStatus
from refunds_ops.audit.checks import check_gateway
from refunds_ops.audit.cross_check import MAX_READS
from refunds_ops.audit.findings import Finding
from refunds_ops.audit.row_store import RowStore
from refunds_ops.audit.rows import RefundRow, refund_row
from refunds_ops.audit.tables import Tables

Ask = Callable[[str, str, str], Sequence[GatewayRefund] | None]
"""Returns what the named gateway shows for a refund's stored reference and its payment, or None
when no such gateway is configured."""


class GatewayCheck:
    """``listed_at``: when the gateway's list was begun. Without ``ask``, refunds that changed since
    are not compared with it."""

    def __init__(self, tables: Tables, ask: Ask | None, listed_at: str) -> None:
        self._tables = tables
        self._ask = ask
        self._listed_at = listed_at

    def findings(self, store: RowStore) -> Iterator[Finding]:
        for (refund_id,) in store.ask(
            "SELECT reference FROM gateway WHERE status <> 'failed'"
            " AND reference IN (SELECT refund_id FROM refunds) GROUP BY reference"
            " HAVING count(*) > 1"
            " UNION SELECT r.refund_id FROM gateway g JOIN refunds r ON r.refund_id = g.reference"
            " WHERE NOT (g.transaction_id IS r.transaction_id AND g.amount IS r.amount_minor"
            " AND g.currency IS r.currency AND (r.status, g.status) IN (VALUES"
            " ('SUCCEEDED', 'succeeded'), ('PENDING', 'pending'), ('FAILED', 'failed'),"
            " ('REVERSED', 'failed'))"
            " AND coalesce(r.gateway_refund_id, g.gateway_refund_id) IS g.gateway_refund_id)"
            " UNION SELECT refund_id FROM refunds r"
            " WHERE status IN ('SUCCEEDED', 'PENDING', 'REVERSED')"
            " AND NOT EXISTS (SELECT 1 FROM gateway g WHERE g.reference = r.refund_id)"
        ):
            yield from self._refund(store, refund_id)
        for (transaction_id,) in store.ask(
            "SELECT l.transaction_id FROM ledger l"
            " JOIN gateway g ON g.transaction_id = l.transaction_id AND g.status <> 'failed'"
            " GROUP BY l.transaction_id HAVING total(g.amount) > l.captured"
        ):
            yield from self._payment(store, transaction_id)

    def _refund(self, store: RowStore, refund_id: str) -> Iterator[Finding]:
        for _ in range(MAX_READS):
            wire = self._tables.refund(refund_id)
            if wire is None:
                return
            refund = refund_row(wire)
            shown = self._shown(store.listed("reference", refund_id), refund)
            if shown is None:
                return
            if self._tables.refund(refund_id) == wire:
                yield from check_gateway(refund, shown)
                return

    def _payment(self, store: RowStore, transaction_id: str) -> Iterator[Finding]:
        there = self._tables.ledger_of(transaction_id)
        captured = there[0].captured if there else None
        shown = store.listed("transaction_id", transaction_id)
        by_refund: dict[str, list[GatewayRefund]] = {}
        for each in shown:
            by_refund.setdefault(each.refund_id, []).append(each)
        moved = 0
        for refund_id, mine in by_refund.items():
            wire = self._tables.refund(refund_id)
            now = self._shown(mine, refund_row(wire)) if wire else mine
            if now is None:
                return
            moved += sum(
                each.amount_minor
                for each in now
                if each.status is not GatewayStatus.FAILED and each.transaction_id == transaction_id
            )
        if captured is not None and moved > captured:
            yield Finding(
                kind="gateway_overpaid",
                what=f"captured {captured}, refunded {moved}",
                transaction_id=transaction_id,
            )

    def _shown(
        self, listed: Sequence[GatewayRefund], refund: RefundRow
    ) -> Sequence[GatewayRefund] | None:
        """What the gateway shows of a refund. None when the gateway can't be asked.

        Its list is enough, unless the refund may have changed since the list was begun, or is not
        in it: the list has no refunds of connected accounts (Stripe's direct charges), and those
        that began under another ``GatewayStage`` have another name in it.
        """
        is_settled = (refund.updated_at or "") < later(self._listed_at, -CLOCK_SKEW)
        if listed and is_settled:
            return listed
        shown = None
        if self._ask is not None and refund.gateway and refund.transaction_id:
            reference = refund.gateway_reference or refund.refund_id
            shown = self._ask(refund.gateway, reference, refund.transaction_id)
        return listed if shown is None and is_settled else shown
