"""Holding money: never more than is there, whoever else reserves at the same moment."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.builders import LEFT_OUT, payment, request, shown
from tests.support.world import World

from refunds.gateways.contract import GatewayStatus, PaymentStatus
from refunds.processing.balance import Balance
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


@pytest.mark.parametrize("beyond_minor", [0, 500])
def test_who_expected_another_rest_is_told_what_is_left(world: World, beyond_minor: int) -> None:
    world.open_ledger("payment-1", "refund-0", 10_000)
    world.gateway.payments["payment-1"] = payment(captured_minor=10_000 - beyond_minor)
    asked = request(expected_refundable_minor=100)
    answer = world.reserver.reserve(asked, world.ledger.get("payment-1"), world.deadline())

    assert isinstance(answer, NotPossible)
    assert answer.message == "the sender expected 100 to be refundable, it is 0"


@pytest.mark.parametrize(
    ("asked", "amount_minor", "tries"),
    [(LEFT_OUT, 10_000, 2), (500, 500, 1)],
    ids=["all that is left", "an amount"],
)
def test_all_that_is_left_means_when_it_is_reserved_and_an_amount_waits_for_nobody(
    world: World, monkeypatch: pytest.MonkeyPatch, asked: Any, amount_minor: int, tries: int
) -> None:
    world.open_ledger("payment-1", "refund-0", 1000)
    reserve, tried = world.ledger.reserve, list[str]()

    def after_a_release(transaction_id: str, refund_id: str, *rest: Any, **more: Any) -> bool:
        tried.append(refund_id)
        world.ledger.release("payment-1", "refund-0")
        return reserve(transaction_id, refund_id, *rest, **more)

    monkeypatch.setattr(world.ledger, "reserve", after_a_release)
    answer = world.reserver.reserve(
        request(amount_minor=asked), world.ledger.get("payment-1"), world.deadline()
    )

    assert answer == Reserved(amount_minor)
    assert len(tried) == tries
