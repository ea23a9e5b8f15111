"""The ledger is made anew from the refunds and the gateway."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from tests.support.backup_parts import BackedUp, ledger_row, refund
from tests.support.builders import NOW, FakeClock
from tests.support.restored_tables import LATER, again, quiet

from refunds.domain.clock import rfc3339
from refunds.domain.refund import Refund, Status
from refunds.gateways.contract import (
    NOT_OURS,
    GatewayRefund,
    GatewayStatus,
    GatewayUnavailableError,
    Payment,
    PaymentStatus,
    RefundPage,
)
from refunds.gateways.routing import Gateways
from refunds.tables.ledger import Ledger, LedgerTable
from refunds.tables.refunds import RefundsTable, shard_of
from refunds_ops.backup.ledger_rebuild import LedgerRebuild, open_unfinished, rebuilt_ledger
from refunds_ops.backup.progress import Progress, Rebuilt
from refunds_ops.backup.restore import RestoreError


class FakeGateway:
    """One payment of 10.00 EUR for each transaction, and the refunds that it is told of."""

    name = "flair"
    account = "test"
    timeout_seconds = 5.0

    def __init__(self, *refunds: GatewayRefund, fail: int = 0) -> None:
        self.refunds = refunds
        self.fail = fail
        self.asked: list[str] = []

    def get_payment(self, transaction_id: str, deadline: Any) -> Payment | None:
        self.asked.append("payment")
        if self.fail:
            self.fail -= 1
            raise GatewayUnavailableError("busy", retry_after_seconds=3)
        if transaction_id == "tx-unknown":
            return None
        return Payment(transaction_id, PaymentStatus.CAPTURED, "EUR", 1000, 0)

    def list_refunds(self, deadline: Any, *, transaction_id: str, cursor: str | None) -> RefundPage:
        self.asked.append("refunds")
        found = [each for each in self.refunds if each.transaction_id == transaction_id]
        at = int(cursor or 0)
        return RefundPage(tuple(found[at : at + 1]), str(at + 1) if at + 1 < len(found) else None)


def at_gateway(
    reference: str, amount: int, status: GatewayStatus = GatewayStatus.SUCCEEDED
) -> GatewayRefund:
    return GatewayRefund(f"fr-{reference}", "tx-000001", reference, amount, "EUR", status)


def rebuild(
    stack: BackedUp, refunds: list[Refund], progress: Progress, *gateways: FakeGateway
) -> Rebuilt:
    with ThreadPoolExecutor(2) as pool:
        LedgerRebuild(
            ledger=LedgerTable(stack.dynamodb, stack.ledger),
            gateways=Gateways(gateways),  # type: ignore[arg-type]
            clock=FakeClock(),
            pool=pool,
            sleep=lambda seconds: None,
        ).run(refunds, progress, quiet)
    return progress.ledger


def of_one_payment(number: int, amount: int, status: Status) -> Refund:
    return refund(number, transaction_id="tx-000001", amount_minor=amount, status=status)


def test_the_ledger_is_what_refunds_hold_and_the_gateway_shows(
    stack: BackedUp, progress: Progress
) -> None:
    refunds = [
        of_one_payment(1, 100, Status.SUCCEEDED),
        of_one_payment(2, 200, Status.PROCESSING),
        of_one_payment(3, 50, Status.FAILED),
        of_one_payment(4, 25, Status.IN_REVIEW),
    ]
    gateway = FakeGateway(
        at_gateway("rf-000001", 100),
        at_gateway("after-the-backup", 300),
        at_gateway("rf-000003", 50, GatewayStatus.FAILED),
        at_gateway("somebody-elses", 7, GatewayStatus.PENDING),
    )
    found = rebuild(stack, refunds, progress, gateway)
    ledger = LedgerTable(stack.dynamodb, stack.ledger).get("tx-000001")
    assert ledger == Ledger(
        "tx-000001",
        captured=1000,
        remaining=1000 - 100 - 200 - 25 - 300 - 7,
        currency="EUR",
        reservations={"rf-000001": 100, "rf-000002": 200, "rf-000003": 0, "rf-000004": 25},
    )
    assert (found.transactions, found.over_refunded, found.unknown) == (1, [], [])


def test_a_reservation_without_its_refund_stays_and_so_does_a_tombstone(
    stack: BackedUp, progress: Progress
) -> None:
    held = refund(9, transaction_id="tx-000001", amount_minor=40)
    row = ledger_row([held], captured=1000) | {"r#rf-000005": 0}
    stack.put(stack.ledger, row)
    released = of_one_payment(5, 60, Status.PROCESSING)  # as it was before it was released
    rebuild(stack, [of_one_payment(1, 100, Status.SUCCEEDED), released], progress, FakeGateway())
    ledger = LedgerTable(stack.dynamodb, stack.ledger).get("tx-000001")
    assert ledger is not None
    assert ledger.reservations == {"rf-000009": 40, "rf-000001": 100, "rf-000005": 0}
    assert ledger.remaining == 1000 - 140


def test_what_a_person_must_look_at_is_said(stack: BackedUp, progress: Progress) -> None:
    refunds = [of_one_payment(1, 900, Status.SUCCEEDED), refund(2, transaction_id="tx-unknown")]
    gateway = FakeGateway(at_gateway("rf-000001", 900), at_gateway("other", 200))
    found = rebuild(stack, refunds, progress, gateway)
    assert (found.over_refunded, found.unknown) == (["tx-000001"], ["tx-unknown"])


def test_a_busy_gateway_is_asked_again_and_one_that_stays_away_ends_it(
    stack: BackedUp, progress: Progress
) -> None:
    refunds = [of_one_payment(1, 100, Status.SUCCEEDED)]
    rebuild(stack, refunds, progress, FakeGateway(fail=4))
    progress.ledger_after = ""
    with pytest.raises(GatewayUnavailableError):
        rebuild(stack, refunds, progress, FakeGateway(fail=5))


def test_a_rebuild_goes_on_after_the_last_transaction_done_and_keeps_what_it_found(
    stack: BackedUp, progress: Progress
) -> None:
    progress.ledger_after = "tx-000001"
    progress.ledger = Rebuilt(1, over_refunded=["tx-000001"])
    progress.save()
    found = rebuild(stack, [refund(1), refund(2)], again(stack, progress), FakeGateway())
    table = LedgerTable(stack.dynamodb, stack.ledger)
    assert table.get("tx-000001") is None
    assert table.get("tx-000002") is not None
    assert found == Rebuilt(2, over_refunded=["tx-000001"])


def test_the_ledger_is_read_after_the_gateway_was_asked(
    stack: BackedUp, progress: Progress
) -> None:
    # A refund paid in between is in neither answer otherwise: docs/protocol.md, rule 4.
    gateway = FakeGateway()
    stack.dynamodb.meta.events.register(
        "before-call.dynamodb.GetItem", lambda **_: gateway.asked.append("ledger")
    )
    rebuild(stack, [refund(1)], progress, gateway)
    assert gateway.asked == ["payment", "refunds", "ledger"]


def test_a_refunds_own_gateway_is_asked_whatever_todays_route_is(
    stack: BackedUp, progress: Progress
) -> None:
    today, before = FakeGateway(), FakeGateway()
    before.name = "before"
    rejected = of_one_payment(2, 0, Status.REJECTED)  # today's, which hasn't the payment
    rebuild(
        stack,
        [replace(of_one_payment(1, 100, Status.SUCCEEDED), gateway="before"), rejected],
        progress,
        today,
        before,
    )
    assert not today.asked
    assert before.asked
    two = [refund(3), replace(refund(4, transaction_id="tx-000003"), gateway="before")]
    assert rebuild(stack, two, progress, today, before).unknown == ["tx-000003"]


def test_a_payment_of_a_gateway_that_is_gone_is_named_and_holds_nobody_up(
    stack: BackedUp, progress: Progress
) -> None:
    gone = replace(refund(1), gateway="gone")
    told = rebuild(stack, [gone, refund(2)], progress, FakeGateway())
    assert (told.unknown, told.transactions) == (["tx-000001"], 2)


def test_what_is_stored_after_each_step_does_not_grow_with_the_findings(
    stack: BackedUp, progress: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All payments of a gateway that is gone are unknown: a million of them, stored every hundred,
    were gigabytes of progress."""
    monkeypatch.setattr("refunds_ops.backup.progress.MAX_LISTED_KEYS", 2)
    refunds = [refund(number, gateway="gone") for number in range(5)]
    found = rebuild(stack, refunds, progress, FakeGateway())
    assert found.unknown == ["tx-000000", "tx-000001"]
    assert (found.transactions, found.counts) == (5, {"unknown": 5})
    assert again(stack, progress).ledger == found


def test_a_payment_that_never_existed_is_no_finding(stack: BackedUp, progress: Progress) -> None:
    rejected = refund(
        1,
        transaction_id="tx-unknown",
        status=Status.REJECTED,
        failure_code="payment_not_found",
        gateway_refund_id=None,
    )
    assert rebuild(stack, [rejected], progress, FakeGateway()) == Rebuilt(transactions=1)
    progress.ledger_after, progress.ledger = "", Rebuilt()
    holding = refund(2, transaction_id="tx-unknown")
    assert rebuild(stack, [rejected, holding], progress, FakeGateway()).unknown == ["tx-unknown"]


def test_two_refunds_under_one_reference_are_said(stack: BackedUp, progress: Progress) -> None:
    gateway = FakeGateway(
        at_gateway("rf-000001", 100),
        at_gateway("rf-000001", 100),
        at_gateway("rf-000002", 50),
        at_gateway("rf-000002", 50, GatewayStatus.FAILED),
        at_gateway(NOT_OURS, 1),
        at_gateway(NOT_OURS, 1),
    )
    refunds = [of_one_payment(1, 100, Status.SUCCEEDED)]
    assert rebuild(stack, refunds, progress, gateway).doubled == ["tx-000001"]
    alone = FakeGateway(*gateway.refunds[1:])
    progress.ledger_after, progress.ledger = "", Rebuilt()
    assert rebuild(stack, refunds, progress, alone).doubled == []


def test_a_ledger_that_keeps_changing_ends_the_rebuild(
    stack: BackedUp, progress: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LedgerTable, "replace", lambda *_: False)
    with pytest.raises(RestoreError, match="tx-000001 keeps changing"):
        rebuild(stack, [refund(1)], progress, FakeGateway())


def test_a_ledger_that_changes_under_the_rebuild_is_read_again(stack: BackedUp) -> None:
    table = LedgerTable(stack.dynamodb, stack.ledger)
    payment = Payment("tx-1", PaymentStatus.CAPTURED, "EUR", 1000, 0)
    assert table.replace(None, rebuilt_ledger("tx-1", None, {"a": 100}, payment, ()))
    read = table.get("tx-1")
    table.release("tx-1", "a")
    assert not table.replace(read, rebuilt_ledger("tx-1", read, {"a": 100}, payment, ()))
    read = table.get("tx-1")
    table.release("tx-1", "b")  # only a tombstone: remaining is as it was
    assert not table.replace(read, rebuilt_ledger("tx-1", read, {"b": 5}, payment, ()))


def test_unfinished_refunds_are_opened_for_the_reconciler(stack: BackedUp) -> None:
    clock = FakeClock()
    table = RefundsTable(stack.dynamodb, stack.refunds)
    unfinished = [
        refund(number, status=status)
        for number, status in enumerate((Status.PROCESSING, Status.PENDING, Status.IN_REVIEW))
    ]
    was_open = refund(7, status=Status.PENDING, open_since=LATER, open_shard="3", check_at=LATER)
    for each in (*unfinished, was_open, refund(8)):
        stack.put(stack.refunds, each.item())
    refunds = [table.get(f"rf-{number:06d}") for number in (0, 1, 2, 7, 8)]
    assert open_unfinished(table, [each for each in refunds if each], clock) == 3
    for each in unfinished:
        now = table.get(each.refund_id)
        assert now is not None
        assert now.open_since == now.check_at == rfc3339(NOW)
        assert now.open_shard == shard_of(each.refund_id)
        assert now.version == each.version  # nothing that is audited changed
    assert table.get("rf-000007") == was_open
    assert table.get("rf-000008") == refund(8)
