"""After a restore: the ledger made anew from refunds and gateway, and unfinished refunds opened.

The restored tables may lack what happened after the backup. The gateway doesn't.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import groupby, islice
from typing import TypeVar

from refunds.gateway import (
    Gateway,
    GatewayRefund,
    GatewayStatus,
    GatewayUnavailableError,
    Payment,
)
from refunds.ledger_table import Ledger, LedgerTable
from refunds.refund import ENDED_WITHOUT_MONEY, Refund, Status
from refunds.refunds_table import RefundsTable, shard_of
from refunds.times import Clock, Deadline, rfc3339
from refunds_ops.backup.restoring import Progress, Tell

LOOK_UP_FIRST_FOR = timedelta(days=14 + 14)
"""The longest that a message can be on its way (the dead-letter queue's 14 days), and as long
again for the hands that redrive it."""

UNFINISHED = frozenset({Status.PROCESSING, Status.PENDING, Status.IN_REVIEW})

T = TypeVar("T")

TRIES = 5
MAX_PAGES = 50
AT_ONCE = 100
QUESTION_SECONDS = 60.0


@dataclass
class Rebuilt:
    """What became of the ledger: how many transactions, and which need a person."""

    transactions: int = 0
    over_refunded: list[str] = field(default_factory=list)
    """More was refunded than captured, by the gateway's own word."""
    unknown: list[str] = field(default_factory=list)
    """The gateway doesn't know the payment; the ledger stays as it was in the backup."""


class LedgerRebuild:
    """``gateway_of``: the gateway that a transaction's refunds go to."""

    def __init__(
        self,
        *,
        ledger: LedgerTable,
        gateway_of: Callable[[str], Gateway],
        clock: Clock,
        pool: Executor,
        sleep: Callable[[float], None],
    ) -> None:
        self._ledger = ledger
        self._gateway_of = gateway_of
        self._clock = clock
        self._pool = pool
        self._sleep = sleep

    def run(self, refunds: Iterable[Refund], progress: Progress, tell: Tell) -> Rebuilt:
        """Rebuild the ledger of every transaction that has refunds, in order of their ids.

        Raises ``GatewayUnavailableError`` when a question had no answer five times.
        """
        found = Rebuilt()
        with _Holdings(refunds) as holdings:
            total = holdings.transactions()
            found.transactions = total - holdings.transactions(progress.ledger_after)
            left = holdings.after(progress.ledger_after)
            while chunk := list(islice(left, AT_ONCE)):
                for (transaction_id, _), verdict in zip(
                    chunk, self._pool.map(lambda each: self._rebuild(*each), chunk), strict=True
                ):
                    if verdict is not None:
                        getattr(found, verdict).append(transaction_id)
                found.transactions += len(chunk)
                progress.ledger_after = chunk[-1][0]
                progress.save()
                tell("ledger", found.transactions, total)
        return found

    def _rebuild(self, transaction_id: str, held: dict[str, int]) -> str | None:
        gateway = self._gateway_of(transaction_id)
        for _ in range(TRIES):
            # The order of docs/protocol.md, rule 4: payment, its refunds, then the ledger.
            payment = self._ask(lambda until: gateway.get_payment(transaction_id, until))
            if payment is None:
                return "unknown"
            at_gateway = self._ask(lambda until: _refunds_of(gateway, transaction_id, until))
            read = self._ledger.get(transaction_id)
            new = rebuilt_ledger(transaction_id, read, held, payment, at_gateway)
            if self._ledger.replace(read, new):
                return "over_refunded" if (new.remaining or 0) < 0 else None
        raise RuntimeError(f"the ledger of {transaction_id} keeps changing: is the queue closed?")

    def _ask(self, question: Callable[[Deadline], T]) -> T:
        for again in range(TRIES):
            try:
                return question(Deadline.after(self._clock, QUESTION_SECONDS))
            except GatewayUnavailableError as exc:
                if again == TRIES - 1:
                    raise
                self._sleep(min(exc.retry_after_seconds or 2.0**again, 60.0))
        raise AssertionError


def rebuilt_ledger(
    transaction_id: str,
    read: Ledger | None,
    held: dict[str, int],
    payment: Payment,
    at_gateway: Iterable[GatewayRefund],
) -> Ledger:
    """The ledger by what refunds and gateway say.

    ``held``: what each refund in the table holds, 0 when it ended without money. A reservation
    that ``read`` has of a refund that is not in the table stays (I6): its message may come yet.
    A tombstone stays, too: the reconciler may have released since ``held`` was read.
    """
    before = read.reservations if read else {}
    released = {refund_id: 0 for refund_id, amount in before.items() if amount == 0}
    reservations = {**before, **held, **released}
    foreign = sum(
        each.amount_minor
        for each in at_gateway
        if each.status is not GatewayStatus.FAILED and reservations.get(each.reference, 0) <= 0
    )
    return Ledger(
        transaction_id,
        captured=payment.captured_minor,
        remaining=payment.captured_minor - foreign - sum(reservations.values()),
        currency=payment.currency,
        reservations=reservations,
    )


def _refunds_of(gateway: Gateway, transaction_id: str, until: Deadline) -> list[GatewayRefund]:
    found: list[GatewayRefund] = []
    cursor: str | None = None
    for _ in range(MAX_PAGES):
        page = gateway.list_refunds(until, transaction_id=transaction_id, cursor=cursor)
        found += page.refunds
        if (cursor := page.next_cursor) is None:
            return found
    raise GatewayUnavailableError(f"more than {MAX_PAGES} pages of refunds of one transaction")


class _Holdings:
    """What each transaction's refunds hold, on disk: there may be millions."""

    def __init__(self, refunds: Iterable[Refund]) -> None:
        self._file = tempfile.NamedTemporaryFile(prefix="refunds-", suffix=".sqlite3")  # noqa: SIM115 - closed in __exit__
        self._database = sqlite3.connect(self._file.name)
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute(
            "CREATE TABLE held (transaction_id TEXT, refund_id TEXT, amount INTEGER,"
            " PRIMARY KEY (transaction_id, refund_id)) WITHOUT ROWID"
        )
        self._database.executemany(
            "INSERT OR REPLACE INTO held VALUES (?, ?, ?)",
            ((each.transaction_id, each.refund_id, holds(each)) for each in refunds),
        )
        self._database.commit()

    def __enter__(self) -> _Holdings:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()
        self._file.close()

    def transactions(self, after: str = "") -> int:
        (count,) = self._database.execute(
            "SELECT COUNT(DISTINCT transaction_id) FROM held WHERE transaction_id > ?", (after,)
        ).fetchone()
        return int(count)

    def after(self, transaction_id: str) -> Iterator[tuple[str, dict[str, int]]]:
        rows = self._database.execute(
            "SELECT * FROM held WHERE transaction_id > ? ORDER BY transaction_id",
            (transaction_id,),
        )
        for found, group in groupby(rows, key=lambda row: str(row[0])):
            yield found, {refund_id: amount for _, refund_id, amount in group}


def holds(refund: Refund) -> int:
    """What a refund holds of its transaction's money: nothing if it ended without any."""
    return 0 if refund.status in ENDED_WITHOUT_MONEY else refund.amount_minor or 0


def open_unfinished(table: RefundsTable, refunds: Iterable[Refund], clock: Clock) -> int:
    """Put every unfinished refund into the index of open ones, due now; how many there were.

    Their messages may be gone; the reconciler finds them through that index only.
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
