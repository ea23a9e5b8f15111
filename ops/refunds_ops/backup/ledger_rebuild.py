"""After a restore: rebuilds the ledger from refunds and gateway, and opens unfinished refunds.

The restored tables may lack changes that were made after the backup. The gateway has them.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from itertools import groupby, islice
from types import MappingProxyType
from typing import TypeVar

from refunds.domain.clock import Clock, Deadline, rfc3339
from refunds.domain.refund import ENDED_WITHOUT_MONEY, UNFINISHED, Refund, Status
from refunds.gateways.contract import (
    NOT_OURS,
    Gateway,
    GatewayRefund,
    GatewayStatus,
    GatewayUnavailableError,
    Payment,
)
from refunds.gateways.routing import Gateways
from refunds.tables.ledger import Ledger, LedgerTable
from refunds.tables.refunds import RefundsTable, shard_of
from refunds_ops.backup.progress import Progress
from refunds_ops.backup.restore import OnProgress, RestoreError
from refunds_ops.backup.scratch_database import scratch_database

T = TypeVar("T")

TRIES = 5
MAX_PAGES = 50
AT_ONCE = 100
QUESTION_SECONDS = 60.0


@dataclass(frozen=True)
class Held:
    """What each refund of a transaction holds (0 when it ended without money), and the gateways to
    which they were sent."""

    transaction_id: str
    amounts: dict[str, int]
    gateways: frozenset[str]
    refund_ids: dict[str, str]
    """Refund ids by the reference that each refund began with, in whatever stage."""
    succeeded: frozenset[str]


class LedgerRebuild:
    def __init__(
        self,
        *,
        ledger: LedgerTable,
        gateways: Gateways,
        clock: Clock,
        pool: Executor,
        sleep: Callable[[float], None],
    ) -> None:
        self._ledger = ledger
        self._gateways = gateways
        self._clock = clock
        self._pool = pool
        self._sleep = sleep

    def run(self, refunds: Iterable[Refund], progress: Progress, on_progress: OnProgress) -> None:
        """Rebuild the ledger of every transaction that has refunds, in order of their ids.

        The results are in ``progress.ledger``. Raises ``GatewayUnavailableError`` when a call
        failed five times, and ``RestoreError`` for a ledger that keeps changing.
        """
        found = progress.ledger
        with scratch_database() as database:
            holdings = _Holdings(database, refunds)
            total = holdings.transactions()
            left = holdings.after(progress.ledger_after)
            while chunk := list(islice(left, AT_ONCE)):
                for held, findings in zip(chunk, self._pool.map(self._rebuild, chunk), strict=True):
                    for finding in findings:
                        found.add(finding, held.transaction_id)
                found.transactions += len(chunk)
                progress.ledger_after = chunk[-1].transaction_id
                progress.save()
                on_progress("ledger", found.transactions, total)

    def _rebuild(self, held: Held) -> list[str]:
        """The lists of ``Rebuilt`` to which the transaction belongs."""
        transaction_id = held.transaction_id
        # A payment that no gateway knows is correct if none of its money is held: its refunds were
        # rejected as payment_not_found.
        unknown = ["unknown"] if any(held.amounts.values()) else []
        if len(held.gateways) > 1:
            return unknown
        try:
            # The refunds' own gateway, whatever the current route is.
            gateway = self._gateways.named(*held.gateways)
        except GatewayUnavailableError:
            return unknown  # no longer configured: asking again won't help
        for _ in range(TRIES):
            # The order of docs/protocol.md, rule 4: payment, its refunds, then the ledger.
            payment = self._ask(lambda until: gateway.get_payment(transaction_id, until))
            if payment is None:
                return unknown
            at_gateway, unreadable = self._ask(
                lambda until: _refunds_of(gateway, transaction_id, until)
            )
            read = self._ledger.get(transaction_id)
            new = rebuilt_ledger(
                transaction_id,
                read,
                held.amounts,
                payment,
                at_gateway,
                refund_ids=held.refund_ids,
                succeeded=held.succeeded,
            )
            if unreadable or _live_minor(at_gateway) < payment.refunded_minor:
                # What the list leaves out is known by the payment's sum alone, and only if nothing
                # was moved meanwhile.
                after = self._ask(lambda until: gateway.get_payment(transaction_id, until))
                if after is None or after.refunded_minor != payment.refunded_minor:
                    continue
            if self._ledger.replace(read, new):
                over = ["over_refunded"] if (new.remaining or 0) < 0 else []
                return over + (["doubled"] if _doubled(at_gateway, held.refund_ids) else [])
        raise RestoreError(f"the ledger of {transaction_id} keeps changing; are requests paused?")

    def _ask(self, question: Callable[[Deadline], T]) -> T:
        for again in range(TRIES):
            try:
                return question(Deadline.after(self._clock, QUESTION_SECONDS))
            except GatewayUnavailableError as exc:
                if again == TRIES - 1:
                    raise
                self._sleep(min(exc.retry_after_seconds or 2.0**again, 60.0))
        raise AssertionError


def rebuilt_ledger(  # noqa: PLR0913 - everything that the balance is made of
    transaction_id: str,
    read: Ledger | None,
    held: dict[str, int],
    payment: Payment,
    at_gateway: Iterable[GatewayRefund],
    *,
    refund_ids: Mapping[str, str] = MappingProxyType({}),
    succeeded: Collection[str] = (),
) -> Ledger:
    """The ledger according to the refunds and the gateway.

    ``held``: what each refund in the table holds, 0 when it ended without money. A reservation that
    ``read`` has of a refund that is not in the table stays (I6): its message may come yet.
    ``refund_ids``: by reference, for refunds that began in another stage than the current one.
    ``succeeded``: ids of refunds whose money has moved. A tombstone stays, too: the reconciler may
    have released since ``held`` was read.
    """
    before = read.reservations if read else {}
    released = {refund_id: 0 for refund_id, amount in before.items() if amount == 0}
    reservations = {**before, **held, **released}
    moved: Counter[str] = Counter()
    failed: set[str] = set()
    for each in at_gateway:
        if each.status is GatewayStatus.FAILED:
            failed.add(_refund_id_of(each, refund_ids))
        else:
            moved[_refund_id_of(each, refund_ids)] += each.amount_minor
    # Other systems' refunds, and what the gateway moved for ours beyond the amounts that were asked
    # for.
    foreign = sum(
        max(0, amount - max(0, reservations.get(reference, 0)))
        for reference, amount in moved.items()
    )
    # The payment may show more than its list does (yet). The difference is another system's, but
    # for refunds of ours that succeeded and that the list does not show either. Refunds under way
    # may never have moved, and what the list shows as failed is not part of the payment's sum.
    ours_unlisted = sum(
        max(0, held - moved[name])
        for name, held in reservations.items()
        if name in succeeded and name not in failed
    )
    unlisted = payment.refunded_minor - sum(moved.values())
    foreign += max(0, unlisted - ours_unlisted)
    return Ledger(
        transaction_id,
        captured=payment.captured_minor,
        remaining=payment.captured_minor
        - payment.disputed_minor
        - foreign
        - sum(reservations.values()),
        currency=payment.currency,
        reservations=reservations,
    )


def _refund_id_of(shown: GatewayRefund, refund_ids: Mapping[str, str]) -> str:
    return refund_ids.get(shown.gateway_reference or shown.refund_id, shown.refund_id)


def _doubled(at_gateway: Iterable[GatewayRefund], refund_ids: Mapping[str, str]) -> bool:
    """Whether two refunds of ours that didn't fail have one reference."""
    references = Counter(
        _refund_id_of(each, refund_ids)
        for each in at_gateway
        if each.status is not GatewayStatus.FAILED
    )
    return any(count > 1 for name, count in references.items() if name != NOT_OURS)


def _live_minor(at_gateway: Iterable[GatewayRefund]) -> int:
    return sum(each.amount_minor for each in at_gateway if each.status is not GatewayStatus.FAILED)


def _refunds_of(
    gateway: Gateway, transaction_id: str, until: Deadline
) -> tuple[list[GatewayRefund], int]:
    """All refunds of a payment, and how many more rows can't be read."""
    found: list[GatewayRefund] = []
    unreadable = 0
    cursor: str | None = None
    for _ in range(MAX_PAGES):
        page = gateway.list_refunds(until, transaction_id=transaction_id, cursor=cursor)
        found += page.refunds
        unreadable += page.unreadable
        if (cursor := page.next_cursor) is None:
            return found, unreadable
    raise GatewayUnavailableError(f"more than {MAX_PAGES} pages of refunds of one transaction")


class _Holdings:
    """What each transaction's refunds hold, on disk, since there can be millions."""

    def __init__(self, database: sqlite3.Connection, refunds: Iterable[Refund]) -> None:
        self._database = database
        database.execute(
            "CREATE TABLE held (transaction_id TEXT, refund_id TEXT, amount INTEGER, gateway TEXT,"
            " reference TEXT, succeeded INTEGER,"
            " PRIMARY KEY (transaction_id, refund_id)) WITHOUT ROWID"
        )
        database.executemany(
            "INSERT OR REPLACE INTO held VALUES (?, ?, ?, ?, ?, ?)",
            (
                (
                    each.transaction_id,
                    each.refund_id,
                    holds(each),
                    each.gateway,
                    each.reference,
                    each.status is Status.SUCCEEDED,
                )
                for each in refunds
            ),
        )
        database.commit()

    def transactions(self) -> int:
        (count,) = self._database.execute(
            "SELECT COUNT(DISTINCT transaction_id) FROM held"
        ).fetchone()
        return int(count)

    def after(self, transaction_id: str) -> Iterator[Held]:
        rows = self._database.execute(
            "SELECT * FROM held WHERE transaction_id > ? ORDER BY transaction_id",
            (transaction_id,),
        )
        for found, group in groupby(rows, key=lambda row: str(row[0])):
            refunds = list(group)
            # A refund that holds nothing may have gone to a gateway that doesn't have the payment.
            paying = {gateway for _, _, amount, gateway, *_ in refunds if amount}
            yield Held(
                found,
                {refund_id: amount for _, refund_id, amount, *_ in refunds},
                frozenset(paying or {gateway for *_, gateway, _, _ in refunds}),
                {reference: refund_id for _, refund_id, *_, reference, _ in refunds},
                frozenset(refund_id for _, refund_id, *_, succeeded in refunds if succeeded),
            )


def holds(refund: Refund) -> int:
    """What a refund holds of its transaction's money: nothing if it ended without money."""
    return 0 if refund.status in ENDED_WITHOUT_MONEY else refund.amount_minor or 0


def open_unfinished(table: RefundsTable, refunds: Iterable[Refund], clock: Clock) -> int:
    """Put every unfinished refund into the index of open refunds, due now. Returns their number.

    Their messages may be gone, so the reconciler finds them only through that index.
    """
    opened = 0
    for refund in refunds:
        if refund.status not in UNFINISHED or refund.open_shard is not None:
            continue
        now = rfc3339(clock.now())
        opened += table.save(
            refund,
            replace(
                refund,
                open_since=refund.open_since or now,
                open_shard=shard_of(refund.refund_id),
                check_at=now,
            ),
        )
    return opened
