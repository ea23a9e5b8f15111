"""From the stream to the trail: one entry a version, poison kept in S3, nothing lost or doubled."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from botocore.exceptions import ClientError
from tests.support.builders import NOW, InlinePool, refund
from tests.support.stream_records import CLAIMED, DONE, record
from tests.support.world import World

from refunds.audit.outcome_events import PublishError
from refunds.audit.writer import (
    AuditWriter,
    Written,
    entry_of,
    handle_stream_batch,
    same_entry,
)
from refunds.domain.audit_entry import audit_entry
from refunds.domain.clock import rfc3339
from refunds.domain.refund import Status, change_status
from refunds.tables.audit_trail import NotStorableError
from refunds.tables.wire import item_from_wire, item_to_wire


@pytest.fixture
def writer(world: World) -> AuditWriter:
    return AuditWriter(audit=world.audit, failures=world.failures, clock=world.clock)


def trail(world: World) -> list[dict[str, Any]]:
    return world.stack.items(world.stack.audit_table)


def kept(world: World) -> list[str]:
    return [each["reason"] for each in world.stack.kept(world.stack.failures_bucket).values()]


def batch(
    world: World, writer: AuditWriter, records: list[dict[str, Any]]
) -> tuple[dict[str, Any], list[Any]]:
    told: list[Any] = []
    response = handle_stream_batch(
        records, writer, world.bus, InlinePool(), lambda record, result: told.append(result)
    )
    return response, told


def test_each_version_gets_its_entry_and_when_it_was_recorded(
    world: World, writer: AuditWriter
) -> None:
    batch(world, writer, [record(CLAIMED), record(DONE, CLAIMED)])

    assert sorted(trail(world), key=lambda entry: entry["entry_id"]) == [
        audit_entry(there.item()) | {"recorded_at": rfc3339(NOW)} for there in (CLAIMED, DONE)
    ]


def test_order_and_replays_make_no_difference(world: World, writer: AuditWriter) -> None:
    batch(world, writer, [record(DONE, CLAIMED), record(CLAIMED)])
    before = trail(world)
    world.clock.advance(hours=1)
    _, told = batch(world, writer, [record(CLAIMED), record(DONE, CLAIMED)])

    assert trail(world) == before
    assert told == [None, None]
    assert kept(world) == []


def test_protocol_state_alone_makes_no_entry(world: World, writer: AuditWriter) -> None:
    leased = replace(CLAIMED, lease_until=None, attempt_token="other", open_shard="1")  # noqa: S106

    assert writer.write(record(leased, CLAIMED)) == Written()
    assert trail(world) == []


def test_a_change_without_a_new_version_is_kept_and_told(world: World, writer: AuditWriter) -> None:
    tampered = replace(CLAIMED, amount_minor=1)
    written = writer.write(record(tampered, CLAIMED))

    assert written == Written(kept="changed without a new version")
    assert kept(world) == [written.kept]
    assert trail(world) == []


def test_a_removal_is_an_entry_with_who_did_it(world: World, writer: AuditWriter) -> None:
    gone = record(None, DONE)
    gone["userIdentity"] = {"type": "Service", "principalId": "dynamodb.amazonaws.com"}
    batch(world, writer, [gone])

    (entry,) = trail(world)
    assert (entry["event"], entry["version"]) == ("refund.deleted", 3)
    assert entry["processed_by"] == "dynamodb.amazonaws.com"
    assert entry["occurred_at"] == "2025-11-23T07:10:00.000000Z"
    assert world.stack.events() == []


def test_a_removal_by_a_hand_is_by_someone_unknown(writer: AuditWriter) -> None:
    entry = entry_of(record(None, DONE) | {"userIdentity": None})

    assert entry is not None
    assert entry["processed_by"] == "unknown"


def test_another_entry_of_the_same_version_is_never_overwritten(
    world: World, writer: AuditWriter
) -> None:
    forged = replace(CLAIMED, user_id="other")
    writer.write(record(forged))
    before = trail(world)
    written = writer.write(record(CLAIMED))

    assert (written.entry, trail(world)) == (None, before)
    assert kept(world) == [written.kept]


POISON: list[Any] = [
    {},
    {"refund_id": {"S": "r"}},
    item_to_wire(refund().item()) | {"status": {"S": "PAID"}},
    item_to_wire(refund().item()) | {"version": {"N": "1.5"}},
    item_to_wire(refund().item()) | {"version": {"S": "1"}},
    item_to_wire(refund().item()) | {"amount_minor": {"N": "25.5"}},
    item_to_wire(refund().item()) | {"user_id": {"B": "eA=="}},
    item_to_wire(refund().item()) | {"transaction_id": {"S": ""}},
    item_to_wire(refund().item()) | {"metadata": {"M": {"a": {"SS": ["b"]}}}},
    item_to_wire(refund().item()) | {"failure_message": {"S": "\ud800"}},
    item_to_wire(refund().item()) | {"status": {"S": "FAILED"}, "failure_code": {"N": "5"}},
    *(
        item_to_wire(refund().item()) | {name: {"L": []}}
        for name in ("requested_at", "gateway_refund_id", "failure_message", "previous_hash")
    ),
]


@pytest.mark.parametrize("image", POISON, ids=lambda image: str(image)[-40:])
def test_a_poison_record_is_kept_whole_and_does_not_block_its_shard(
    world: World, writer: AuditWriter, image: Any
) -> None:
    poison = record({"created_at": {"S": "x"}} | image)
    response, told = batch(world, writer, [poison, record(DONE, number=2)])

    assert response == {"batchItemFailures": []}
    assert isinstance(told[0], str)
    (stored,) = world.stack.kept(world.stack.failures_bucket).values()
    assert stored["record"] == poison
    assert [entry["version"] for entry in trail(world)] == [2]


class Table:
    """An audit table that takes one version only."""

    def __init__(self, code: str, takes: int = 0) -> None:
        self.error = ClientError({"Error": {"Code": code, "Message": "x"}}, "BatchExecuteStatement")
        self.takes = takes

    def insert_new(self, entries: Any) -> list[Any]:
        return [None if entry["version"] == self.takes else self.error for entry in entries]


def test_an_entry_that_the_table_can_never_take_is_kept(world: World) -> None:
    table: Any = Table("ValidationException")
    writer = AuditWriter(audit=table, failures=world.failures, clock=world.clock)

    assert writer.write(record(CLAIMED)) == Written(kept="ClientError")
    assert kept(world) == ["ClientError"]


def test_what_a_second_try_may_mend_comes_again_and_the_others_are_done(world: World) -> None:
    table: Any = Table("ProvisionedThroughputExceededException", takes=2)
    writer = AuditWriter(audit=table, failures=world.failures, clock=world.clock)
    records = [record(CLAIMED, number=6), record(DONE, CLAIMED, number=7)]
    response, told = batch(world, writer, records)

    assert response == {"batchItemFailures": [{"itemIdentifier": f"{6:021d}"}]}
    assert isinstance(told[0], ClientError)
    assert kept(world) == []
    assert [event["detail"]["version"] for event in world.stack.events()] == [2]


def test_a_table_that_can_not_be_asked_has_every_record_come_again(world: World) -> None:
    class Broken:
        def insert_new(self, entries: Any) -> Any:
            raise KeyError("a bug")

    broken: Any = Broken()
    writer = AuditWriter(audit=broken, failures=world.failures, clock=world.clock)
    response, told = batch(world, writer, [record(CLAIMED), record(DONE, CLAIMED, number=7)])

    assert len(response["batchItemFailures"]) == 2
    assert [type(each) for each in told] == [KeyError, KeyError]
    assert kept(world) == []


def test_a_hundred_records_are_four_requests(world: World, writer: AuditWriter) -> None:
    sizes: list[int] = []
    insert_new = world.audit.insert_new

    def counted(entries: Any) -> Any:
        sizes.append(len(entries))
        return insert_new(entries)

    world.audit.insert_new = counted  # type: ignore[method-assign]
    refunds = [replace(CLAIMED, refund_id=f"refund-{number}") for number in range(100)]
    batch(world, writer, [record(each, number=n) for n, each in enumerate(refunds)])

    assert sizes == [25, 25, 25, 25]
    assert len(trail(world)) == 100


def test_outcomes_are_published_after_their_entries_and_in_order(
    world: World, writer: AuditWriter
) -> None:
    seen: list[int] = []
    publish = world.bus.publish

    def watched(events: Any) -> None:
        seen.append(len(trail(world)))
        publish(events)

    world.bus.publish = watched  # type: ignore[method-assign]
    pending = change_status(
        CLAIMED, Status.PENDING, at=rfc3339(NOW), by="f:1", previous_hash="a" * 64
    )
    failed = change_status(
        pending, Status.FAILED, at=rfc3339(NOW), by="f:1", previous_hash="b" * 64
    )
    batch(world, writer, [record(CLAIMED), record(pending, CLAIMED), record(failed, pending)])

    assert seen == [3]
    assert [event["detail-type"] for event in world.stack.events()] == [
        "Refund Pending",
        "Refund Failed",
    ]


def test_when_the_bus_is_down_the_batch_comes_again(world: World, writer: AuditWriter) -> None:
    def deaf(events: Any) -> None:
        raise PublishError("1 of 1 not taken")

    world.bus.publish = deaf  # type: ignore[method-assign]
    with pytest.raises(PublishError):
        batch(world, writer, [record(DONE, CLAIMED)])
    assert len(trail(world)) == 1


def test_a_single_record_raises_what_another_attempt_may_resolve(
    world: World, writer: AuditWriter
) -> None:
    error = ClientError({"Error": {"Code": "InternalServerError", "Message": ""}}, "Execute")
    world.audit.insert_new = lambda entries: [error]  # type: ignore[method-assign]
    with pytest.raises(ClientError, match="InternalServerError"):
        writer.write(record(CLAIMED))
    assert kept(world) == []


def test_an_entry_that_dynamodb_has_no_type_for_is_kept(world: World, writer: AuditWriter) -> None:
    not_storable = NotStorableError("float")
    world.audit.insert_new = lambda entries: [not_storable]  # type: ignore[method-assign]
    assert writer.write(record(CLAIMED)).entry is None
    assert kept(world) == ["float: not a refund's image"]


def test_an_entry_whose_numbers_became_booleans_is_another_one() -> None:
    entry = audit_entry(refund(version=1, amount_minor=1).item())
    wire = item_to_wire(entry)
    wire["version"] = {"BOOL": True}
    wire["details"]["M"]["amount_minor"] = {"BOOL": True}
    assert not same_entry(item_from_wire(wire), entry)
