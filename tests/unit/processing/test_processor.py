"""A new request: reserve, claim, call, finish; and what it costs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from math import ceil
from typing import Any

import boto3
import pytest
from tests.support.builders import LEFT_OUT, NOW, payment, refund, request, shown
from tests.support.item_size import item_size
from tests.support.moto_stack import REGION
from tests.support.partiql import inserted
from tests.support.processed_requests import process, recorded
from tests.support.world import World

from refunds.domain.audit_entry import audit_entry
from refunds.domain.clock import rfc3339
from refunds.domain.refund import Status
from refunds.domain.request import ErrorCode, RefusedError
from refunds.gateways.contract import Declined, GatewayMisconfiguredError, Misconfiguration
from refunds.processing.recorder import Later, Recorded
from refunds.tables.audit_trail import AuditTable
from refunds.tables.wire import item_from_wire

# A new request


def test_a_request_becomes_a_refund_that_is_paid_once_and_says_all_it_was_asked(
    world: World,
) -> None:
    result = process(world, metadata={"order": "7"}, requested_at="2026-11-23T08:00:00+01:00")

    there = world.stored()
    assert result == Recorded(there)
    assert there == replace(
        refund(),
        status=Status.SUCCEEDED,
        metadata={"order": "7"},
        requested_at="2026-11-23T08:00:00+01:00",
        gateway_account=world.gateway.account,
        gateway_reference="refund-1",
        gateway_refund_id="gw-1",
        version=2,
        previous_status=Status.PROCESSING,
        previous_hash=there.previous_hash,
        changed_fields=("status", "gateway_refund_id"),
        fingerprint=request(
            metadata={"order": "7"}, requested_at="2026-11-23T08:00:00+01:00"
        ).fingerprint(),
        attempt_token="token-1",  # noqa: S106
        lease_until=None,
    )
    assert len(world.gateway.orders) == 1


def test_the_claim_stands_before_the_gateway_is_called(world: World) -> None:
    during: list[Any] = []

    def called(name: str) -> None:
        if name == "create_refund":
            during.append((world.stored(), world.held()))

    world.gateway.on_call = called
    process(world)

    ((claimed, held),) = during
    assert (claimed.status, claimed.version, held) == (Status.PROCESSING, 1, 2500)
    assert claimed.key_used_at == rfc3339(NOW)
    # To just past the invocation's end: 59 s, and 10 for clocks.
    assert claimed.lease_until == rfc3339(NOW + timedelta(seconds=69))
    assert claimed.open_shard is None


def test_the_chain_of_hashes_begins_with_the_claims_entry(world: World) -> None:
    during: list[Any] = []

    def called(name: str) -> None:
        if name == "create_refund":
            during.append(audit_entry(world.stored().item()))

    world.gateway.on_call = called
    process(world)

    assert world.stored().previous_hash == during[0]["entry_hash"]


def test_without_an_amount_all_that_is_left_is_refunded(world: World) -> None:
    world.gateway.payments["payment-1"] = payment(refunded_minor=4000)
    process(world, amount_minor=LEFT_OUT)

    assert world.gateway.orders[0].amount_minor == 6000
    assert world.stored().amount_minor == 6000


def test_a_request_that_cant_be_done_is_rejected_and_the_gateway_not_called(
    world: World,
) -> None:
    world.gateway.payments["payment-1"] = payment(currency="EUR")

    assert recorded(process(world)) is Status.REJECTED
    there = world.stored()
    assert (there.failure_code, there.amount_minor) == ("currency_mismatch", 2500)
    assert (there.version, there.open_shard) == (1, None)
    assert world.gateway.orders == []


def test_a_rejected_refund_that_named_no_amount_has_none(world: World) -> None:
    world.gateway.payments["payment-1"] = payment(refunded_minor=10_000)
    world.gateway.refunds.append(shown(refund_id="theirs", amount_minor=10_000))

    assert recorded(process(world, amount_minor=LEFT_OUT)) is Status.REJECTED
    assert world.stored().amount_minor is None
    assert world.stored().failure_code == "nothing_to_refund"


def test_a_rejected_refund_stays_so_though_the_money_comes_back(world: World) -> None:
    process(world, refund_id="refund-0", amount_minor=10_000)
    process(world)
    world.ledger.release("payment-1", "refund-0")

    assert recorded(process(world)) is Status.REJECTED
    assert len(world.gateway.orders) == 1
    assert world.held() == 0


def test_a_decline_after_the_claim_is_failed_not_rejected(world: World) -> None:
    world.gateway.answers.append(Declined("payment_disputed", "no"))

    assert recorded(process(world)) is Status.FAILED


def test_with_too_little_time_nothing_is_begun(world: World) -> None:
    result = world.processor.process(request(), world.deadline(9.9))

    assert isinstance(result, Later)
    assert world.gateway.calls == []
    assert world.ledger.get("payment-1") is None
    assert isinstance(world.processor.process(request(), world.deadline(10)), Recorded)


def test_a_gateway_that_cant_be_asked_is_asked_later_as_it_wishes(world: World) -> None:
    world.gateway.down = True

    assert process(world) == Later("HTTP 503", 7.0)
    assert world.refunds.get("refund-1") is None


def test_a_gateway_that_a_person_must_put_right_is_named(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any) -> Any:
        raise GatewayMisconfiguredError(Misconfiguration.KEY_REFUSED)

    monkeypatch.setattr(world.gateway, "get_payment", refuse)
    result = process(world)
    assert isinstance(result, Later)
    assert result.misconfiguration == Misconfiguration.KEY_REFUSED.value


def test_a_rejection_that_comes_second_leaves_the_first_as_it_is(world: World) -> None:
    there = refund(status=Status.SUCCEEDED)
    world.gateway.payments.clear()

    def another_is_first(name: str) -> None:
        world.refunds.put_new(there)

    world.gateway.on_call = another_is_first
    assert process(world) == Recorded(world.stored())
    assert world.stored().status is Status.SUCCEEDED


def test_a_reservation_whose_message_goes_becomes_a_refund_that_is_found(world: World) -> None:
    assert world.processor.resume_reserved(request(), world.deadline()) is None
    world.open_ledger("payment-1", "refund-1", 2500)
    assert world.processor.resume_reserved(request(amount_minor=1), world.deadline()) is None
    resumed = world.processor.resume_reserved(request(), world.deadline())
    assert resumed == world.stored()
    assert (resumed.status, resumed.amount_minor) == (Status.PROCESSING, 2500)
    assert resumed.open_shard is not None
    assert world.processor.resume_reserved(request(amount_minor=1), world.deadline()) == resumed


def test_a_reservation_of_a_refund_that_only_the_trail_knows_becomes_that_refund(
    world: World,
) -> None:
    known = replace(refund(status=Status.SUCCEEDED), fingerprint=request().fingerprint())
    trail = AuditTable(world.stack.clients.dynamodb, world.stack.audit_table)
    assert trail.put_new(audit_entry(known.item())) is None
    world.open_ledger("payment-1", "refund-1", 2500)
    resumed = world.processor.resume_reserved(request(), world.deadline())
    assert resumed == world.stored()
    assert resumed.status is Status.SUCCEEDED


def test_a_refund_that_the_trail_knows_with_another_amount_is_not_this_request(
    world: World,
) -> None:
    known = refund(status=Status.SUCCEEDED, amount_minor=1000)
    trail = AuditTable(world.stack.clients.dynamodb, world.stack.audit_table)
    assert trail.put_new(audit_entry(known.item())) is None
    world.gateway.payments["payment-1"] = payment(refunded_minor=1000)
    world.gateway.refunds.append(shown(amount_minor=1000))
    with pytest.raises(RefusedError) as caught:
        process(world)
    assert caught.value.code is ErrorCode.IDEMPOTENCY_CONFLICT
    assert "create_refund" not in world.gateway.calls


def test_a_ledger_under_contention_is_for_later(world: World) -> None:
    world.ledger.open = lambda *args, **kwargs: False  # type: ignore[method-assign]

    assert isinstance(process(world), Later)
    assert world.gateway.orders == []


# What it costs


class Meter:
    """Counts the requests and the write units that DynamoDB would charge for, from the wire."""

    def __init__(self, world: World) -> None:
        self.requests: Counter[str] = Counter()
        self.units = 0
        self.index_writes = 0
        self._reader = boto3.client("dynamodb", region_name=REGION)
        self._sizes: dict[str, int] = {}
        self._keys = {
            world.stack.refunds_table: ("refund_id",),
            world.stack.ledger_table: ("transaction_id",),
            world.stack.audit_table: ("transaction_id", "entry_id"),
        }
        self.largest: dict[str, int] = {}
        self._last: dict[str, Any] = {}
        self._events = world.stack.clients.dynamodb.meta.events
        self._handlers: dict[str, Callable[..., None]] = {
            "provide-client-params.dynamodb": self._asked,
            "after-call.dynamodb": self._answered,
        }

    def __enter__(self) -> Meter:
        for name, handler in self._handlers.items():
            self._events.register(name, handler)
        return self

    def __exit__(self, *error: object) -> None:
        for name, handler in self._handlers.items():
            self._events.unregister(name, handler)

    def _asked(self, params: dict[str, Any], **rest: Any) -> None:
        self._last = params

    def _answered(self, model: Any, **rest: Any) -> None:
        self.requests[model.name] += 1
        if model.name in ("PutItem", "UpdateItem"):
            self._written(self._last["TableName"], self._last.get("Key") or self._last["Item"])
        elif model.name == "BatchExecuteStatement":
            for each in self._last["Statements"]:
                self._written(*inserted(each["Statement"], each["Parameters"]))

    def _written(self, table: str, named: dict[str, Any]) -> None:
        key = {name: named[name] for name in self._keys[table]}
        wire: Any = self._reader.get_item(TableName=table, Key=key, ConsistentRead=True)["Item"]
        item = item_from_wire(wire)
        now = item_size(wire)
        before = self._sizes.get(str(key), 0)
        self._sizes[str(key)] = now
        self.units += ceil(max(now, before) / 1024)
        self.largest[table] = max(now, self.largest.get(table, 0))
        self.index_writes += "open_shard" in item


@pytest.mark.parametrize("first", [True, False])
def test_a_successful_refund_costs_five_write_units_and_no_index_write(
    world: World, first: bool
) -> None:
    usual: dict[str, Any] = {
        "refund_id": "3f1c2d5e-8a7b-4c6d-9e0f-112233445566",
        "transaction_id": "7a6b5c4d-3e2f-4a1b-8c9d-aabbccddeeff",
        "user_id": "jane.doe.1987@mail.example.com",
        "requested_by": "agent:anna.smith@help.example",
        "requested_at": "2026-11-23T07:09:58.123456Z",
    }
    world.gateway.payments[usual["transaction_id"]] = payment(
        transaction_id=usual["transaction_id"]
    )
    if not first:
        process(world, **usual | {"refund_id": "11111111-8a7b-4c6d-9e0f-112233445566"})
    versions: list[Any] = []
    world.gateway.on_call = lambda name: versions.append(
        world.refunds.get(usual["refund_id"]) if name == "create_refund" else None
    )
    with Meter(world) as meter:
        process(world, **usual)
        finished = world.stored(usual["refund_id"])
        entries = [audit_entry(there.item()) for there in (versions[-1], finished)]
        world.audit.insert_new([each | {"recorded_at": rfc3339(NOW)} for each in entries])

    # Reserve, claim, finish, and two entries in one request; the rest are reads, one of them this
    # test's own.
    assert meter.requests == {
        "UpdateItem": 2,
        "PutItem": 1,
        "BatchExecuteStatement": 1,
        "GetItem": 3,
    }
    assert meter.units == 5
    assert meter.index_writes == 0
    assert max(meter.largest.values()) <= 1024
