"""Holding money: never more than is there, and learning from the gateway what others did."""

from __future__ import annotations

from typing import Any
from unittest.mock import Mock

import pytest
from tests.support.builders import LEFT_OUT, payment, refund, request, shown
from tests.support.world import World

from refunds.domain.audit_entry import audit_entry
from refunds.domain.refund import Status
from refunds.gateways.contract import NOT_OURS, GatewayStatus, PaymentStatus
from refunds.processing.balance import (
    MAX_HELD_AGAIN,
    Balance,
    BalanceContendedError,
    PaymentGoneError,
)
from refunds.processing.reserver import Contended, NotPossible, Reserved, Reserver, Seen
from refunds.tables.ledger import LedgerTable


def reserve(world: World, **changes: Any) -> Reserved | NotPossible | Seen | Contended:
    asked = request(**changes)
    return world.reserver.reserve(asked, world.ledger.get(asked.transaction_id), world.deadline())


def test_the_first_refund_of_a_payment_begins_its_ledger_from_the_gateway(world: World) -> None:
    world.gateway.payments["payment-1"] = payment(refunded_minor=4000)

    assert reserve(world) == Reserved(2500, seen_at_gateway=True)
    assert (world.held(), world.remaining()) == (2500, 3500)


def test_the_first_refund_of_a_payment_without_refunds_asks_the_gateway_once(world: World) -> None:
    assert reserve(world) == Reserved(2500)
    assert (world.held(), world.remaining()) == (2500, 7500)
    assert world.gateway.calls == ["get_payment"]


def test_the_next_refund_does_not_ask_the_gateway(world: World) -> None:
    world.open_ledger("payment-1", "refund-0", 1000)

    assert reserve(world) == Reserved(2500)
    assert world.remaining() == 6500
    assert world.gateway.calls == []


@pytest.mark.parametrize("begun", [False, True])
def test_without_an_amount_all_that_remains_is_held(world: World, begun: bool) -> None:
    if begun:
        world.open_ledger("payment-1", "refund-0", 1000)
    else:
        world.gateway.payments["payment-1"] = payment(refunded_minor=1000)

    assert reserve(world, amount_minor=LEFT_OUT) == Reserved(9000, seen_at_gateway=not begun)
    assert (world.held(), world.remaining()) == (9000, 0)


def test_a_refund_that_reserved_before_is_seen(world: World) -> None:
    reserve(world)

    assert reserve(world) == Seen()
    assert world.remaining() == 7500


def test_a_released_refund_is_seen_and_reserves_nothing(world: World) -> None:
    world.ledger.release("payment-1", "refund-1")

    assert reserve(world) == Seen()


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"status": PaymentStatus.AUTHORIZED}, "payment_not_captured"),
        ({"status": PaymentStatus.VOIDED}, "payment_not_captured"),
        ({"status": PaymentStatus.DISPUTED}, "payment_disputed"),
        ({"currency": "EUR"}, "currency_mismatch"),
    ],
    ids=str,
)
def test_a_payment_that_cant_be_refunded_begins_no_ledger(
    world: World, changes: dict[str, Any], code: str
) -> None:
    world.gateway.payments["payment-1"] = payment(**changes)

    answer = reserve(world)
    assert isinstance(answer, NotPossible)
    assert answer.code == code
    assert world.ledger.get("payment-1") is None


def test_a_payment_that_the_gateway_does_not_know_is_not_possible(world: World) -> None:
    world.gateway.payments.clear()

    answer = reserve(world)
    assert isinstance(answer, NotPossible)
    assert answer.code == "payment_not_found"


def test_another_currency_than_the_ledgers_is_not_possible(world: World) -> None:
    world.open_ledger("payment-1", "refund-0", 1000)

    answer = reserve(world, currency="EUR")
    assert isinstance(answer, NotPossible)
    assert answer.code == "currency_mismatch"
    assert world.held() is None


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize(
    ("amount", "code"), [(9_001, "amount_exceeds_balance"), (LEFT_OUT, "nothing_to_refund")]
)
def test_what_is_over_the_balance_is_not_possible_after_a_recount(
    world: World, begun: bool, amount: int, code: str
) -> None:
    taken = 1000 if amount is not LEFT_OUT else 10_000
    if begun:
        world.open_ledger("payment-1", "refund-0", taken)
    else:
        world.gateway.refunds.append(shown(refund_id="refund-0", amount_minor=taken))
        world.gateway.payments["payment-1"] = payment(refunded_minor=taken)

    answer = reserve(world, amount_minor=amount)
    assert isinstance(answer, NotPossible)
    assert answer.code == code
    assert world.held() is None
    # Payment first, then its refunds: the ledger is read after both.
    assert world.gateway.calls[-2:] == ["get_payment", "list_refunds"]


def test_before_rejecting_the_ledger_learns_that_others_refunds_failed(world: World) -> None:
    # The ledger was begun while another's refund was pending; it has failed since.
    assert world.ledger.open(
        "payment-1",
        captured_minor=10_000,
        remaining_minor=2000,
        currency="USD",
        refund_id="refund-0",
        amount_minor=1000,
    )
    world.gateway.refunds.append(
        shown(refund_id="theirs", amount_minor=8000, status=GatewayStatus.FAILED)
    )

    assert reserve(world) == Reserved(2500)
    assert world.remaining() == 10_000 - 1000 - 2500


def test_a_payment_that_became_disputed_is_noticed_before_rejecting(world: World) -> None:
    world.open_ledger("payment-1", "refund-0", 9000)
    world.gateway.payments["payment-1"] = payment(status=PaymentStatus.DISPUTED)

    answer = reserve(world)
    assert isinstance(answer, NotPossible)
    assert answer.code == "payment_disputed"


def test_a_refund_that_only_the_gateway_has_is_adopted(world: World) -> None:
    world.gateway.payments["payment-1"] = payment(refunded_minor=10_000)
    world.gateway.refunds += [shown(), shown(refund_id="theirs", amount_minor=7500)]

    assert reserve(world) == Reserved(2500, seen_at_gateway=True, adopted=True)
    assert (world.held(), world.remaining()) == (2500, 0)


def test_without_an_amount_an_adopted_refunds_is_its_own(world: World) -> None:
    world.gateway.payments["payment-1"] = payment(refunded_minor=10_000)
    world.gateway.refunds += [shown(amount_minor=4000), shown(refund_id="x", amount_minor=6000)]

    assert reserve(world, amount_minor=LEFT_OUT) == Reserved(
        4000, seen_at_gateway=True, adopted=True
    )


def test_a_failed_refund_of_this_id_at_the_gateway_is_not_adopted(world: World) -> None:
    world.open_ledger("payment-1", "refund-0", 9000)
    world.gateway.refunds.append(shown(status=GatewayStatus.FAILED))

    assert isinstance(reserve(world), NotPossible)
    assert world.held() is None


def recounted(world: World) -> int | None:
    Balance(world.ledger, world.refunds, world.audit).count(
        "payment-1", "refund-9", world.gateway, world.deadline()
    )
    return world.remaining()


def test_ours_are_counted_once_though_both_sides_have_them(world: World) -> None:
    world.open_ledger("payment-1", "refund-1", 2500)
    world.gateway.refunds.append(shown())

    assert recounted(world) == 7500


def test_foreign_pending_and_succeeded_refunds_count_and_failed_ones_do_not(world: World) -> None:
    world.open_ledger("payment-1", "refund-1", 2500)
    world.gateway.refunds += [
        shown(refund_id="a", amount_minor=100, status=GatewayStatus.PENDING),
        shown(refund_id="b", amount_minor=20, status=GatewayStatus.SUCCEEDED),
        shown(refund_id="c", amount_minor=3, status=GatewayStatus.FAILED),
    ]

    assert recounted(world) == 10_000 - 2500 - 120


def test_a_released_refund_that_the_gateway_paid_all_the_same_counts_as_foreign(
    world: World,
) -> None:
    world.open_ledger("payment-1", "refund-1", 2500)
    world.ledger.release("payment-1", "refund-1")
    world.gateway.refunds.append(shown())

    assert recounted(world) == 7500


def test_all_pages_of_the_gateways_refunds_are_counted(world: World) -> None:
    world.open_ledger("payment-1", "refund-1", 2500)
    world.gateway.page_size = 2
    world.gateway.refunds += [shown(refund_id=f"x{n}", amount_minor=10) for n in range(5)]

    assert recounted(world) == 7450
    assert world.gateway.calls.count("list_refunds") == 3


def test_endless_pages_are_given_up_rather_than_half_counted(world: World) -> None:
    world.open_ledger("payment-1", "refund-1", 2500)
    world.gateway.page_size = 1
    world.gateway.refunds += [shown(refund_id=f"x{n}", amount_minor=10) for n in range(52)]

    with pytest.raises(RuntimeError, match="pages"):
        recounted(world)
    assert world.remaining() == 7500


def test_a_payment_that_vanished_is_no_answer(world: World) -> None:
    world.open_ledger("payment-1", "refund-1", 2500)
    world.gateway.payments.clear()

    with pytest.raises(PaymentGoneError):
        recounted(world)


def test_a_reservation_between_the_list_and_the_ledger_counts_as_reserved(world: World) -> None:
    world.open_ledger("payment-1", "refund-1", 2500)

    def meanwhile(call: str) -> None:
        if call == "list_refunds":
            world.ledger.reserve("payment-1", "refund-2", 500)

    world.gateway.on_call = meanwhile
    assert recounted(world) == 7000


def unlisted(world: World, status: Status) -> None:
    """refund-1 holds 3000. The payment shows 5000 as refunded, and its list nothing."""
    world.open_ledger("payment-1", "refund-1", 3000)
    world.refunds.put_new(refund(refund_id="refund-1", amount_minor=3000, status=status))
    world.gateway.payments["payment-1"] = payment(refunded_minor=5000)


def test_what_no_list_shows_is_a_refund_of_ours_that_a_look_up_shows(world: World) -> None:
    unlisted(world, Status.SUCCEEDED)
    world.gateway.refunds.append(shown(amount_minor=3000))
    world.gateway.unlisted.add("gw-1")

    assert recounted(world) == 5000
    assert reserve(world, refund_id="refund-2", amount_minor=LEFT_OUT) == Reserved(5000)


def test_a_refund_that_the_bank_sent_back_explains_nothing_that_no_list_shows(
    world: World,
) -> None:
    unlisted(world, Status.SUCCEEDED)
    world.gateway.refunds.append(shown(amount_minor=3000, status=GatewayStatus.FAILED))
    world.gateway.unlisted.add("gw-1")

    assert recounted(world) == 2000  # 5000 of others, and ours


@pytest.mark.parametrize("is_listed", [True, False])
def test_what_is_paid_during_a_count_does_not_hide_what_the_list_leaves_out(
    world: World, is_listed: bool
) -> None:
    """Another system's 2000 are in a row that can't be read, or the list lags behind them."""
    world.open_ledger("payment-1", "refund-1", 3000)
    world.gateway.payments["payment-1"] = payment(refunded_minor=2000)
    world.gateway.unreadable = int(is_listed)

    def meanwhile(call: str) -> None:
        if call == "list_refunds":
            world.gateway.on_call = lambda name: None
            world.gateway.payments["payment-1"] = payment(refunded_minor=5000)
            world.gateway.refunds.append(shown(refund_id="refund-1", amount_minor=3000))
            world.gateway.unlisted |= set() if is_listed else {"gw-1"}
            world.refunds.put_new(
                refund(refund_id="refund-1", amount_minor=3000, status=Status.SUCCEEDED)
            )

    world.gateway.on_call = meanwhile
    assert recounted(world) == 5000
    assert world.gateway.calls.count("get_payment") == 4


@pytest.mark.parametrize(
    ("amount", "answer"), [(2000, Reserved(2000)), (2001, Contended()), (LEFT_OUT, Contended())]
)
def test_what_no_list_shows_is_nobody_elses_to_refund_while_a_refund_of_ours_is_under_way(
    world: World, amount: Any, answer: object
) -> None:
    unlisted(world, Status.PROCESSING)

    assert recounted(world) == 2000
    assert reserve(world, refund_id="refund-2", amount_minor=amount) == answer


def test_a_ledger_that_begins_again_holds_what_the_trail_knows_as_unfinished(world: World) -> None:
    for number, status in enumerate(Status):
        there = refund(refund_id=f"refund-{status}", amount_minor=100 + number, status=status)
        world.audit.put_new(audit_entry(there.item()))
    world.refunds.put_new(refund(refund_id="refund-PENDING", status=Status.FAILED, version=2))
    world.refunds.put_new(refund(refund_id="refund-9", status=Status.PROCESSING))

    recounted(world)
    ledger = world.ledger.get("payment-1")
    assert ledger is not None
    # The one that is PENDING in the trail has failed since.
    assert ledger.reservations == {
        "refund-AWAITING_APPROVAL": 100,
        "refund-PROCESSING": 101,
        "refund-IN_REVIEW": 103,
    }
    assert ledger.remaining == 10_000 - 304


def test_a_count_reads_the_refunds_that_it_depends_on_all_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        unfinished = refund(
            refund_id=f"refund-{number}",
            amount_minor=1000,
            status=Status.PROCESSING,
            gateway_reference=f"blue.refund-{number}",
        )
        world.refunds.put_new(unfinished)
        world.audit.put_new(audit_entry(unfinished.item()))
        # Our other stage, blue, began it.
        world.gateway.refunds.append(
            shown(
                refund_id=NOT_OURS,
                gateway_refund_id=f"gw-{number}",
                gateway_reference=f"blue.refund-{number}",
                amount_minor=1000,
            )
        )
    monkeypatch.setattr(world.refunds, "get", Mock(side_effect=AssertionError("one by one")))

    assert recounted(world) == 7000
    assert recounted(world) == 7000


def test_a_payment_with_too_many_unfinished_refunds_waits_for_some_to_end(world: World) -> None:
    for number in range(MAX_HELD_AGAIN + 1):
        there = refund(refund_id=f"refund-{number}", amount_minor=1, status=Status.PROCESSING)
        world.audit.put_new(audit_entry(there.item()))

    with pytest.raises(BalanceContendedError):
        recounted(world)
    assert world.ledger.get("payment-1") is None


class ChangingLedger:
    """A ledger that others change between each read and the write that depends on it."""

    def __init__(self, ledger: LedgerTable) -> None:
        self._ledger = ledger

    def __getattr__(self, name: str) -> Any:
        if name == "get":
            return self._ledger.get
        return lambda *args, **kwargs: False


class ForgetfulLedger:
    """Shows nothing when it is read."""

    def __init__(self, ledger: LedgerTable) -> None:
        self._ledger = ledger

    def get(self, transaction_id: str) -> None:
        return None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ledger, name)


def test_a_ledger_that_is_gone_after_the_count_is_left_for_later(world: World) -> None:
    forgetful: Any = ForgetfulLedger(world.ledger)
    world.gateway.payments["payment-1"] = payment(refunded_minor=1000)
    reserver = Reserver(
        forgetful, world.gateways, Balance(world.ledger, world.refunds, world.audit)
    )
    assert reserver.reserve(request(), None, world.deadline()) == Contended()


def test_a_delivery_that_reserved_during_the_count_is_seen(world: World) -> None:
    world.gateway.payments["payment-1"] = payment(refunded_minor=1000)

    class Overtaken:
        """Another delivery of the request reserves before the ledger is read."""

        def get(self, transaction_id: str) -> Any:
            world.ledger.reserve("payment-1", "refund-1", 2500)
            return world.ledger.get(transaction_id)

        def __getattr__(self, name: str) -> Any:
            return getattr(world.ledger, name)

    overtaken: Any = Overtaken()
    reserver = Reserver(
        overtaken, world.gateways, Balance(world.ledger, world.refunds, world.audit)
    )
    assert reserver.reserve(request(), None, world.deadline()) == Seen()


@pytest.mark.parametrize("amount", [500, 2500, LEFT_OUT])
def test_a_ledger_that_keeps_changing_is_left_for_later(world: World, amount: Any) -> None:
    world.open_ledger("payment-1", "refund-0", 9000)
    changing: Any = ChangingLedger(world.ledger)
    asked = request(amount_minor=amount)

    answer = Reserver(
        changing, world.gateways, Balance(changing, world.refunds, world.audit)
    ).reserve(asked, world.ledger.get("payment-1"), world.deadline())
    assert answer == Contended()


def test_a_lost_race_for_the_first_reservation_is_tried_again(world: World) -> None:
    def another_is_first(call: str) -> None:
        if world.ledger.get("payment-1") is None:
            world.open_ledger("payment-1", "refund-0", 8000)

    world.gateway.on_call = another_is_first

    assert reserve(world, amount_minor=2000) == Reserved(2000)
    assert world.remaining() == 0


def test_a_lost_race_for_the_rest_holds_what_is_then_left(world: World) -> None:
    world.open_ledger("payment-1", "refund-0", 1000)
    asked = request(amount_minor=LEFT_OUT)
    stale = world.ledger.get("payment-1")
    world.ledger.reserve("payment-1", "refund-2", 4000)

    answer = world.reserver.reserve(asked, stale, world.deadline())
    assert answer == Reserved(5000)
    assert world.remaining() == 0


def test_who_expects_nothing_to_be_left_is_right_when_nothing_is(world: World) -> None:
    world.open_ledger("payment-1", "refund-0", 10_000)
    world.gateway.payments["payment-1"] = payment(refunded_minor=10_000)
    world.gateway.refunds.append(shown(refund_id="refund-0", amount_minor=10_000))
    result = reserve(world, amount_minor=LEFT_OUT, expected_refundable_minor=0)
    assert isinstance(result, NotPossible)
    assert result.code == "nothing_to_refund"
