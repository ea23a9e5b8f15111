"""The same request again: a duplicate changes nothing, other contents are a conflict."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import Any

import pytest
import rfc8785
from tests.support.builders import NOW, body, payment, refund, shown
from tests.support.processed_requests import process, recorded
from tests.support.world import World

from refunds.domain.audit_entry import audit_entry
from refunds.domain.clock import rfc3339
from refunds.domain.refund import Status
from refunds.domain.request import ErrorCode, RefusedError
from refunds.gateways.contract import Accepted, Declined, GatewayStatus, Unknown
from refunds.processing.recorder import Later, Recorded

EXPIRED = rfc3339(NOW - timedelta(seconds=1))


# The same request again


@pytest.mark.parametrize(
    "answer",
    [
        Declined("payment_disputed", "no"),
        Accepted(shown(status=GatewayStatus.PENDING)),
        Accepted(shown(amount_minor=1)),
        Accepted(shown()),
    ],
    ids=["FAILED", "PENDING", "IN_REVIEW", "SUCCEEDED"],
)
def test_a_duplicate_changes_nothing_and_calls_nobody(world: World, answer: Any) -> None:
    world.gateway.answers.append(answer)
    process(world)
    before, calls = world.stored(), list(world.gateway.calls)

    assert process(world) == Recorded(before)
    assert world.stored() == before
    assert world.gateway.calls == calls


def test_a_duplicate_under_a_running_lease_waits_for_its_end(world: World) -> None:
    world.put(refund(lease_until=rfc3339(NOW + timedelta(seconds=42))))

    assert process(world) == Later("another attempt is at work", 42.0)
    assert world.gateway.calls == []


def test_an_attempt_that_died_is_taken_over_by_asking_first(world: World) -> None:
    world.put(refund(lease_until=EXPIRED))
    world.gateway.refunds.append(shown())

    assert recorded(process(world)) is Status.SUCCEEDED
    assert world.gateway.orders == []


def test_after_an_unknown_outcome_the_same_key_is_used_and_the_money_moves_once(
    world: World,
) -> None:
    def moved_but_no_answer(order: Any) -> Unknown:
        world.gateway.move(order)
        return Unknown("no answer")

    world.gateway.answers.append(moved_but_no_answer)
    assert isinstance(process(world), Later)
    assert recorded(process(world)) is Status.SUCCEEDED

    assert len(world.gateway.refunds) == 1
    assert len(world.gateway.orders) == 1


def test_a_duplicate_of_a_failed_refund_releases_what_a_crash_left_reserved(
    world: World,
) -> None:
    world.put(refund(status=Status.FAILED))

    assert recorded(process(world)) is Status.FAILED
    assert world.held() == 0


@pytest.mark.parametrize("status", Status)
def test_the_same_id_with_other_contents_is_a_conflict_and_changes_nothing(
    world: World, status: Status
) -> None:
    there = world.put(refund(status=status))

    with pytest.raises(RefusedError) as caught:
        process(world, user_id="user-2")
    assert caught.value.code is ErrorCode.IDEMPOTENCY_CONFLICT
    assert world.stored() == there
    assert world.gateway.calls == []


def test_the_same_request_sent_again_at_another_time_is_a_duplicate(world: World) -> None:
    process(world, requested_at="2026-11-23T07:10:00Z")

    assert recorded(process(world, requested_at="2026-11-23T08:10:00Z")) is Status.SUCCEEDED
    assert world.stored().requested_at == "2026-11-23T07:10:00Z"
    assert len(world.gateway.orders) == 1


def test_a_refund_of_an_older_release_is_compared_as_that_release_did(world: World) -> None:
    at = "2026-11-23T07:10:00Z"
    digest = hashlib.sha256(rfc8785.dumps(body(requested_at=at))).hexdigest()
    world.put(refund(requested_at=at, fingerprint=f"1:{digest}", status=Status.SUCCEEDED))

    assert recorded(process(world, requested_at=at)) is Status.SUCCEEDED
    with pytest.raises(RefusedError):
        process(world, requested_at="2026-11-23T07:10:01Z")


def test_a_refund_of_a_newer_release_is_neither_taken_over_nor_refused(world: World) -> None:
    there = world.put(refund(fingerprint="9:f", lease_until=EXPIRED))

    with pytest.raises(ValueError, match="newer release"):
        process(world)
    assert world.stored() == there


def test_all_that_a_producer_may_add_is_kept_and_audited(world: World) -> None:
    added: dict[str, Any] = {
        "reason_code": "RMA-7",
        "note": "broken on arrival",
        "line_items": [{"sku": "mug", "quantity": 2, "amount_minor": 1800}],
        "expected_refundable_minor": 10_000,
    }
    process(world, **added)

    details = audit_entry(world.stored().item())["details"]
    assert {name: details[name] for name in added} == added


def test_a_conflict_on_another_transaction_gives_its_own_reservation_back(world: World) -> None:
    world.put(refund())
    world.gateway.payments["payment-2"] = payment(transaction_id="payment-2")

    with pytest.raises(RefusedError):
        process(world, transaction_id="payment-2")
    assert (world.held(transaction_id="payment-2"), world.held()) == (0, 2500)
    assert world.remaining("payment-2") == 10_000
    assert world.gateway.orders == []
