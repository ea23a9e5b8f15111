"""`refunds backup …` at a terminal: what it says and how it exits."""

from __future__ import annotations

import csv
import json
import sys
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError, WaiterError
from tests.support.backup_commands import Run, download, empty
from tests.support.backup_parts import BackedUp, LocalSigner, ledger_row, refund
from tests.support.moto_stack import REGION

from refunds.backup.digest import digest_key, signature_key
from refunds.domain.intake import Intake
from refunds.domain.refund import Status
from refunds.tables.ledger import LedgerTable
from refunds.tables.refunds import RefundsTable
from refunds.tables.state import Control
from refunds_ops.backup.drill import Driller
from refunds_ops.backup.export import _is_int64
from refunds_ops.backup.restore import RestoreError
from refunds_ops.commands import backup, drill, restore
from refunds_ops.commands.backup_options import WORK
from refunds_ops.stack.stack import Stack


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
    monkeypatch.setattr(backup, "find_stack", lambda name: _Named(functions))
    status, _, err = refunds("run")
    assert (status, "BackupIncompleteError" in err) == (1, True)
    assert "secret" not in err


class _Named:
    def __init__(self, parts: Any) -> None:
        self.functions = parts.functions

    def __getitem__(self, name: str) -> str:
        return name


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


@pytest.mark.usefixtures("gateway")
def test_a_restore_makes_the_tables_ready_for_the_queue(stack: BackedUp, refunds: Run) -> None:
    stack.add(refund(1), refund(2, status=Status.PROCESSING))
    stack.back_up()
    empty(stack)
    status, out, _ = refunds("restore", "--json")
    told = json.loads(out)
    assert status == 0
    assert told["tables"] == {name: {"restored": 2} for name in ("audit", "refunds", "ledger")}
    assert told["opened"] == 1
    steps = ["audit", "refunds", "refunds of the audit trail", "ledger"]
    steps += ["rebuild the ledger", "open unfinished refunds"]
    assert list(told["seconds"]) == steps
    ledger = LedgerTable(stack.dynamodb, stack.ledger).get("tx-000001")
    assert ledger is not None
    assert (ledger.captured, ledger.remaining) == (10_000, 10_000 - 101)
    opened = RefundsTable(stack.dynamodb, stack.refunds).get("rf-000002")
    assert opened is not None
    assert opened.open_shard is not None
    control = stack.dynamodb.get_item(
        TableName=stack.ledger, Key={"transaction_id": {"S": "#look-up-first"}}
    )["Item"]
    assert control["look_up_first_until"]["S"] > stack.clock.now().isoformat()
    assert not list(Path(WORK).glob("restore-*"))


@pytest.mark.usefixtures("gateway")
def test_a_restore_into_new_tables_leaves_the_old_ones(stack: BackedUp, refunds: Run) -> None:
    stack.add(refund(1))
    stack.back_up()
    stack.put(stack.refunds, refund(1, version=2).item())
    assert refunds("restore", "--suffix", "-restored")[0] == 0
    restored = RefundsTable(stack.dynamodb, f"{stack.refunds}-restored").get("rf-000001")
    live = RefundsTable(stack.dynamodb, stack.refunds).get("rf-000001")
    assert restored is not None
    assert live is not None
    assert (restored.version, live.version) == (1, 2)


def test_a_single_table_comes_back_as_it_was(stack: BackedUp, refunds: Run) -> None:
    stack.add(refund(1))
    stack.back_up()
    empty(stack)
    status, out, _ = refunds("restore", "--table", "audit", "--json")
    assert (status, json.loads(out)["tables"]) == (0, {"audit": {"restored": 1}})
    assert RefundsTable(stack.dynamodb, stack.refunds).get("rf-000001") is None


@pytest.mark.usefixtures("gateway")
def test_a_restore_says_what_differs_and_exits_1(stack: BackedUp, refunds: Run) -> None:
    stack.add(refund(1))
    stack.back_up()
    stack.put(stack.refunds, refund(1, amount_minor=5).item())
    status, out, _ = refunds("restore")
    assert (status, "different" in out) == (1, True)


@pytest.mark.usefixtures("gateway")
@pytest.mark.parametrize(
    ("held", "state", "status"),
    [
        (True, "Disabled", 0),
        (True, "Disabling", 1),
        (True, "Enabled", 1),
        (False, "Disabled", 1),  # by the breaker: the reconciler enables it at any time
    ],
)
def test_a_restore_refuses_while_requests_flow_or_may(
    stack: BackedUp,
    refunds: Run,
    monkeypatch: pytest.MonkeyPatch,
    held: bool,
    state: str,
    status: int,
) -> None:
    stack.add(refund(1))
    stack.back_up()
    empty(stack)
    monkeypatch.setattr(Stack.functions, "requests", state)
    if not held:
        Control(stack.dynamodb, stack.ledger).change_intake(lambda _: Intake())
    found, _, err = refunds("restore")
    assert (found, "refunds pause" in err) == (status, bool(status))
    restored = RefundsTable(stack.dynamodb, stack.refunds).get("rf-000001")
    assert (restored is None) == bool(status)


@pytest.mark.usefixtures("gateway")
def test_a_lost_ledger_is_made_anew_with_requests_held(stack: BackedUp, refunds: Run) -> None:
    stack.add(refund(1))
    stack.back_up()
    stack.dynamodb.delete_table(TableName=stack.ledger)
    assert refunds("restore", "--table", "refunds")[0] == 0
    control = Control(stack.dynamodb, stack.ledger)
    assert control.intake().paused
    assert control.look_up_first(stack.clock.now())


def test_with_a_lost_ledger_the_way_to_stop_requests_is_told(
    stack: BackedUp, refunds: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack.back_up()
    stack.dynamodb.delete_table(TableName=stack.ledger)
    monkeypatch.setattr(Stack.functions, "requests", "Enabled")
    status, _, err = refunds("restore")
    assert status == 1
    assert "update-event-source-mapping --no-enabled --uuid mapping" in err
    assert "refunds pause" not in err


@pytest.mark.usefixtures("gateway")
def test_whatever_stops_a_restore_claims_look_up_first_from_its_beginning(
    stack: BackedUp, refunds: Run
) -> None:
    stack.add(refund(1))
    stack.back_up()
    key = next(key for key in stack.listed() if "/audit/" in key and "/data/" in key)
    stack.s3.put_object(Bucket=stack.bucket, Key=key, Body=b"damaged")
    status, _, err = refunds("restore")
    assert (status, "hash" in err) == (1, True)
    assert Control(stack.dynamodb, stack.ledger).look_up_first(stack.clock.now())


@pytest.mark.usefixtures("gateway")
def test_a_stopped_restore_goes_on_and_begins_anew_when_asked(
    stack: BackedUp, refunds: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack.add(refund(1), refund(2))
    stack.back_up()
    stack.put(stack.refunds, refund(1, amount_minor=5).item())
    status, out, err = stopped_then(refunds, monkeypatch, "restore", "--json")
    assert (status, json.loads(out)["different"]) == (1, ["rf-000001"])
    assert "begun at" in err
    assert "--again" in err
    assert "begun at" not in refunds("restore")[2]  # that one had come to its end
    status, out, err = stopped_then(refunds, monkeypatch, "restore", "--again", "--json")
    assert json.loads(out)["tables"]["audit"] == {"same": 2}
    assert "begun at" not in err


def stopped_then(refunds: Run, monkeypatch: pytest.MonkeyPatch, *command: str) -> Any:
    """The command after the same one was stopped when its rows were restored."""
    with monkeypatch.context() as patched:

        def stopped(*_: Any, **__: Any) -> None:
            raise KeyboardInterrupt

        patched.setattr("refunds_ops.backup.stack_restore.open_unfinished", stopped)
        assert refunds("restore")[0] == 130
    return refunds(*command)


@pytest.mark.usefixtures("gateway")
@pytest.mark.parametrize("more", [(), ("--backup-folder", "downloaded")])
def test_a_restore_into_new_tables_row_by_row(
    stack: BackedUp, refunds: Run, tmp_path: Path, more: tuple[str, ...]
) -> None:
    stack.add(refund(1), refund(2, status=Status.PENDING))
    stack.back_up()
    download(stack, tmp_path / "downloaded")
    status, out, _ = refunds("restore", "--suffix", "-rows", "--row-by-row", *more, "--json")
    told = json.loads(out)
    assert (status, told["opened"]) == (0, 1)
    assert told["tables"] == {name: {"restored": 2} for name in ("audit", "refunds", "ledger")}
    assert RefundsTable(stack.dynamodb, f"{stack.refunds}-rows").get("rf-000001") == refund(1)
    live = RefundsTable(stack.dynamodb, stack.refunds).get("rf-000002")
    assert live is not None
    assert live.open_shard is None  # the stack's own table is as it was
    assert refunds("restore", "--suffix", "-imported", *more)[0] == (2 if more else 0)


def test_a_ledger_row_that_differs_is_said_unless_it_is_rebuilt(
    stack: BackedUp, refunds: Run, gateway: None
) -> None:
    stack.add(refund(1))
    stack.back_up()
    stack.put(stack.ledger, ledger_row([refund(1)], captured=5))
    for options in (("--without-gateway",), ("--table", "ledger", "--without-gateway")):
        status, out, _ = refunds("restore", *options, "--json")
        assert (status, json.loads(out)["different"]) == (1, ["tx-000001"])
    status, out, _ = refunds("restore", "--json")
    assert (status, json.loads(out)["different"]) == (0, [])


def test_an_older_backup_under_a_newer_number_is_not_restored(
    stack: BackedUp, refunds: Run
) -> None:
    stack.back_up()
    stack.back_up()
    older = {key(2): stack.object(key(1)) for key in (digest_key, signature_key)}
    for key, content in older.items():
        stack.s3.put_object(Bucket=stack.bucket, Key=key, Body=content)
    status, _, err = refunds("restore")
    assert (status, digest_key(1) in err) == (1, True)
    assert refunds("cat")[0] == 1


def test_a_restore_needs_the_keys_signature(
    stack: BackedUp, refunds: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack.back_up()
    monkeypatch.setattr(restore, "keys_of", lambda *_: [LocalSigner("another").public_key])
    status, _, err = refunds("restore")
    assert (status, "not signed" in err) == (1, True)


def test_a_drill_tells_cloudwatch_how_it_went(
    stack: BackedUp, refunds: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[bool] = []
    monkeypatch.setattr(
        drill, "_report_to_cloudwatch", lambda stack, passed, seconds: told.append(passed)
    )
    assert refunds("drill")[0] == 1  # there is no backup
    stack.add(refund(1))
    stack.back_up()
    status, out, _ = refunds("drill", "--json")
    assert (status, json.loads(out)["passed"]) == (0, True)
    assert "drill passed" in refunds("drill")[1]
    stack.put(stack.refunds, refund(1, amount_minor=5).item())
    status, out, _ = refunds("drill")
    assert (status, "rf-000001" in out) == (1, True)
    assert told == [False, True, True, False]


@pytest.mark.parametrize(
    "error",
    [
        ClientError({"Error": {"Code": "AccessDeniedException"}}, "ImportTable"),
        WaiterError("TableExists", "Max attempts exceeded", {}),
        RestoreError("it failed"),
        ZeroDivisionError(),
        KeyboardInterrupt(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_drill_that_ends_in_any_error_raises_the_alarm(
    stack: BackedUp, refunds: Run, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    told: list[bool] = []
    monkeypatch.setattr(
        drill, "_report_to_cloudwatch", lambda stack, passed, seconds: told.append(passed)
    )

    def run(*_: Any) -> None:
        raise error

    monkeypatch.setattr(Driller, "run", run)
    stack.back_up()
    with suppress(ZeroDivisionError):
        assert refunds("drill")[0] != 0
    assert told == [False]


def test_a_failed_drill_tells_all_that_went_wrong(
    stack: BackedUp, refunds: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*_: Any) -> None:
        try:
            raise RestoreError("the import failed")
        finally:
            raise RestoreError("the table is left")

    monkeypatch.setattr(Driller, "run", run)
    stack.back_up()
    _, out, _ = refunds("drill", "--no-metric")
    assert "the table is left; the import failed" in out


def test_the_drills_metric_is_the_one_that_the_alarm_watches(stack: BackedUp) -> None:
    def get_function_configuration(**_: Any) -> dict[str, Any]:
        return {"Environment": {"Variables": {"POWERTOOLS_SERVICE_NAME": "refunds-prod"}}}

    parts: Any = _Named(
        SimpleNamespace(
            functions=SimpleNamespace(get_function_configuration=get_function_configuration)
        )
    )
    parts.new_client = lambda service: boto3.client(service, region_name=REGION)
    drill._report_to_cloudwatch(parts, passed=False, seconds=1.5)
    (metric,) = boto3.client("cloudwatch", region_name=REGION).list_metrics(
        Namespace="Refunds", MetricName="BackupDrillFailed"
    )["Metrics"]
    assert metric["Dimensions"] == [{"Name": "service", "Value": "refunds-prod"}]
