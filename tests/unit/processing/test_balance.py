"""What counts as ours and what as another system's, to the unit."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.builders import LEFT_OUT, payment, refund, request, shown
from tests.support.world import World

from refunds.domain.refund import Status
from refunds.gateways.contract import NOT_OURS, GatewayStatus, RefundPage
from refunds.processing.balance import Balance, listed_under
from refunds.processing.reserver import NotPossible, Reserved


def recounted(world: World) -> int | None:
    balance = Balance(world.ledger, world.refunds, world.audit)
    balance.count("payment-1", "refund-9", world.gateway, world.deadline())
    return world.remaining()


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


@pytest.mark.parametrize("beyond_minor", [0, 500])
def test_who_expected_another_rest_is_told_what_is_left(world: World, beyond_minor: int) -> None:
    world.open_ledger("payment-1", "refund-0", 10_000)
    world.gateway.payments["payment-1"] = payment(captured_minor=10_000 - beyond_minor)
    asked = request(expected_refundable_minor=100)
    answer = world.reserver.reserve(asked, world.ledger.get("payment-1"), world.deadline())

    assert isinstance(answer, NotPossible)
    assert answer.message == "the sender expected 100 to be refundable, it is 0"


def test_nothing_has_moved_beyond_a_payment_that_is_reserved_to_its_last_unit(
    world: World,
) -> None:
    world.open_ledger("payment-1", "refund-1", 10_000)
    ledger = world.ledger.get("payment-1")

    assert ledger is not None
    assert (ledger.remaining, ledger.moved_unreserved_minor) == (0, 0)


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
