"""Lost entries made again, failed records put back; and what can't be proven stays a gap."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError
from tests.support.audit_backups import Backups
from tests.support.audit_rows import Trail, named, stream_record
from tests.support.builders import NOW, person
from tests.support.counted_calls import counted_calls
from tests.support.failed_records import keep_as_lambda, records_of
from tests.support.people import session_arn

from refunds.domain.refund import Item, Status
from refunds.tables.audit_trail import AuditTable
from refunds_ops.audit.cross_check import CrossCheck
from refunds_ops.audit.latest_backup import BackupReader
from refunds_ops.audit.rebuild import Outcome, Rebuilder, backed_up, candidates_in, payments_in
from refunds_ops.audit.replay import Replayer


def rebuild(
    trail: Trail, refund_id: str, *, backup: BackupReader | None = None, dry_run: bool = False
) -> list[Outcome]:
    seen = candidates_in(trail.failures(), {refund_id})
    check = CrossCheck(
        trail.tables(),
        clock=trail.clock,
        sleep=lambda seconds: trail.clock.advance(seconds=seconds),
    )
    read = check.settled(refund_id, payments_in(seen).get(refund_id, set()))
    audit = AuditTable(trail.client, trail.stack.audit_table)
    rebuilder = Rebuilder(
        audit,
        trail.clock,
        person("jo"),
        backed_up=backed_up(backup, {refund_id}) if backup else None,
        dry_run=dry_run,
    )
    return list(rebuilder.rebuild(read, seen))


def told(entry: Item) -> Item:
    return {name: entry[name] for name in entry if name not in ("recorded_at", "rebuilt")}


def replayer(trail: Trail, **more: Any) -> Replayer:
    audit = AuditTable(trail.client, trail.stack.audit_table)
    return Replayer(trail.failures(), audit, trail.clock, **more)


@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_lost_entry_is_made_again_from_lambdas_failed_records(trail: Trail, version: int) -> None:
    lost = trail.drop_entry("r4", version)
    keep_as_lambda(trail, [records_of(trail, "r4")[version - 1]])
    (outcome,) = rebuild(trail, "r4")
    again = trail.entry("r4", version)
    assert outcome.why_not is None
    assert told(again) == told(lost)
    assert again["rebuilt"]["by"] == session_arn("jo")
    assert trail.verify().findings == []


def test_from_the_old_image_of_the_record_after_it(trail: Trail) -> None:
    lost = trail.drop_entry("r4", 2)
    keep_as_lambda(trail, [records_of(trail, "r4")[2]])
    (outcome,) = rebuild(trail, "r4")
    assert outcome.why_not is None
    assert told(trail.entry("r4", 2)) == told(lost)


def test_the_latest_version_from_the_refund_itself(trail: Trail) -> None:
    lost = trail.drop_entry("r4", 3)
    (outcome,) = rebuild(trail, "r4")
    again = trail.entry("r4", 3)
    assert outcome.source == again["rebuilt"]["from"] == "the refund's record"
    assert told(again) == told(lost)


def test_several_in_a_row_each_proves_the_one_before(trail: Trail) -> None:
    lost = [trail.drop_entry("r4", version) for version in (1, 2, 3)]
    keep_as_lambda(trail, records_of(trail, "r4")[:2])
    assert [outcome.version for outcome in rebuild(trail, "r4")] == [3, 2, 1]
    assert [told(entry) for entry in trail.entries("r4")] == [told(entry) for entry in lost]


def test_a_removals_entry(trail: Trail) -> None:
    trail.stream.delete_item(TableName=trail.stack.refunds_table, Key={"refund_id": {"S": "r1"}})
    keep_as_lambda(trail, records_of(trail, "r1")[-1:])
    assert ("orphan", "r1", 2) in named(trail.verify().findings)
    (outcome,) = rebuild(trail, "r1")
    assert outcome.why_not is None
    assert trail.entry("r1", 3)["event"] == "refund.deleted"


def test_a_change_and_the_removal_after_it_in_one_run(trail: Trail) -> None:
    trail.finish(trail.refunds.get("r1"), Status.REVERSED, failure_code="x")  # type: ignore[arg-type]
    trail.stream.delete_item(TableName=trail.stack.refunds_table, Key={"refund_id": {"S": "r1"}})
    keep_as_lambda(trail, records_of(trail, "r1")[-2:])
    assert [(each.version, each.why_not) for each in rebuild(trail, "r1")] == [(4, None), (3, None)]
    assert named(trail.verify().findings) == {("removed", "r1", 4)}


def test_a_refunds_record_that_is_not_the_backups_makes_no_entry(trail: Trail) -> None:
    backups = Backups(trail)
    backups.publish()
    lost = trail.drop_entry("r4", 3)
    (outcome,) = rebuild(trail, "r4", backup=backups.read(), dry_run=True)
    assert outcome.source == "the refund's record"
    trail.edit_refund("r4", processed_by="mallory")
    (outcome,) = rebuild(trail, "r4", backup=backups.read())
    assert outcome.why_not == "the newest backup holds another one"
    trail.edit_refund("r4", processed_by=lost["processed_by"])
    assert rebuild(trail, "r4", backup=backups.read())[0].source


def test_an_image_that_was_put_away_as_wrong_proves_no_latest_version(trail: Trail) -> None:
    trail.client.delete_item(TableName=trail.stack.refunds_table, Key={"refund_id": {"S": "r4"}})
    trail.drop_entry("r4", 3)
    key = keep_as_lambda(trail, [records_of(trail, "r4")[2]])
    trail.failures().move(key, "closed/", why="a hand's", by="operator:test")
    assert [each.why_not for each in rebuild(trail, "r4")] == ["no image of it is left"]


def test_what_nothing_else_proves_stays_told(trail: Trail) -> None:
    for refund_id, version in (("r1", 2), ("r2", 2)):
        trail.drop_entry(refund_id, version)
    keep_as_lambda(trail, records_of(trail, "r2")[-1:])
    for refund_id in ("r1", "r2"):
        rebuild(trail, refund_id)
    report = trail.verify()
    assert report.findings == []
    assert report.notes == [
        "2 entries of the trail were rebuilt; from the refund's own record alone: r1 v2."
    ]


def test_without_any_image_it_stays_a_gap(trail: Trail) -> None:
    trail.drop_entry("r4", 2)
    (outcome,) = rebuild(trail, "r4")
    assert outcome.why_not == "no image of it is left"
    assert named(trail.verify().findings) == {("gap", "r4", 2)}


def test_an_image_that_was_changed_is_not_made_an_entry(trail: Trail) -> None:
    trail.drop_entry("r4", 2)
    record = json.loads(json.dumps(records_of(trail, "r4")[1]))
    record["dynamodb"]["NewImage"]["processed_by"] = {"S": "mallory"}
    keep_as_lambda(trail, [record])
    (outcome,) = rebuild(trail, "r4")
    assert outcome.why_not == "no image that is left is the one that its successor names"
    assert [entry["version"] for entry in trail.entries("r4")] == [1, 3]


def test_a_latest_version_whose_images_differ_is_not_made(trail: Trail) -> None:
    trail.drop_entry("r4", 3)
    keep_as_lambda(trail, [records_of(trail, "r4")[2]])
    trail.edit_refund("r4", processed_by="mallory")
    (outcome,) = rebuild(trail, "r4")
    assert outcome.why_not is not None
    assert [entry["version"] for entry in trail.entries("r4")] == [1, 2]


def test_a_dry_run_stores_nothing(trail: Trail) -> None:
    trail.drop_entry("r4", 3)
    before = trail.all_items()
    (outcome,) = rebuild(trail, "r4", dry_run=True)
    assert outcome.source
    assert trail.all_items() == before


@pytest.mark.parametrize("payload", ["text", "object"])
def test_records_that_lambda_gave_up_on_go_back_through_the_writer(
    trail: Trail, payload: str
) -> None:
    begun = trail.begin("r5", "p4", 700)
    trail.finish(begun, Status.SUCCEEDED)
    key = keep_as_lambda(trail, records_of(trail, "r5"), payload=payload)
    found = trail.verify().findings
    assert named(found) == {
        ("no_entries", "r5", 2),
        ("stream_failure", "r5", 1),
        ("stream_failure", "r5", 2),
    }
    trail.stack.events()
    (kept,) = trail.failures().unhandled()
    result = replayer(trail).replay(kept)
    assert (result.stored, result.left) == (2, [])
    assert trail.stack.events() == []
    assert trail.verify().findings == []
    assert set(trail.stack.kept(trail.stack.failures_bucket)) == {f"handled/{key}"}


def test_replaying_publishes_when_asked(trail: Trail) -> None:
    keep_as_lambda(trail, records_of(trail, "r1"))
    trail.stack.events()
    (kept,) = trail.failures().unhandled()
    replayer(trail, bus=trail.bus).replay(kept)
    (event,) = trail.stack.events()
    assert (event["detail"]["refund_id"], event["detail"]["version"]) == ("r1", 2)


def test_a_kept_batch_is_stored_25_entries_in_a_request(trail: Trail) -> None:
    for number in range(15):
        trail.paid(f"many-{number:02d}", "p4", 1)
    records = [record for number in range(15) for record in records_of(trail, f"many-{number:02d}")]
    keep_as_lambda(trail, records)
    (kept,) = trail.failures().unhandled()
    with counted_calls() as calls:
        result = replayer(trail).replay(kept)
    assert (result.stored, result.left) == (30, [])
    assert calls["BatchExecuteStatement"] == 2
    assert trail.verify().findings == []


def test_what_a_later_attempt_may_store_is_raised_and_stays(
    trail: Trail, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_as_lambda(trail, records_of(trail, "r1"))
    (kept,) = trail.failures().unhandled()
    monkeypatch.setattr(AuditTable, "insert_new", raise_throttled)
    with pytest.raises(ClientError, match="Throttling"):
        replayer(trail).replay(kept)
    assert list(trail.failures().keys()) == [kept.key]


def raise_throttled(*_: Any) -> None:
    raise ClientError({"Error": {"Code": "ThrottlingException", "Message": "Throttling"}}, "x")


def test_what_still_makes_no_entry_stays_until_a_person_closes_it(trail: Trail) -> None:
    trail.deliver([stream_record(900, NOW, {"refund_id": {"S": "x"}}, None, {"a": {"B": "AA=="}})])
    (finding,) = trail.verify().findings
    assert finding.kind == "stream_failure"
    (kept,) = trail.failures().unhandled()
    assert not replayer(trail).replay(kept).handled
    assert named(trail.verify().findings) == {("stream_failure", "x", None)}
    trail.failures().move(kept.key, "closed/", why="a hand's test", by="operator:test")
    assert trail.verify().findings == []


def test_a_failure_whose_entry_has_come_since_is_no_finding(trail: Trail) -> None:
    keep_as_lambda(trail, records_of(trail, "r1"))
    assert trail.verify().findings == []


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"null", b'{"payload": "no json"}', b"\xff"])
def test_an_object_without_records_is_named(trail: Trail, body: bytes) -> None:
    trail.stack.clients.s3.put_object(
        Bucket=trail.stack.failures_bucket, Key="aws/lambda/x", Body=body
    )
    (finding,) = trail.verify().findings
    assert (finding.kind, finding.where) == ("stream_failure", "aws/lambda/x")


def test_an_object_with_metadata_alone_is_named(trail: Trail) -> None:
    key = keep_as_lambda(trail, records_of(trail, "r1"), payload="none")
    (finding,) = trail.verify().findings
    assert finding.where == key
