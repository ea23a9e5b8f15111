"""A request whose record is lost: what its trail and its ledger still know of it is used."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from tests.support.builders import LEFT_OUT, NOW, payment, refund, request
from tests.support.processed_requests import process, recorded
from tests.support.settled_refunds import EXPIRED, is_open
from tests.support.world import World

from refunds.domain.audit_entry import audit_entry
from refunds.domain.refund import Refund, Status
from refunds.gateways.contract import Payment
from refunds.processing.processor import LAST_DAY, QUEUE_KEEPS, Delivery
from refunds.processing.recorder import RECORD_LOST, Recorded


def in_trail_only(world: World, **changes: Any) -> Refund:
    known = refund(**{"status": Status.SUCCEEDED, "gateway_refund_id": "gw-1"} | changes)
    assert world.audit.put_new(audit_entry(known.item())) is None
    return known


def in_trail_damaged(world: World, amount_minor: int | None) -> None:
    """Its entry's hash is wrong, so its record can't be rebuilt from it."""
    entry = audit_entry(refund(status=Status.SUCCEEDED, amount_minor=amount_minor).item())
    assert world.audit.put_new(entry | {"entry_hash": "0" * 64}) is None


def test_a_request_that_can_no_longer_be_done_is_what_its_trail_says_it_became(
    world: World,
) -> None:
    in_trail_only(world)
    world.gateway.payments.clear()

    assert recorded(process(world)) is Status.SUCCEEDED
    assert (world.stored().status, world.stored().gateway_refund_id) == (Status.SUCCEEDED, "gw-1")
    assert world.gateway.orders == []


@pytest.mark.parametrize(
    ("in_trail", "asked", "amount"),
    [(1000, 2500, 1000), (None, 2500, 2500), (1000, LEFT_OUT, 1000), (None, LEFT_OUT, None)],
)
def test_a_person_sees_the_amount_of_the_trail_or_else_of_the_request(
    world: World, in_trail: int | None, asked: Any, amount: int | None
) -> None:
    in_trail_damaged(world, in_trail)
    world.gateway.payments.clear()

    assert recorded(process(world, amount_minor=asked)) is Status.IN_REVIEW
    there = world.stored()
    assert (there.failure_code, there.amount_minor) == (RECORD_LOST, amount)


def test_a_released_reservation_of_a_request_without_an_amount_names_none(world: World) -> None:
    process(world, refund_id="refund-0", amount_minor=1)
    world.ledger.release("payment-1", "refund-1")

    assert recorded(process(world, amount_minor=LEFT_OUT)) is Status.IN_REVIEW
    assert world.stored().amount_minor is None


@pytest.mark.parametrize("amount_minor", [2500, None])
def test_an_unfinished_refund_that_holds_nothing_is_for_a_person_and_not_called(
    world: World, amount_minor: int | None
) -> None:
    """Its ledger was lost. What it held may have been refunded in another way since."""
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
