"""The claim after a crash, a removal, a restore, and against another attempt."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.support.builders import LEFT_OUT, NOW, refund, shown
from tests.support.processed_requests import process, recorded
from tests.support.world import World

from refunds.domain.audit_entry import audit_entry, removal_entry
from refunds.domain.clock import rfc3339
from refunds.domain.refund import Status
from refunds.domain.request import RefusedError
from refunds.processing.recorder import Later
from refunds.tables.ledger import Ledger


def test_a_reservation_without_a_refund_is_claimed_after_asking(world: World) -> None:
    world.open_ledger("payment-1", "refund-1", 2500)

    assert recorded(process(world)) is Status.SUCCEEDED
    assert world.gateway.calls == ["list_refunds", "find_refunds", "create_refund"]
    assert (world.held(), world.remaining()) == (2500, 7500)


def test_a_reservation_without_a_refund_pins_an_omitted_amount(world: World) -> None:
    world.open_ledger("payment-1", "refund-1", 10_000)
    world.ledger.release("payment-1", "nobody")

    process(world, amount_minor=LEFT_OUT)
    assert world.gateway.orders[0].amount_minor == 10_000


@pytest.mark.parametrize("changes", [{"amount_minor": 2600}, {"currency": "EUR"}], ids=str)
def test_a_reservation_for_another_amount_or_currency_is_a_conflict(
    world: World, changes: dict[str, Any]
) -> None:
    world.open_ledger("payment-1", "refund-1", 2500)

    with pytest.raises(RefusedError):
        process(world, **changes)
    assert world.held() == 2500


def test_a_released_reservation_without_a_refund_is_for_a_person(world: World) -> None:
    process(world, refund_id="refund-0", amount_minor=1)
    world.ledger.release("payment-1", "refund-1")

    assert recorded(process(world)) is Status.IN_REVIEW
    assert world.stored().failure_code == "record_lost"
    assert len(world.gateway.orders) == 1


@pytest.mark.parametrize("left", [None, Ledger("payment-1", 10_000, 10_000, "USD")])
def test_a_reservation_that_vanishes_meanwhile_is_for_later(
    world: World, monkeypatch: pytest.MonkeyPatch, left: Ledger | None
) -> None:
    world.open_ledger("payment-1", "refund-1", 2500)
    seen = iter([world.ledger.get("payment-1"), left])
    monkeypatch.setattr(world.ledger, "get", lambda transaction_id: next(seen))

    assert isinstance(process(world), Later)
    assert world.gateway.calls == []


def test_a_removed_refund_goes_on_in_its_audit_chain(world: World) -> None:
    world.open_ledger("payment-1", "refund-1", 2500)
    last = removal_entry(refund(version=3).item(), removed_at=rfc3339(NOW), removed_by="somebody")
    world.audit.put_new(last)
    world.gateway.refunds.append(shown())
    process(world)

    assert world.stored().version == 6
    during = replace(refund(), version=5, previous_hash=last["entry_hash"], attempt_token="x")  # noqa: S106
    assert world.stored().previous_hash == audit_entry(during.item())["entry_hash"]


def test_after_a_restore_every_claim_asks_first(world: World) -> None:
    world.gateway.refunds.append(shown())

    assert recorded(process(world, look_up_first=True)) is Status.SUCCEEDED
    assert world.gateway.orders == []


def test_two_attempts_at_once_call_once(world: World) -> None:
    def second(name: str) -> None:
        world.gateway.on_call = lambda name: None
        if name == "get_payment":
            process(world)

    world.gateway.on_call = second
    assert recorded(process(world)) is Status.SUCCEEDED
    assert len(world.gateway.orders) == 1
    assert world.remaining() == 7500


def test_a_claim_lost_to_another_attempt_is_left_to_it(world: World) -> None:
    reserve = world.ledger.open

    def overtaken(*args: Any, **kwargs: Any) -> bool:
        done = reserve(*args, **kwargs)
        world.refunds.put_new(refund())
        return done

    world.ledger.open = overtaken  # type: ignore[method-assign]
    assert isinstance(process(world), Later)
    assert world.gateway.orders == []


def test_a_rejection_lost_to_another_attempt_gives_way_to_it(world: World) -> None:
    world.gateway.payments.clear()

    def overtake(name: str) -> None:
        world.refunds.put_new(refund())

    world.gateway.on_call = overtake

    assert isinstance(process(world), Later)
    assert world.stored().status is Status.PROCESSING
