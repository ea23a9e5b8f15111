"""The audit commands that mend: rebuild, replay and close, as an operator runs them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.support.audit_backups import Backups
from tests.support.audit_commands import Run
from tests.support.audit_rows import Trail, stream_record
from tests.support.builders import NOW
from tests.support.failed_records import keep_as_lambda, records_of

from refunds.backup.digest import digest_key
from refunds_ops.audit.verify import Verification


def test_a_gap_is_rebuilt_and_then_gone(run: Run, trail: Trail, capsys: Any) -> None:
    trail.drop_entry("r4", 2)
    assert run("audit", "rebuild", "r4") == 1
    keep_as_lambda(trail, records_of(trail, "r4"))
    assert run("audit", "rebuild", "--all", "--dry-run") == 0
    assert run("verify") == 1
    assert run("audit", "rebuild", "--all") == 0
    capsys.readouterr()
    assert run("verify") == 0
    assert run("audit", "rebuild", "r4") == 0
    assert "No entry is missing" in capsys.readouterr().out


def test_a_refund_that_only_failed_records_tell_of_is_rebuilt(run: Run, trail: Trail) -> None:
    trail.begin("r8", "p8", 5)
    trail.stream.delete_item(TableName=trail.stack.refunds_table, Key={"refund_id": {"S": "r8"}})
    keep_as_lambda(trail, records_of(trail, "r8"))
    assert run("audit", "rebuild", "--all") == 0
    assert [entry["event"] for entry in trail.entries("r8")] == [
        "refund.processing",
        "refund.deleted",
    ]


def test_rebuild_finds_what_is_lost_behind_any_number_of_other_findings(
    run: Run, trail: Trail, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits: Any = Verification.__init__.__kwdefaults__
    monkeypatch.setitem(limits, "max_findings", 10)
    there = trail.client.get_item(
        TableName=trail.stack.refunds_table, Key={"refund_id": {"S": "r1"}}
    )["Item"]
    puts = [
        {
            "PutRequest": {
                "Item": there | {"refund_id": {"S": f"a{number:05d}"}, "version": {"S": ""}}
            }
        }
        for number in range(25)
    ]
    trail.client.batch_write_item(RequestItems={trail.stack.refunds_table: puts})
    trail.drop_entry("r4", 3)
    assert run("audit", "rebuild", "--all") == 0
    assert [entry["version"] for entry in trail.entries("r4")] == [1, 2, 3]


def test_rebuild_of_a_refund_that_nobody_knows(run: Run, capsys: Any) -> None:
    assert run("audit", "rebuild", "r4", "no-such-refund") == 1
    assert "no such refund: no-such-refund" in capsys.readouterr().err


def test_rebuild_asks_the_newest_backup(run: Run, trail: Trail) -> None:
    Backups(trail).publish()
    trail.drop_entry("r4", 3)
    trail.edit_refund("r4", failure_code="forged")
    assert run("audit", "rebuild", "r4", "--public-key", "key.pem") == 1
    assert [entry["version"] for entry in trail.entries("r4")] == [1, 2]
    assert run("audit", "rebuild", "r4", "--no-backup") == 0


def test_rebuild_goes_back_to_the_newest_backup_that_can_be_read(
    run: Run, trail: Trail, capsys: Any
) -> None:
    backups = Backups(trail)
    backups.publish()
    backups.publish()
    backups.rewrite(digest_key(2), b"not a digest")
    trail.drop_entry("r4", 3)
    trail.edit_refund("r4", failure_code="forged")
    assert run("audit", "rebuild", "r4", "--public-key", "key.pem") == 1
    told = " ".join(capsys.readouterr().err.split())
    assert "can't be read" in told
    assert "An older backup is compared instead." in told
    assert [entry["version"] for entry in trail.entries("r4")] == [1, 2]


def test_replay_publishes_nothing_unless_asked(run: Run, trail: Trail, capsys: Any) -> None:
    keep_as_lambda(trail, records_of(trail, "r1"))
    trail.stack.events()
    assert run("audit", "replay", "--dry-run") == 0
    assert run("audit", "replay") == 0
    assert trail.stack.events() == []
    keep_as_lambda(trail, records_of(trail, "r1"))
    assert run("audit", "replay", "--publish") == 0
    assert len(trail.stack.events()) == 1
    assert "1 events published" in capsys.readouterr().out


def test_replay_goes_on_after_an_object_that_it_can_not_put_back(
    run: Run, trail: Trail, capsys: Any
) -> None:
    s3, bucket = trail.stack.clients.s3, trail.stack.failures_bucket
    there = trail.client.get_item(
        TableName=trail.stack.refunds_table, Key={"refund_id": {"S": "r1"}}
    )["Item"]
    poison = there | {
        "version": {"N": "3"},
        "status": {"S": "REVERSED"},
        "failure_code": {"N": "5"},
    }
    changed = stream_record(900, NOW, {"refund_id": {"S": "r1"}}, there, poison)
    for key, record in (("audit/a.json", changed), ("audit/b.json", ["no", "record"])):
        s3.put_object(Bucket=bucket, Key=key, Body=json.dumps({"record": record}).encode())
    trail.paid("r5", "p4", 700)
    keep_as_lambda(trail, records_of(trail, "r5"))
    assert run("audit", "replay") == 1
    assert [entry["version"] for entry in trail.entries("r5")] == [1, 2]
    assert [entry["version"] for entry in trail.entries("r1")] == [1, 2]
    out = capsys.readouterr().out
    assert "audit/a.json" in out
    assert "audit/b.json" in out


def test_replay_of_a_key_that_is_not_there_says_so(run: Run, capsys: Any) -> None:
    assert run("audit", "replay", "audit/nope.json") == 1
    assert "audit/nope.json  is not in" in capsys.readouterr().out


def test_a_failure_is_closed_with_a_reason(run: Run, trail: Trail) -> None:
    trail.stack.clients.s3.put_object(
        Bucket=trail.stack.failures_bucket, Key="audit/x.json", Body=b"{}"
    )
    assert run("audit", "replay") == 1
    assert run("audit", "close", "audit/x.json", "--why", "a test, über\nall ") == 0
    assert run("verify") == 0
    assert run("audit", "close", "audit/x.json", "--why", "again") == 1


@pytest.mark.parametrize(
    "key", ["dead-letters/2026/11/23/m-1.json", "dead-letters-closed/m-1.json", "handled/audit/x"]
)
def test_only_failed_stream_records_are_closed_and_replayed(
    run: Run, trail: Trail, key: str, capsys: Any
) -> None:
    """Closing the archived message of a request would hide it from everybody."""
    s3, bucket = trail.stack.clients.s3, trail.stack.failures_bucket
    s3.put_object(Bucket=bucket, Key=key, Body=b'{"body": "a request"}')
    assert run("audit", "close", key, "--why", "not one of ours") == 1
    assert "refunds dead-letters" in capsys.readouterr().err
    assert run("audit", "replay", key) == 1
    assert list(trail.stack.kept(bucket)) == [key]
