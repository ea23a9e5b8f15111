"""The audit commands as an operator runs them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.exceptions import EndpointConnectionError
from tests.support.audit_backups import Backups, Signer
from tests.support.audit_commands import Run
from tests.support.audit_rows import Trail, rehashed
from tests.support.moto_stack import REGION

from refunds_devkit.sandbox.server import SandboxGateway
from refunds_ops.audit import sources
from refunds_ops.audit.latest_backup import why_no_digest
from refunds_ops.stack.stack import Stack


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


def test_verify_does_without_settings_that_it_cannot_read(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are only for a note, and an auditor may have no right to read them."""

    def unreachable(stack: Stack) -> dict[str, str]:
        raise EndpointConnectionError(endpoint_url="https://lambda.example")

    monkeypatch.setattr(sources, "settings_of", unreachable)
    assert run("verify") == 0


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
