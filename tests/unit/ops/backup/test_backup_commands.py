"""`refunds backup` list, run, verify and read at a terminal: what they say and how they exit."""

from __future__ import annotations

import csv
import json
import sys
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.support.backup_commands import Named, Run, download
from tests.support.backup_parts import BackedUp, refund

from refunds.backup.digest import digest_key
from refunds_ops.backup.export import _is_int64
from refunds_ops.commands import backup


def test_backups_are_listed_newest_first(stack: BackedUp, refunds: Run) -> None:
    status, _, err = refunds("list")
    assert (status, "no backup yet" in err) == (0, True)
    stack.add(refund(1))
    stack.back_up()
    stack.back_up()
    status, out, _ = refunds("list", "--json")
    told = [json.loads(line) for line in out.splitlines()]
    assert (status, [each["number"] for each in told]) == (0, [2, 1])
    assert told[0]["items"] == {"refunds": 1, "ledger": 1, "audit": 1}
    assert told[0]["data"]["refunds"].endswith("/data/")
    assert told[0]["prefix"] in refunds("list")[1]


def test_run_waits_until_the_backup_is_published(
    stack: BackedUp, refunds: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack.add(refund(1))

    def invoke(_: Any) -> dict[str, Any]:
        told = stack.back_up()
        return {"continued": True, "prefix": told["prefix"]}

    monkeypatch.setattr(backup, "_invoke", invoke)
    status, out, _ = refunds("run", "--json")
    assert (status, json.loads(out)["number"]) == (0, 1)


def test_run_takes_the_backup_that_a_redelivered_step_made_instead(
    stack: BackedUp, refunds: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack.back_up()
    earlier = "refund-backups/2026/01/01/20260101T000000Z"
    monkeypatch.setattr(backup, "_invoke", lambda _: {"continued": True, "prefix": earlier})
    status, out, _ = refunds("run", "--json")
    assert (status, json.loads(out)["number"]) == (0, 1)


def test_a_failed_function_is_told(refunds: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def invoke(**_: Any) -> dict[str, Any]:
        body = BytesIO(b'{"errorType": "BackupIncompleteError", "errorMessage": "secret"}')
        return {"Payload": body, "FunctionError": "Unhandled"}

    functions = SimpleNamespace(functions=SimpleNamespace(invoke=invoke))
    monkeypatch.setattr(backup, "find_stack", lambda name: Named(functions))
    status, _, err = refunds("run")
    assert (status, "BackupIncompleteError" in err) == (1, True)
    assert "secret" not in err


def test_verify_says_what_is_wrong_and_exits_1(stack: BackedUp, refunds: Run) -> None:
    stack.add(refund(1))
    stack.back_up()
    status, out, _ = refunds("verify")
    assert (status, "whole" in out) == (0, True)
    key = next(key for key in stack.listed() if "/refunds/" in key and "/data/" in key)
    stack.s3.put_object(Bucket=stack.bucket, Key=key, Body=b"something else")
    status, out, _ = refunds("verify", "--json")
    told = json.loads(out)
    assert status == 1
    assert {finding["kind"] for finding in told["findings"]} == {"modified", "overwritten"}
    assert {finding["key"] for finding in told["findings"]} == {key}
    assert key in refunds("verify")[1]


def test_verify_works_offline(
    stack: BackedUp, refunds: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack.add(refund(1))
    stack.back_up()
    download(stack, tmp_path / "downloaded")
    key = tmp_path / "key.pem"
    key.write_bytes(stack.signer.public_key.pem)
    monkeypatch.undo()  # no stack, no region, no credentials
    monkeypatch.chdir(tmp_path)
    offline = ("verify", "--backup-folder", "downloaded", "--public-key", "key.pem")
    assert refunds(*offline)[0] == 0
    assert refunds(*offline, "--at-least", "2")[0] == 1
    (tmp_path / "downloaded" / digest_key(1)).unlink()
    assert refunds(*offline)[0] == 1
    key.write_text("no key")
    assert refunds(*offline)[0] == 1
    assert refunds("verify", "--backup-folder", "nowhere")[0] == 2
    assert refunds("verify")[0] == 3


def test_verify_without_anything_to_verify_is_no_success(stack: BackedUp, refunds: Run) -> None:
    status, out, err = refunds("verify")
    assert (status, "nothing to verify" in err, "whole" in out) == (1, True, False)
    stack.back_up()
    assert refunds("verify", "--since", "yesterday")[0] == 2
    assert refunds("verify", "--since", "2026-01-01")[0] == 0
    status, out, err = refunds("verify", "--since", "9999-01-01", "--json")
    assert (status, "nothing to verify" in err, out) == (1, True, "")


def test_a_damaged_digest_hides_no_other_backup(stack: BackedUp, refunds: Run) -> None:
    stack.back_up()
    stack.back_up()
    stack.s3.put_object(Bucket=stack.bucket, Key=digest_key(2), Body=b"{}")
    status, out, err = refunds("list", "--json")
    assert (status, [json.loads(line)["number"] for line in out.splitlines()]) == (1, [1])
    assert digest_key(2) in err


def test_a_backup_is_read_as_json_and_csv(stack: BackedUp, refunds: Run, tmp_path: Path) -> None:
    stack.add(refund(1, user_id="=cmd()"), refund(2, metadata={"order": "é"}))
    stack.back_up()
    _, out, _ = refunds("cat")
    rows = {row["refund_id"]: row for row in map(json.loads, out.splitlines())}
    assert rows["rf-000001"]["amount_minor"] == 101
    assert rows["rf-000002"]["metadata"] == {"order": "é"}
    assert refunds("export", "--table", "refunds", "out.csv")[0] == 0
    with (tmp_path / "out.csv").open(newline="") as file:
        table = {row["refund_id"]: row for row in csv.DictReader(file)}
    assert table["rf-000001"]["amount_minor"] == "101"
    assert table["rf-000001"]["user_id"] == "'=cmd()"  # no formula for a spreadsheet
    assert json.loads(table["rf-000002"]["metadata"]) == {"order": "é"}
    assert refunds("export", "--table", "audit", "--format", "jsonl", "out.jsonl")[0] == 0
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 2
    assert refunds("cat", "--backup", "9")[0] == 1
    status, _, err = refunds("export", "nowhere/out.csv")
    assert (status, "nowhere/out.csv can't be written" in err) == (3, True)


def test_a_ledger_has_as_many_columns_with_many_refunds_as_with_one(
    stack: BackedUp, refunds: Run, tmp_path: Path
) -> None:
    """A column for each refund made a file of refunds times payments."""
    stack.add(*(refund(number) for number in range(5)))
    stack.back_up()
    assert refunds("export", "--table", "ledger", "ledger.csv")[0] == 0
    with (tmp_path / "ledger.csv").open(newline="") as file:
        rows = {row["transaction_id"]: row for row in csv.DictReader(file)}
    assert len(rows) == 5
    names = {"transaction_id", "captured", "remaining", "currency", "reservations"}
    assert set(rows["tx-000003"]) == names
    assert json.loads(rows["tx-000003"]["reservations"]) == {"rf-000003": 103}
    _, out, _ = refunds("cat", "--table", "ledger")
    assert all("reservations" not in json.loads(line) for line in out.splitlines())  # as stored


def test_parquet_without_its_library_says_how(
    stack: BackedUp, refunds: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack.back_up()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    status, _, err = refunds("export", "--format", "parquet", "out.parquet")
    assert (status, "pyarrow" in err) == (3, True)


def test_only_numbers_that_parquet_has_stay_numbers() -> None:
    # The library itself is not needed here, and not installed.
    assert _is_int64(2**63 - 1)
    assert _is_int64(None)
    assert not _is_int64(2**63)
    assert not _is_int64(-(2**63) - 1)
    assert not _is_int64(True)
