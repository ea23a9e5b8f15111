"""What only a backup can show: a trail that was rewritten so that it fits itself."""

from __future__ import annotations

import gzip
import json

import pytest
from tests.support.audit_backups import REFUND, Backups, Signer
from tests.support.audit_rows import Trail, named, rehashed, verify_while

from refunds.backup.digest import DigestError, digest_key
from refunds.domain.audit_entry import audit_entry
from refunds.domain.clock import rfc3339
from refunds.domain.refund import Status
from refunds.tables.wire import item_from_wire


@pytest.fixture
def backups(trail: Trail) -> Backups:
    trail.clock.advance(hours=1)
    made = Backups(trail)
    made.publish()
    trail.clock.advance(hours=1)
    return made


def rewrite_whole_chain(trail: Trail, refund_id: str) -> None:
    """Another amount from the first version on, every hash made anew, the refund and the ledger
    along with it: nothing that is stored now contradicts it."""
    previous = None
    for entry in trail.entries(refund_id):
        details = entry["details"] | {"amount_minor": 2499}
        new = rehashed(entry | {"details": details, "previous_hash": previous})
        trail.put_entry(new)
        previous, before = new["entry_hash"], previous
    trail.edit_refund(refund_id, amount_minor=2499, previous_hash=before)
    trail.edit_ledger("p1", **{f"r#{refund_id}": 2499})


def test_a_clean_stack_agrees_with_its_backup(trail: Trail, backups: Backups) -> None:
    report = trail.verify(backup=backups.read())
    assert report.findings == []
    assert report.checked["backup_entries"] == 9


def test_what_was_written_after_the_backup_is_no_finding(trail: Trail, backups: Backups) -> None:
    trail.paid("r5", "p4", 700)
    trail.finish(trail.refunds.get("r1"), Status.REVERSED, failure_code="x")  # type: ignore[arg-type]
    trail.deliver()
    assert trail.verify(backup=backups.read()).findings == []


def test_a_consistent_rewrite_shows_only_against_the_signed_digest(
    trail: Trail, backups: Backups
) -> None:
    rewrite_whole_chain(trail, "r1")
    assert trail.verify().findings == []
    assert named(trail.verify(backup=backups.read()).findings) == {
        ("backup_entry_differs", "r1", 1),
        ("backup_entry_differs", "r1", 2),
        ("backup_refund_differs", "r1", 2),
    }


def test_a_rewrite_before_the_newest_backup_shows_against_an_older_one(
    trail: Trail, backups: Backups
) -> None:
    rewrite_whole_chain(trail, "r1")
    backups.publish()
    assert trail.verify(backup=backups.read()).findings == []
    found = named(trail.verify(backup=backups.read(sequence=1)).findings)
    assert ("backup_entry_differs", "r1", 1) in found


def test_a_backup_that_was_rewritten_along_with_the_trail_fails_its_digest(
    trail: Trail, backups: Backups
) -> None:
    rewrite_whole_chain(trail, "r1")
    items = trail.all_items()[trail.stack.audit_table]
    lines = [json.dumps({"Item": each}) for each in items if each.get("record_type") == REFUND]
    (file,) = backups.read().digest.exports[2].files
    backups.rewrite(file.key, gzip.compress("".join(f"{line}\n" for line in lines).encode()))
    report = trail.verify(backup=backups.read())
    assert {each.kind for each in report.findings} == {"backup_damaged"}


def test_a_digest_signed_by_another_key_is_not_believed(trail: Trail, backups: Backups) -> None:
    forged = Backups(trail, Signer("mallory"))
    rewrite_whole_chain(trail, "r1")
    forged.publish()
    report = trail.verify(backup=forged.read(key=backups.signer.public))
    assert named(report.findings) == {("backup_damaged", None, None)}


def test_a_refund_that_vanished_with_all_its_traces(trail: Trail, backups: Backups) -> None:
    trail.client.delete_item(TableName=trail.stack.refunds_table, Key={"refund_id": {"S": "r3"}})
    for version in (1, 2):
        trail.drop_entry("r3", version)
    trail.client.delete_item(
        TableName=trail.stack.ledger_table, Key={"transaction_id": {"S": "p2"}}
    )
    assert trail.verify().findings == []
    assert named(trail.verify(backup=backups.read()).findings) == {
        ("backup_entry_gone", "r3", 1),
        ("backup_entry_gone", "r3", 2),
        ("backup_refund_gone", "r3", 2),
    }


def test_a_refund_that_was_invented_later_and_backdated(trail: Trail, backups: Backups) -> None:
    past = trail.entry("r2", 1)["recorded_at"]
    trail.paid("r5", "p4", 700)
    for record in trail.stream.records[-2:]:
        image = item_from_wire(record["dynamodb"]["NewImage"])
        trail.put_entry(audit_entry(image) | {"recorded_at": past})
    assert trail.verify().findings == []
    assert named(trail.verify(backup=backups.read()).findings) == {
        ("backup_entry_new", "r5", 1),
        ("backup_entry_new", "r5", 2),
    }


def test_an_entry_whose_time_of_recording_was_edited(trail: Trail, backups: Backups) -> None:
    trail.put_entry(trail.entry("r1", 2) | {"recorded_at": "2031-01-01T00:00:00.000000Z"})
    assert named(trail.verify(backup=backups.read()).findings) == {
        ("backup_entry_differs", "r1", 2)
    }


def test_an_entry_that_was_rebuilt_since_is_told_but_no_finding(
    trail: Trail, backups: Backups
) -> None:
    rebuilt = {"by": "operator:eve", "from": "the refund's record"}
    now = rfc3339(trail.clock.now())
    trail.put_entry(trail.entry("r1", 2) | {"recorded_at": now, "rebuilt": rebuilt})
    report = trail.verify(backup=backups.read())
    assert report.findings == []
    assert report.notes[-1] == (
        "1 entries of the trail were rebuilt; from the refund's own record alone: r1 v2."
    )


def test_an_entry_that_became_another_record(trail: Trail, backups: Backups) -> None:
    for version in (1, 2):
        trail.put_entry(trail.entry("r3", version) | {"record_type": "PAYMENT"})
    trail.client.delete_item(TableName=trail.stack.refunds_table, Key={"refund_id": {"S": "r3"}})
    trail.edit_ledger("p2", **{"r#r3": None, "remaining": 10**8})
    assert named(trail.verify(backup=backups.read()).findings) == {
        ("backup_entry_gone", "r3", 1),
        ("backup_entry_gone", "r3", 2),
        ("backup_refund_gone", "r3", 2),
    }


@pytest.mark.parametrize(
    "line",
    [
        b'{"Item":{}}',
        b'{"Item":{"refund_id":{"S":5}}}',
        b'{"Item":{"refund_id":"r1"}}',
        b'{"Item":{"refund_id":{"S":"\\ud800"}}}',
        b"[" * 100_000,
    ],
)
def test_a_backup_of_items_that_are_none_is_damaged(
    trail: Trail, backups: Backups, line: bytes
) -> None:
    for export in backups.read().digest.exports:
        backups.rewrite(export.files[0].key, gzip.compress(line + b"\n"))
    found = trail.verify(backup=backups.read()).findings
    assert {each.kind for each in found} == {"backup_damaged"}


def test_more_captured_than_in_the_backup_is_told(trail: Trail, backups: Backups) -> None:
    trail.edit_ledger("p1", captured=2 * 10**8, remaining=2 * 10**8 - 3500)
    report = trail.verify(backup=backups.read())
    assert report.findings == []
    assert "payments p1" in report.notes[-1]


@pytest.mark.parametrize(("at_gateway", "fine"), [(2 * 10**8, True), (10**8, False), (None, False)])
def test_more_captured_than_in_the_backup_is_for_the_gateway_to_say(
    trail: Trail, backups: Backups, at_gateway: int | None, fine: bool
) -> None:
    trail.edit_ledger("p1", captured=2 * 10**8, remaining=2 * 10**8 - 3500)
    report = trail.verify(backup=backups.read(), captured={"p1": at_gateway}.get)
    assert [each.kind for each in report.findings] == ([] if fine else ["captured_raised"])


def test_a_missing_data_file_is_named(trail: Trail, backups: Backups) -> None:
    (file,) = backups.read().digest.exports[0].files
    backups.s3.delete_object(Bucket=backups.bucket, Key=file.key)
    (finding,) = trail.verify(backup=backups.read()).findings
    assert finding.kind == "backup_damaged"


def test_an_older_digest_under_a_newer_number_is_not_taken_for_the_newest(
    trail: Trail, backups: Backups
) -> None:
    # It is signed, and would hide whatever was rewritten between the two backups.
    backups.publish()
    old = backups.s3.get_object(Bucket=backups.bucket, Key=digest_key(1))
    backups.s3.put_object(
        Bucket=backups.bucket,
        Key=digest_key(2),
        Body=old["Body"].read(),
        Metadata=old["Metadata"],
    )
    with pytest.raises(DigestError, match="000000000001"):
        backups.read()


def test_a_number_past_any_of_ours_in_a_backup_is_told_and_ends_nothing(trail: Trail) -> None:
    trail.edit_refund("r1", version=2**63)
    backups = Backups(trail)
    backups.publish()
    kinds = {finding.kind for finding in trail.verify(backup=backups.read()).findings}
    assert "refund_unreadable" in kinds


def test_an_entry_that_is_put_back_while_it_runs_is_no_finding(
    trail: Trail, backups: Backups
) -> None:
    entry = next(each for each in trail.entries("r4") if each["version"] == 2)
    trail.drop_entry("r4", 2)

    def put_back(name: str) -> None:
        if name == "chains":
            trail.put_entry(entry)

    assert verify_while(trail, put_back, backup=backups.read()).findings == []
