"""The audit commands as an operator runs them."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from tests.support.audit_backups import Backups, Signer
from tests.support.audit_rows import Trail, rehashed, stream_record
from tests.support.builders import NOW
from tests.support.failed_records import keep_as_lambda, records_of
from tests.support.moto_stack import REGION

from refunds.backup.digest import digest_key
from refunds_devkit.sandbox.server import SandboxGateway
from refunds_ops.audit import cross_check, sources
from refunds_ops.audit.latest_backup import why_no_digest
from refunds_ops.audit.verify import Verification
from refunds_ops.cli import cli
from refunds_ops.stack.stack import Stack
from refunds_ops.terminal import run_command

Run = Callable[..., int]


@pytest.fixture
def run(trail: Trail, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Runs a command on the trail's stack; returns its exit status."""
    stack = trail.stack
    outputs = {
        "RefundQueueUrl": stack.queue_url,
        "RefundsTableName": stack.refunds_table,
        "LedgerTableName": stack.ledger_table,
        "AuditTableName": stack.audit_table,
        "FailuresBucketName": stack.failures_bucket,
        "BackupBucketName": stack.backup_bucket,
        "EventBusName": stack.bus_name,
        "AWS_REGION": REGION,
        "COLUMNS": "120",
    }
    for name, value in outputs.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cross_check, "CLAIM_SECONDS", 0.0)  # nothing is between two steps here
    (tmp_path / "key.pem").write_bytes(Signer().public.pem)

    def run_(*arguments: str) -> int:
        return run_command(lambda: cli(list(arguments), standalone_mode=False))

    return run_


def test_verify_says_that_all_is_well(run: Run, capsys: Any) -> None:
    assert run("verify") == 0
    assert "Everything is intact" in capsys.readouterr().out


def test_verify_as_json(run: Run, trail: Trail, capsys: Any) -> None:
    trail.drop_entry("r4", 2)
    assert run("verify", "--json") == 1
    told = json.loads(capsys.readouterr().out)
    (finding,) = told["findings"]
    assert not told["clean"]
    assert (finding["kind"], finding["refund_id"], finding["version"]) == ("gap", "r4", 2)
    assert "rebuild" in finding["to_do"]


def test_verify_names_what_is_wrong_and_what_to_do(run: Run, trail: Trail, capsys: Any) -> None:
    trail.edit_refund("r1", processed_by="mallory")
    assert run("verify") == 1
    out = " ".join(capsys.readouterr().out.split())
    assert "refund_changed" in out
    assert "'mallory' in Refunds" in out


def test_a_refund_that_was_removed_can_have_its_receipt(run: Run, trail: Trail) -> None:
    trail.stream.delete_item(TableName=trail.stack.refunds_table, Key={"refund_id": {"S": "r4"}})
    trail.deliver()
    Backups(trail).publish()
    assert run("audit", "receipt", "r4", "--public-key", "key.pem") == 1
    removed = ("receipt", "r4", "--transaction", "p3", "--public-key", "key.pem")
    assert run("audit", *removed) == 0
    assert run("audit", "check-receipt", "r4.receipt.json", "--public-key", "key.pem") == 0


def test_no_receipt_is_written_of_a_chain_that_was_tampered_with(
    run: Run, trail: Trail, capsys: Any
) -> None:
    trail.clock.advance(hours=1)
    Backups(trail).publish()
    trail.put_entry(rehashed(trail.entry("r4", 3) | {"processed_by": "mallory"}))
    assert run("audit", "receipt", "r4", "--public-key", "key.pem") == 1
    assert "version 3 was recorded before the backup" in capsys.readouterr().err
    trail.put_entry(trail.entry("r4", 2) | {"processed_by": "mallory"})
    assert run("audit", "receipt", "r4", "--public-key", "key.pem") == 1
    assert not Path("r4.receipt.json").exists()


def test_verify_without_a_stack_is_an_environment_error(run: Run, monkeypatch: Any) -> None:
    for name in ("RefundQueueUrl", "RefundsTableName"):
        monkeypatch.delenv(name)
    assert run("verify") == 3


def test_verify_of_a_table_that_is_not_there(run: Run, monkeypatch: Any) -> None:
    monkeypatch.setenv("AuditTableName", "nowhere")
    assert run("verify") == 3


def test_verify_holds_against_the_signed_backup(run: Run, trail: Trail, capsys: Any) -> None:
    Backups(trail, Signer("mallory")).publish()
    assert run("verify", "--public-key", "key.pem") == 1
    assert "backup_damaged" in capsys.readouterr().out


def test_verify_says_when_the_digests_are_gone(run: Run, trail: Trail, capsys: Any) -> None:
    assert run("verify", "--public-key", "key.pem") == 0
    assert "no backup yet" in capsys.readouterr().out
    backups = Backups(trail)
    backups.publish()
    for found in backups.storage.list("refund-backups/digests/"):
        backups.s3.delete_object(Bucket=backups.bucket, Key=found.key)
    assert run("verify", "--public-key", "key.pem") == 1
    assert "there is no digest" in " ".join(capsys.readouterr().out.split())
    assert run("verify", "--no-backup") == 0


def test_runs_without_a_digest_are_told_as_what_they_are(trail: Trail) -> None:
    backups, run = Backups(trail), "refund-backups/2026/11/26/20261126T031500Z"
    at = datetime(2026, 11, 26, 3, 15, tzinfo=UTC)
    for table in ("refunds", "ledger"):
        backups.rewrite(f"{run}/{table}/AWSDynamoDB/1-a/manifest-summary.json", b"")
    backups.rewrite(f"{run}/audit/AWSDynamoDB/1-a/_started", b"")
    # It failed before all was stored: there was never a digest.
    assert why_no_digest(backups.storage, at + timedelta(days=9)) is None
    backups.rewrite(f"{run}/audit/AWSDynamoDB/1-a/manifest-summary.json", b"")
    assert why_no_digest(backups.storage, at + timedelta(hours=23)) is None  # it may be on
    told = why_no_digest(backups.storage, at + timedelta(hours=25))
    assert told == "a run stored all tables, and there is no digest: signing failed, or it is gone"


def test_verify_goes_on_past_a_digest_that_can_not_be_read(
    run: Run, trail: Trail, capsys: Any
) -> None:
    backups = Backups(trail)
    backups.rewrite(backups.publish().key, b"{}")
    trail.drop_entry("r4", 2)
    assert run("verify", "--public-key", "key.pem", "--json") == 1
    found = json.loads(capsys.readouterr().out)["findings"]
    assert {each["kind"] for each in found} == {"backup_damaged", "gap"}


class Functions:
    """Lambda, as far as the settings of a function go."""

    meta = SimpleNamespace(region_name=REGION)

    def __init__(self, url: str, secret_arn: str) -> None:
        self._variables = {
            "STAGE": "local",
            "GATEWAY": "flair",
            "GATEWAY_URL": url,
            "GATEWAY_SECRET_ARN": secret_arn,
            "GATEWAY_TIMEOUT_SECONDS": "5",
            "RECONCILE_AFTER_SECONDS": "300",
        }

    def get_function_configuration(self, **_: str) -> dict[str, Any]:
        return {"Environment": {"Variables": self._variables}}


def test_verify_asks_the_gateway_as_the_functions_do(
    run: Run, trail: Trail, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    trail.clock.advance(hours=1)
    with SandboxGateway() as gateway:
        secret = boto3.client("secretsmanager", region_name=REGION).create_secret(
            Name="gateway", SecretString=gateway.api_key
        )
        functions = Functions(gateway.url, secret["ARN"])
        monkeypatch.setattr(Stack, "functions", functions)
        monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
        monkeypatch.setenv("ReconcileRefundsFunctionName", "reconcile")
        for name in functions.get_function_configuration()["Environment"]["Variables"]:
            monkeypatch.setenv(name, "put back at the end")
        assert run("verify", "--gateway", "--json") == 1
        told = json.loads(capsys.readouterr().out)
        found = {(each["kind"], each["refund_id"]) for each in told["findings"]}
        # The sandbox has none of the trail's refunds.
        assert found == {("gateway_missing", each) for each in ("r1", "r2", "r3", "r4")}
    monkeypatch.setattr(sources, "GATEWAY_TRIES", 1)
    assert run("verify", "--gateway") == 3


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


def test_show_tells_the_story_of_a_refund(run: Run, capsys: Any) -> None:
    assert run("audit", "show", "r4") == 0
    out = capsys.readouterr().out
    for told in ("r4", "5.00 USD", "processing", "succeeded", "reversed", "account_closed"):
        assert told in out


def test_show_tells_the_story_of_a_payment(run: Run, capsys: Any) -> None:
    assert run("audit", "show", "--transaction", "p1") == 0
    out = capsys.readouterr().out
    assert "captured" in out
    assert "r1" in out
    assert "r2" in out


def test_show_marks_where_a_chain_is_broken(run: Run, trail: Trail, capsys: Any) -> None:
    trail.drop_entry("r4", 2)
    trail.put_entry(trail.entry("r4", 3) | {"processed_by": "mallory"})
    assert run("audit", "show", "r4") == 1
    assert "✗" in capsys.readouterr().out


def test_show_of_an_entry_that_lacks_its_refund(run: Run, trail: Trail, capsys: Any) -> None:
    entry = trail.entry("r4", 1)
    del entry["refund_id"]
    trail.put_entry(entry)
    assert run("audit", "show", "r4") == 1
    assert "can't be read" in capsys.readouterr().err


def test_no_control_character_of_a_record_reaches_the_terminal(
    run: Run, trail: Trail, capsys: Any
) -> None:
    trail.begin("r5", "p4", 700, requested_by="agent:\x1b[2Jx")
    trail.deliver()
    assert run("audit", "show", "r5") == 0
    trail.edit_refund("r5", requested_by="agent:\x1b[2Jy")
    trail.edit_refund("r1", version=7, transaction_id="\x1b[2J")
    assert run("verify") == 1
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\\x1b[2Jx" in out


def test_show_of_what_is_not_there(run: Run) -> None:
    assert run("audit", "show", "nothing") == 1
    assert run("audit", "show", "--transaction", "nothing") == 0  # as `refunds list`
    assert run("audit", "show", "no id!") == 1
    assert run("audit", "show") == 2


def test_a_receipt_goes_out_and_is_checked_offline(run: Run, trail: Trail, capsys: Any) -> None:
    Backups(trail).publish()
    assert run("audit", "receipt", "r4", "--public-key", "key.pem") == 0
    path = Path("r4.receipt.json")
    assert run("audit", "check-receipt", str(path), "--public-key", "key.pem") == 0
    out = capsys.readouterr().out
    assert "3 of them signed by" in out
    assert "NOT PROVEN" not in out
    assert run("audit", "check-receipt", str(path)) == 1
    assert "NOT PROVEN: versions 1, 2 and 3" in capsys.readouterr().out
    assert run("audit", "check-receipt", str(path), "--public-key", "key.pem", "--json") == 0
    assert json.loads(capsys.readouterr().out)["proven"] is True
    receipt = json.loads(path.read_text())
    receipt["entries"][0]["user_id"] = "mallory"
    path.write_text(json.dumps(receipt))
    assert run("audit", "check-receipt", str(path), "--public-key", "key.pem", "--json") == 1
    assert not json.loads(capsys.readouterr().out)["sound"]


def test_a_receipt_can_be_a_page_that_checks_itself(
    run: Run, trail: Trail, capsys: Any, tmp_path: Path
) -> None:
    Backups(trail).publish()
    assert run("audit", "receipt", "r4", "--html", "--public-key", "key.pem") == 0
    page = Path("r4.receipt.html")
    assert page.read_text().startswith("<!doctype html>")
    assert run("audit", "check-receipt", str(page), "--public-key", "key.pem") == 0
    page.write_text(page.read_text().replace('"amount_minor": 500', '"amount_minor": 5', 1))
    assert run("audit", "check-receipt", str(page), "--public-key", "key.pem") == 1
    assert "entry 1 was changed" in capsys.readouterr().out
    assert (
        run("audit", "receipt", "r4", "--html", "-o", "mine.html", "--public-key", "key.pem") == 0
    )
    assert Path("mine.html").exists()


def test_a_statement_has_pages_that_prove_each_refund(
    run: Run, trail: Trail, monkeypatch: pytest.MonkeyPatch
) -> None:
    Backups(trail).publish()
    begun = trail.begin("r9", "p9", 700)  # the stream has yet to deliver its entry
    monkeypatch.setattr(sources, "public_key", lambda stack, path: Signer().public)
    month = begun.created_at[:7]
    assert run("statement", "--month", month, "--output", "month", "--no-gateway") == 0
    proof = Path("month/proof")
    assert sorted(path.name for path in proof.glob("*.html")) == [
        f"r{number}.receipt.html" for number in (1, 2, 3, 4)
    ]
    key = str(proof / "public-key.pem")
    for page in proof.glob("*.receipt.*"):
        assert run("audit", "check-receipt", str(page), "--public-key", key) == 0
    readme = Path("month/README.txt").read_text()
    assert "open proof/REFUND_ID.receipt.html in a browser" in readme
    assert "r9 has no audit entry yet" in readme
