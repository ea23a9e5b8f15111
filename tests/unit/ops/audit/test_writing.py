"""WriteAudit: a pure function of the stream, whatever is delivered how often and in what order."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
import rfc8785
from botocore.exceptions import ClientError
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.audit_backups import REFUND
from tests.support.audit_rows import Trail, stream_record
from tests.support.builders import NOW, FakeClock, InlinePool

from refunds.audit.writer import AuditWriter, handle_stream_batch
from refunds.domain.refund import Status
from refunds.tables.audit_trail import AuditTable
from refunds.tables.wire import item_from_wire


def delivered(trail: Trail) -> list[Any]:
    """What the trail says, but for when each entry was recorded."""
    items = trail.all_items()[trail.stack.audit_table]
    return [
        {name: item[name] for name in item if name != "recorded_at"}
        for item in items
        if item.get("record_type") == REFUND
    ]


class MemoryTable:
    """The audit table in memory, for many deliveries."""

    def __init__(self) -> None:
        self.entries: dict[str, Any] = {}

    def insert_new(self, entries: Any) -> list[Any]:
        return [self._insert(entry) for entry in entries]

    def _insert(self, entry: Any) -> Any:
        told = {name: value for name, value in entry.items() if name != "recorded_at"}
        there = self.entries.setdefault(entry["entry_id"], told)
        return None if there is told else there


class NoBus:
    def publish(self, events: Any) -> None:
        """Takes everything."""


def deliver_to(table: MemoryTable, records: list[Any]) -> None:
    told: list[Any] = []
    writer = AuditWriter(audit=table, failures=None, clock=FakeClock())  # type: ignore[arg-type]
    handle_stream_batch(
        records,
        writer,
        NoBus(),  # type: ignore[arg-type]
        InlinePool(),
        lambda record, result: told.append(result),
    )
    assert told == [None] * len(records)


@pytest.mark.long
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_split_any_order_any_number_of_times_makes_the_same_trail(
    made: Trail, data: st.DataObject
) -> None:
    table = MemoryTable()
    for _ in range(data.draw(st.integers(1, 3), label="times")):
        order = data.draw(st.permutations(made.stream.records), label="order")
        start = 0
        while start < len(order):
            size = data.draw(st.integers(1, len(order)), label="batch")
            deliver_to(table, order[start : start + size])
            start += size
    stored = [item_from_wire(each) for each in delivered(made)]
    assert [table.entries[key] for key in sorted(table.entries)] == sorted(
        stored, key=lambda entry: str(entry["entry_id"])
    )


def test_replaying_the_stream_from_the_start_changes_nothing(trail: Trail) -> None:
    before = trail.all_items()
    for size in (1, 3, 100):
        for start in range(0, len(trail.stream.records), size):
            assert set(trail.deliver(trail.stream.records[start : start + size])) == {None}
    assert trail.all_items() == before
    assert trail.stack.kept(trail.stack.failures_bucket) == {}


def test_an_auditor_recomputes_the_chain_with_a_few_lines_of_their_own(trail: Trail) -> None:
    previous = None
    for entry in trail.entries("r4"):
        told = {
            name: value
            for name, value in entry.items()
            if name not in ("entry_hash", "recorded_at", "rebuilt")
        }
        assert hashlib.sha256(rfc8785.dumps(told)).hexdigest() == entry["entry_hash"]
        assert entry["previous_hash"] == previous
        previous = entry["entry_hash"]
    assert previous is not None


def key(refund_id: str = "r1") -> dict[str, Any]:
    return {"refund_id": {"S": refund_id}}


def image_of(trail: Trail, refund_id: str = "r1") -> dict[str, Any]:
    item: dict[str, Any] = trail.client.get_item(
        TableName=trail.stack.refunds_table, Key=key(refund_id)
    )["Item"]
    return item


@pytest.mark.parametrize(
    "image",
    [
        {},
        {"refund_id": {"S": "x"}},
        {"refund_id": {"B": "AAD/"}, "version": {"N": "1"}},
        {"refund_id": {"SS": ["a", "b"]}},
        {"anything": {"M": {"deep": {"NS": ["1", "2"]}}}},
        {"version": {"N": "1", "S": "1"}},
        {"not even": "wire"},
    ],
)
def test_a_poison_record_is_kept_whole_and_blocks_nobody(trail: Trail, image: Any) -> None:
    poison = stream_record(900, NOW, key("x"), None, image)
    made = trail.begin("r5", "p4", 700)
    (good,) = trail.stream.records[trail.delivered :]
    told = trail.deliver([poison, good])
    assert told[0] is not None
    assert told[1] is None
    assert trail.entry(made.refund_id, 1)["status"] == "PROCESSING"
    (kept,) = trail.stack.kept(trail.stack.failures_bucket).values()
    assert kept["record"] == json.loads(json.dumps(poison))


@pytest.mark.parametrize(
    "change",
    [
        {"version": {"N": "1.5"}},
        {"version": {"S": "3"}},
        {"version": {"BOOL": True}},
        {"version": {"N": "0"}},
        {"version": {"N": "1000000"}},
        {"amount_minor": {"N": "12.5"}},
        {"amount_minor": {"N": "9007199254740993"}},
        {"status": {"S": "PAID"}},
        {"refund_id": {"S": "r1#000001"}},
        {"transaction_id": {"S": "p 1"}},
        {"currency": {"NULL": True}},
        {"metadata": {"B": "AAD/"}},
        {"metadata": {"SS": ["a"]}},
    ],
)
def test_an_image_of_another_shape_makes_no_entry(trail: Trail, change: Any) -> None:
    old = image_of(trail)
    new = old | {"version": {"N": "3"}} | change
    before = delivered(trail)
    (told,) = trail.deliver([stream_record(900, NOW, key(), old, new)])
    assert told is not None
    assert delivered(trail) == before


def test_bytes_and_sets_as_boto3_gives_them_are_kept_too(trail: Trail) -> None:
    record = stream_record(900, NOW, key(), None, {})
    record["dynamodb"]["NewImage"] = {"a": {"B": b"\x00\xff"}, "b": {"SS": {"y", "x"}}}
    del record["eventID"]
    assert trail.deliver([record]) != [None]
    (kept,) = trail.stack.kept(trail.stack.failures_bucket).values()
    image = kept["record"]["dynamodb"]["NewImage"]
    assert image == {"a": {"B": "AP8="}, "b": {"SS": ["x", "y"]}}


def test_a_change_without_a_new_version_is_kept_and_makes_no_entry(trail: Trail) -> None:
    old = image_of(trail)
    record = stream_record(900, NOW, key(), old, old | {"amount_minor": {"N": "1"}})
    before = delivered(trail)
    assert trail.deliver([record]) == ["changed without a new version"]
    assert delivered(trail) == before
    (kept,) = trail.stack.kept(trail.stack.failures_bucket).values()
    assert kept["reason"] == "changed without a new version"


def test_a_lease_or_an_attribute_of_nobodys_makes_no_entry(trail: Trail) -> None:
    old = image_of(trail)
    new = old | {"lease_until": {"S": "2030-01-01T00:00:00.000000Z"}, "remark": {"B": "AAA="}}
    assert trail.deliver([stream_record(900, NOW, key(), old, new)]) == [None]
    assert trail.stack.kept(trail.stack.failures_bucket) == {}


@pytest.mark.parametrize(
    ("identity", "who"),
    [
        ({}, "unknown"),
        (
            {"userIdentity": {"type": "Service", "principalId": "dynamodb.amazonaws.com"}},
            "dynamodb.amazonaws.com",
        ),
    ],
)
def test_a_removal_is_an_entry_of_its_own(trail: Trail, identity: Any, who: str) -> None:
    trail.stream.delete_item(TableName=trail.stack.refunds_table, Key=key())
    record = trail.stream.records[-1] | identity
    assert trail.deliver([record]) == [None]
    assert trail.deliver([record]) == [None]
    entry = trail.entry("r1", 3)
    assert (entry["event"], entry["status"]) == ("refund.deleted", "SUCCEEDED")
    assert entry["processed_by"] == who
    assert entry["previous_hash"] == trail.entry("r1", 2)["entry_hash"]
    assert {(each.kind, each.version) for each in trail.verify().findings} == {
        ("removed", 3),
        ("reservation_stray", None),
    }


def test_another_entry_under_its_key_is_never_overwritten(trail: Trail) -> None:
    forged = trail.entry("r1", 2) | {"processed_by": "mallory"}
    trail.put_entry(forged)
    told = trail.deliver(trail.stream.records)
    assert "another entry of this version is already there" in told
    assert trail.entry("r1", 2) == forged


def test_what_a_second_try_may_mend_comes_again(trail: Trail, monkeypatch: Any) -> None:
    made = trail.begin("r5", "p4", 700)
    record = trail.stream.records[-1]

    def throttled(entries: Any) -> list[Any]:
        error = {"Error": {"Code": "ThrottlingException", "Message": ""}}
        return [ClientError(error, "BatchExecuteStatement") for _ in entries]  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(trail.writer._audit, "insert_new", throttled)
        (told,) = trail.deliver([record])
    assert isinstance(told, ClientError)
    assert trail.entries(made.refund_id) == []
    assert trail.stack.kept(trail.stack.failures_bucket) == {}
    assert trail.deliver([record]) == [None]


def test_events_come_in_the_streams_order_and_with_each_delivery(trail: Trail) -> None:
    trail.stack.events()
    trail.deliver(trail.stream.records)
    trail.deliver(trail.stream.records)
    seen = [
        (each["detail"]["refund_id"], each["detail"]["version"]) for each in trail.stack.events()
    ]
    assert sorted(seen) == sorted(2 * [("r1", 2), ("r2", 2), ("r3", 2), ("r4", 2), ("r4", 3)])


def test_a_payment_record_under_a_refunds_prefix_is_not_its_latest_entry(trail: Trail) -> None:
    latest = AuditTable(trail.client, trail.stack.audit_table).latest("p1", "r1")
    assert latest == trail.entry("r1", 2)


def test_a_usual_entry_stays_within_one_kilobyte(trail: Trail) -> None:
    there = trail.finish(
        trail.begin("01JD8Z9V6Y3N5T7W2QXK4M0RFB", "pay_01JD8Z9V6Y3N5T7W2QXK4M0R", 12_345),
        Status.SUCCEEDED,
        gateway_refund_id="fr_01JD8Z9V6Y3N5T7W2QXK",
    )
    trail.deliver()
    (item,) = (
        each
        for each in trail.all_items()[trail.stack.audit_table]
        if each["entry_id"]["S"] == f"REFUND#{there.refund_id}#000002"
    )
    assert len(json.dumps(item)) < 1500  # the JSON of its wire form; DynamoDB counts less
