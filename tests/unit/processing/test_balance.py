"""What counts as ours and what as another system's, to the unit."""

from __future__ import annotations

from typing import Any
from unittest.mock import Mock

import pytest
from tests.support.builders import LEFT_OUT, payment, refund, request, shown
from tests.support.world import World

from refunds.domain.audit_entry import audit_entry
from refunds.domain.refund import Status
from refunds.gateways.contract import NOT_OURS, GatewayStatus, RefundPage
from refunds.processing.balance import (
    MAX_HELD_AGAIN,
    Balance,
    BalanceContendedError,
    PaymentGoneError,
    listed_under,
)
from refunds.processing.reserver import Contended, Reserved


def recounted(world: World) -> int | None:
    balance = Balance(world.ledger, world.refunds, world.audit)
    balance.count("payment-1", "refund-9", world.gateway, world.deadline())
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
    asked = request(refund_id="refund-2", amount_minor=LEFT_OUT)
    ledger = world.ledger.get("payment-1")
    assert world.reserver.reserve(asked, ledger, world.deadline()) == Reserved(5000)


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
    asked = request(refund_id="refund-2", amount_minor=amount)
    ledger = world.ledger.get("payment-1")
    assert world.reserver.reserve(asked, ledger, world.deadline()) == answer


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


def test_a_refund_of_one_unit_is_counted_once(world: World) -> None:
    world.open_ledger("payment-1", "refund-1", 1)
    world.gateway.refunds.append(shown(amount_minor=1))

    assert recounted(world) == 9999


@pytest.mark.parametrize(
    ("began_as", "remaining"),
    [("blue.refund-1", 7500), ("green.refund-1", 5000), (None, 5000)],
    ids=["as this one", "as another one", "nobody knows"],
)
def test_another_stages_refund_is_ours_only_if_our_refund_began_with_its_reference(
    world: World, began_as: str | None, remaining: int
) -> None:
    world.open_ledger("payment-1", "refund-1", 2500)
    if began_as:
        world.refunds.put_new(refund(status=Status.PROCESSING, gateway_reference=began_as))
    world.gateway.refunds.append(shown(refund_id=NOT_OURS, gateway_reference="blue.refund-1"))

    assert recounted(world) == remaining


@pytest.mark.parametrize(
    ("unlisted_minor", "remaining"),
    [(1000, 7500), (1500, 7500), (2000, 7000)],
    ids=["less", "all ours", "more"],
)
def test_what_a_list_does_not_show_is_ours_only_up_to_what_we_hold_beyond_it(
    world: World, unlisted_minor: int, remaining: int
) -> None:
    """The list shows 1000 of the 2500 that are held."""
    world.open_ledger("payment-1", "refund-1", 2500)
    world.refunds.put_new(refund(status=Status.SUCCEEDED))
    world.gateway.refunds.append(shown(amount_minor=1000))
    world.gateway.payments["payment-1"] = payment(refunded_minor=1000 + unlisted_minor)

    assert recounted(world) == remaining


def test_a_second_refund_of_ours_has_left_the_payment_too(world: World) -> None:
    world.open_ledger("payment-1", "refund-1", 2500)
    world.gateway.refunds += [shown(), shown(gateway_refund_id="gw-2", amount_minor=2000)]

    assert recounted(world) == 10_000 - 2500 - 2000


def test_what_is_disputed_is_not_refundable(world: World) -> None:
    world.gateway.payments["payment-1"] = payment(disputed_minor=1000)

    assert recounted(world) == 9000


@pytest.mark.parametrize(("asked_minor", "remaining"), [(3000, 7000), (2500, 7500), (2000, 7500)])
def test_an_adopted_refund_takes_the_larger_of_what_was_asked_for_and_what_moved(
    world: World, asked_minor: int, remaining: int
) -> None:
    world.gateway.payments["payment-1"] = payment(refunded_minor=2500)
    world.gateway.refunds.append(shown())
    balance = Balance(world.ledger, world.refunds, world.audit)
    balance.count(
        "payment-1",
        "refund-1",
        world.gateway,
        world.deadline(),
        forgotten_minor=lambda: asked_minor,
    )

    assert (world.held(), world.remaining()) == (asked_minor, remaining)


@pytest.mark.parametrize(
    ("status", "remaining"), [(GatewayStatus.SUCCEEDED, 9999), (GatewayStatus.FAILED, 9998)]
)
def test_one_unit_that_a_list_does_not_show_is_ours_if_our_refund_is_paid(
    world: World, status: GatewayStatus, remaining: int
) -> None:
    world.open_ledger("payment-1", "refund-1", 1)
    world.refunds.put_new(refund(status=Status.SUCCEEDED, amount_minor=1))
    world.gateway.payments["payment-1"] = payment(refunded_minor=1)
    world.gateway.refunds.append(shown(amount_minor=1, status=status))
    world.gateway.list_refunds = lambda *args, **more: RefundPage((), None)  # type: ignore[method-assign]

    assert recounted(world) == remaining


def test_nothing_has_moved_beyond_a_payment_that_is_reserved_to_its_last_unit(
    world: World,
) -> None:
    world.open_ledger("payment-1", "refund-1", 10_000)
    ledger = world.ledger.get("payment-1")

    assert ledger is not None
    assert (ledger.remaining, ledger.moved_unreserved_minor) == (0, 0)


def test_a_payments_list_is_searched_by_reference_or_else_by_refund_id(world: World) -> None:
    world.gateway.refunds += [
        shown(refund_id=NOT_OURS, gateway_reference="blue.refund-1", gateway_refund_id="gw-blue"),
        shown(refund_id="refund-1", gateway_reference="refund-1", gateway_refund_id="gw-ours"),
        shown(refund_id="refund-2", gateway_reference=None, gateway_refund_id="gw-2"),
        shown(refund_id="refund-1", gateway_reference="green.refund-1"),
    ]

    def found(reference: str) -> list[str]:
        listed = listed_under(world.gateway, "payment-1", reference, world.deadline())
        return [each.gateway_refund_id for each in listed]

    assert found("blue.refund-1") == ["gw-blue"]
    assert found("refund-1") == ["gw-ours"]
    assert found("refund-2") == ["gw-2"]


def test_only_refunds_whose_money_the_list_does_not_show_are_asked_for_alone(world: World) -> None:
    """Of many, only the first few are asked for."""
    for number, status in enumerate((Status.SUCCEEDED, Status.FAILED, Status.PROCESSING)):
        refund_id = f"refund-{number}"
        world.put(refund(refund_id=refund_id, status=status, amount_minor=100))
    world.ledger.release("payment-1", "refund-1")
    world.gateway.refunds += [
        shown(refund_id="refund-0", amount_minor=100),
        shown(refund_id="refund-2", amount_minor=100, status=GatewayStatus.FAILED),
    ]
    world.gateway.payments["payment-1"] = payment(refunded_minor=100 + 40)
    balance = Balance(world.ledger, world.refunds, world.audit)
    counted = balance.count("payment-1", "refund-9", world.gateway, world.deadline())

    assert "find_refunds" not in world.gateway.calls
    assert counted.unclear_minor == 0  # It is another system's: none of ours is under way.
    assert world.remaining() == 10_000 - 100 - 100 - 40


def test_a_lost_record_keeps_no_other_refund_from_being_asked_for(world: World) -> None:
    world.open_ledger("payment-1", "refund-1", 100)
    world.put(refund(refund_id="refund-2", status=Status.SUCCEEDED, amount_minor=200))
    world.gateway.refunds.append(shown(refund_id="refund-2", amount_minor=200))
    world.gateway.payments["payment-1"] = payment(refunded_minor=200)
    world.gateway.list_refunds = lambda *args, **more: RefundPage((), None)  # type: ignore[method-assign]

    assert recounted(world) == 10_000 - 100 - 200
