"""A request whose record is lost: what its trail and its ledger still know of it is used."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from tests.support.builders import LEFT_OUT, NOW, payment, refund, request, shown
from tests.support.processed_requests import process, recorded
from tests.support.settled_refunds import EXPIRED, is_open
from tests.support.world import World

from refunds.domain.audit_entry import audit_entry
from refunds.domain.clock import rfc3339
from refunds.domain.limits import Limits
from refunds.domain.refund import SWEEP_BACK, Refund, Status
from refunds.domain.request import ErrorCode, RefusedError
from refunds.gateways.contract import GatewayUnavailableError, KeyTooOld, Payment, RefundPage
from refunds.processing.delivery import LAST_DAY, QUEUE_KEEPS, Delivery
from refunds.processing.lost_records import SWEEP_MARGIN
from refunds.processing.processor import Processor
from refunds.processing.recorder import RECORD_LOST, Later, Recorded
from refunds.processing.settler import LONG_AGO


def in_trail_only(world: World, **changes: Any) -> Refund:
    known = refund(**{"status": Status.SUCCEEDED, "gateway_refund_id": "gw-1"} | changes)
    assert world.audit.put_new(audit_entry(known.item())) is None
    return known


def in_trail_damaged(world: World, **changes: Any) -> None:
    """Its entry's hash is wrong, so its record can't be rebuilt from it."""
    entry = audit_entry(refund(**{"status": Status.SUCCEEDED} | changes).item())
    assert world.audit.put_new(entry | {"entry_hash": "0" * 64}) is None


@pytest.mark.parametrize("status", [Status.SUCCEEDED, Status.FAILED, Status.REJECTED])
def test_a_request_that_can_no_longer_be_done_is_what_its_trail_says_it_became(
    world: World, status: Status
) -> None:
    in_trail_only(world, status=status)
    world.gateway.payments.clear()

    assert recorded(process(world)) is status
    assert (world.stored().status, world.stored().gateway_refund_id) == (status, "gw-1")
    assert world.gateway.orders == []
    if status is Status.SUCCEEDED:
        assert world.held() is None  # Nothing is released for it.


@pytest.mark.parametrize(
    ("in_trail", "asked", "amount"),
    [(1000, 2500, 1000), (None, 2500, 2500), (1000, LEFT_OUT, 1000), (None, LEFT_OUT, None)],
)
def test_a_person_sees_the_amount_of_the_trail_or_else_of_the_request(
    world: World, in_trail: int | None, asked: Any, amount: int | None
) -> None:
    in_trail_damaged(world, amount_minor=in_trail)
    world.gateway.payments.clear()

    assert recorded(process(world, amount_minor=asked)) is Status.IN_REVIEW
    there = world.stored()
    assert (there.failure_code, there.amount_minor) == (RECORD_LOST, amount)


def test_a_released_reservation_of_a_request_without_an_amount_names_none(world: World) -> None:
    process(world, refund_id="refund-0", amount_minor=1)
    world.ledger.release("payment-1", "refund-1")

    assert recorded(process(world, amount_minor=LEFT_OUT)) is Status.IN_REVIEW
    assert world.stored().amount_minor is None


@pytest.mark.parametrize("begun_again", [True, False])
@pytest.mark.parametrize("amount_minor", [2500, None])
def test_an_unfinished_refund_that_holds_nothing_is_for_a_person_and_not_called(
    world: World, amount_minor: int | None, begun_again: bool
) -> None:
    """Its ledger was lost. What it held may have been refunded in another way since."""
    if begun_again:
        world.open_ledger("payment-1", "another", 100)
    there = world.put(refund(lease_until=EXPIRED, amount_minor=amount_minor), held=0)
    result = world.settler.take_over(there, world.deadline())

    assert result == Recorded(world.stored())
    assert (world.stored().status, world.stored().failure_code) == (Status.IN_REVIEW, RECORD_LOST)
    assert world.gateway.calls == ["find_refunds"]


@pytest.mark.parametrize(
    ("age", "opened"),
    [
        (QUEUE_KEEPS - LAST_DAY, False),
        (QUEUE_KEEPS - LAST_DAY + timedelta(seconds=1), True),
        (None, False),
    ],
)
def test_a_refund_whose_message_may_not_come_back_is_open_before_it_is_called(
    world: World, age: timedelta | None, opened: bool
) -> None:
    during: list[bool] = []

    def called(name: str) -> None:
        if name == "create_refund":
            during.append(is_open(world.stored()))

    world.gateway.on_call = called
    sent_at = None if age is None else NOW - age
    world.processor.process(request(), world.deadline(), Delivery(sent_at=sent_at))

    assert during == [opened]


def test_a_second_refund_of_a_payment_costs_one_call_of_the_gateway(world: World) -> None:
    process(world, refund_id="refund-0", amount_minor=100)
    assert world.gateway.calls == ["get_payment", "create_refund"]
    world.gateway.calls.clear()
    process(world)

    assert world.gateway.calls == ["create_refund"]


@pytest.mark.parametrize(
    ("there", "wait", "known_age", "says"),
    [
        (None, timedelta(minutes=15), True, True),
        (None, timedelta(minutes=15), False, False),
        (None, timedelta(0), True, False),
        (payment(currency="EUR"), timedelta(minutes=15), True, False),
    ],
    ids=["waited in vain", "unknown age", "never waits", "can't pass"],
)
def test_a_rejection_says_how_long_it_waited_for_the_payment(
    world: World, there: Payment | None, wait: timedelta, known_age: bool, says: bool
) -> None:
    world.gateway.payments = {"payment-1": there} if there else {}
    processor = world.protocol(world.gateway, not_ready_for=wait).processor
    sent_at = NOW - timedelta(hours=1) if known_age else None
    processor.process(request(), world.deadline(), Delivery(sent_at=sent_at))

    rejected = world.stored()
    assert rejected.status is Status.REJECTED
    assert rejected.failure_message is not None
    assert (", 900 s after the request" in rejected.failure_message) is says
    assert ("after the request" in rejected.failure_message) is says


def test_what_had_ended_is_not_called_though_its_money_is_reserved(world: World) -> None:
    in_trail_damaged(world)
    world.open_ledger("payment-1", "refund-1", 2500)

    assert recorded(process(world)) is Status.IN_REVIEW
    assert world.gateway.orders == []


def test_what_the_gateway_shows_of_a_payment_that_is_gone_is_not_rejected(world: World) -> None:
    world.gateway.payments.clear()
    world.gateway.refunds.append(shown())
    result = process(world)

    assert result == Later("payment_not_found, and the gateway shows a refund of this id")
    assert world.refunds.get("refund-1") is None


def test_a_payment_that_may_still_be_captured_is_waited_for(world: World) -> None:
    world.gateway.payments.clear()
    processor = world.protocol(world.gateway, not_ready_for=timedelta(minutes=15)).processor
    result = processor.process(request(), world.deadline(), Delivery(sent_at=NOW))

    assert result == Later("payment_not_found: the payment may still change")
    assert world.refunds.get("refund-1") is None


@pytest.mark.parametrize("amount", [2500, LEFT_OUT])
def test_a_reservation_that_was_released_is_not_resumed(world: World, amount: Any) -> None:
    def resume() -> Refund | None:
        return world.processor.resume_reserved(request(amount_minor=amount), world.deadline())

    assert resume() is None  # There is no ledger.
    world.open_ledger("payment-1", "another", 2500)
    assert resume() is None  # It has reserved nothing.
    world.ledger.reserve("payment-1", "refund-1", 2500)
    world.ledger.release("payment-1", "refund-1")
    assert resume() is None
    assert world.refunds.get("refund-1") is None


@pytest.mark.parametrize(
    ("listed", "held"), [(True, 300), (False, 0)], ids=["it was paid there", "it was not"]
)
def test_a_namesake_of_another_payment_keeps_what_is_held_for_it_if_it_was_paid(
    world: World, listed: bool, held: int
) -> None:
    world.put(refund(status=Status.SUCCEEDED))
    world.gateway.payments["payment-2"] = payment(transaction_id="payment-2")
    world.open_ledger("payment-2", "refund-1", 300)
    if listed:
        world.gateway.refunds.append(shown(transaction_id="payment-2", amount_minor=300))
    with pytest.raises(RefusedError) as refused:
        process(world, transaction_id="payment-2", amount_minor=300)

    assert refused.value.code is ErrorCode.IDEMPOTENCY_CONFLICT
    assert ("the gateway shows it" in refused.value.message) is listed
    assert world.held(transaction_id="payment-2") == held


@pytest.mark.parametrize("begun", [True, False])
def test_a_namesake_that_holds_nothing_is_refused_without_a_call(world: World, begun: bool) -> None:
    there = world.put(refund(status=Status.SUCCEEDED))
    if begun:
        world.open_ledger("payment-2", "another", 300)
    asked = request(transaction_id="payment-2")

    assert world.processor.give_back_unused(there, asked, world.deadline()) is None
    assert world.gateway.calls == []


@pytest.mark.parametrize(
    ("status", "age", "opened"),
    [
        (Status.SUCCEEDED, SWEEP_BACK - 2 * SWEEP_MARGIN, False),
        (Status.SUCCEEDED, SWEEP_BACK - SWEEP_MARGIN / 2, True),
        (Status.FAILED, SWEEP_BACK + 2 * SWEEP_MARGIN, False),
        (Status.PENDING, timedelta(days=1), True),
    ],
)
def test_a_rebuilt_record_is_open_if_nothing_else_would_still_change_it(
    world: World, status: Status, age: timedelta, opened: bool
) -> None:
    """The sweep no longer sees that the bank has sent an old refund back."""
    began = rfc3339(NOW - age)
    in_trail_only(world, status=status, created_at=began, updated_at=began)
    world.open_ledger("payment-1", "refund-1", 2500)

    assert recorded(process(world)) is status
    assert world.stored().status is status
    assert is_open(world.stored()) is opened


@pytest.mark.parametrize(
    ("status", "key_used_at"),
    [
        (Status.PROCESSING, rfc3339(NOW - timedelta(hours=2))),
        (Status.PENDING, rfc3339(NOW - timedelta(hours=2))),
        (Status.SUCCEEDED, LONG_AGO),
        (Status.FAILED, LONG_AGO),
    ],
)
def test_a_resumed_reservation_uses_its_chains_key_only_if_it_had_not_ended(
    world: World, status: Status, key_used_at: str
) -> None:
    in_trail_damaged(world, status=status, created_at=rfc3339(NOW - timedelta(hours=2)))
    world.open_ledger("payment-1", "refund-1", 2500)
    resumed = world.processor.resume_reserved(request(), world.deadline())

    assert resumed == world.stored()
    assert (resumed.version, resumed.key_used_at) == (2, key_used_at)


def over_limit(world: World) -> Processor:
    return world.protocol(world.gateway, limits=Limits(per_refund={"USD": 100})).processor


def test_what_waits_for_approval_and_continues_a_chain_keeps_its_keys_age(world: World) -> None:
    """It may have been sent before its record was removed."""
    began = rfc3339(NOW - timedelta(hours=2))
    in_trail_damaged(world, status=Status.PROCESSING, created_at=began)
    world.open_ledger("payment-1", "refund-1", 2500)
    over_limit(world).process(request(), world.deadline())

    there = world.stored()
    assert (there.status, there.version) == (Status.AWAITING_APPROVAL, 2)
    assert there.key_used_at == began


@pytest.mark.parametrize(
    ("in_list", "in_look_up"), [(True, False), (False, True)], ids=["its list", "its look-up"]
)
def test_what_the_gateway_has_paid_waits_for_no_approval(
    world: World, in_list: bool, in_look_up: bool
) -> None:
    world.open_ledger("payment-1", "refund-1", 2500)
    world.gateway.refunds.append(shown())
    world.gateway.answers = [KeyTooOld()]
    if not in_list:
        world.gateway.list_refunds = lambda *args, **more: RefundPage((), None)  # type: ignore[method-assign]
    if not in_look_up:
        world.gateway.find_refunds = lambda *args: ()  # type: ignore[method-assign]
    over_limit(world).process(request(), world.deadline())

    assert world.stored().status is (Status.SUCCEEDED if in_look_up else Status.IN_REVIEW)
    assert world.stored().key_used_at == LONG_AGO


@pytest.mark.parametrize("of_others", [0, 1])
def test_a_ledger_of_which_one_unit_moved_unreserved_asks_before_it_calls(
    world: World, of_others: int
) -> None:
    assert world.ledger.open(
        "payment-1",
        captured_minor=10_000,
        remaining_minor=10_000 - of_others,
        currency="USD",
        refund_id="refund-0",
        amount_minor=100,
    )
    process(world)

    assert ("find_refunds" in world.gateway.calls) is bool(of_others)


def test_a_payment_with_refunds_that_no_ledger_has_is_asked_about_before_a_call(
    world: World,
) -> None:
    world.gateway.payments["payment-1"] = payment(refunded_minor=1)
    process(world)

    calls = [each for each in world.gateway.calls if each in ("find_refunds", "create_refund")]
    assert calls == ["find_refunds", "create_refund"]


@pytest.mark.parametrize(("body_format", "recorded_format"), [(1, None), (2, 2)])
def test_the_format_of_what_is_sent_is_recorded_from_the_second_on(
    world: World, body_format: int, recorded_format: int | None
) -> None:
    world.gateway.body_format = body_format
    process(world)

    assert world.stored().order_format == recorded_format
    assert world.gateway.orders[0].format == body_format


@pytest.mark.parametrize("status", [Status.PROCESSING, Status.PENDING, Status.SUCCEEDED])
def test_what_can_no_longer_be_refunded_and_may_have_been_paid_is_never_called_again(
    world: World, status: Status, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(*args: object) -> None:
        raise GatewayUnavailableError("HTTP 503", 7.0)

    in_trail_damaged(world, status=status)
    world.gateway.payments.clear()
    monkeypatch.setattr(world.gateway, "find_refunds", down)

    assert process(world) == Later("look-up: HTTP 503", 7.0)
    assert (world.stored().status, world.stored().key_used_at) == (Status.PROCESSING, LONG_AGO)


def test_without_an_amount_the_trails_amount_is_reserved_again(world: World) -> None:
    in_trail_only(world, status=Status.PROCESSING, gateway_refund_id=None, amount_minor=1000)
    process(world, look_up_first=True, amount_minor=LEFT_OUT)

    assert (world.stored().amount_minor, world.held()) == (1000, 1000)


def test_a_damaged_trail_with_another_amount_makes_it_no_other_refund(world: World) -> None:
    in_trail_damaged(world, amount_minor=1000)
    world.gateway.payments["payment-1"] = payment(refunded_minor=1000)
    world.gateway.refunds.append(shown(amount_minor=1000))
    with pytest.raises(RefusedError) as refused:
        process(world)

    assert refused.value.code is ErrorCode.IDEMPOTENCY_CONFLICT
    assert world.refunds.get("refund-1") is None


def test_a_reservation_of_one_unit_is_resumed(world: World) -> None:
    world.open_ledger("payment-1", "refund-1", 1)
    resumed = world.processor.resume_reserved(request(amount_minor=1), world.deadline())

    assert resumed == world.stored()
    assert resumed.amount_minor == 1


def test_a_reservation_is_not_resumed_for_a_refund_that_its_trail_has_with_another_amount(
    world: World,
) -> None:
    in_trail_only(world, status=Status.PROCESSING, amount_minor=1000)
    world.open_ledger("payment-1", "refund-1", 2500)

    assert world.processor.resume_reserved(request(), world.deadline()) is None
    assert world.refunds.get("refund-1") is None
