"""`refunds backup …` at a terminal: what it says and how it exits."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from tests.unit.backup.parts import BackedUp, LocalSigner, refund
from tests.unit.factories import REGION

from refunds.digests import digest_key
from refunds.gateway import Payment, PaymentStatus, RefundPage
from refunds.ledger_table import LedgerTable
from refunds.refund import Status
from refunds.refunds_table import RefundsTable
from refunds.routing import Gateways
from refunds_ops import cli
from refunds_ops.backup import commands, drill_command, restore_command
from refunds_ops.backup.options import WORK
from refunds_ops.errors import RefusedError
from refunds_ops.terminal import run_command

Run = Callable[..., tuple[int, str, str]]

COMMANDS = (commands, drill_command, restore_command)


@pytest.fixture
def refunds(
    stack: BackedUp,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """The command line, on that stack; returns status, stdout and stderr."""
    for name, value in {
        "AWS_DEFAULT_REGION": REGION,
        "RefundsTableName": stack.refunds,
        "LedgerTableName": stack.ledger,
        "AuditTableName": stack.audit,
        "BackupBucketName": stack.bucket,
        "RefundQueueUrl": "https://queue",
        "BackupRefundsFunctionName": "stack-BackupRefunds",
        "BackupSigningKeyArn": "arn:of-kms",
        "RefundRequestsMappingId": "mapping",
        "COLUMNS": "200",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    for module in COMMANDS:
        monkeypatch.setattr(module, "keys_of", lambda *_: [stack.signer.public_key])
    monkeypatch.setattr(restore_command, "_must_not_flow", lambda stack: None)

    def run(*arguments: str) -> tuple[int, str, str]:
        status = run_command(
            lambda: cli.cli(["backup", *arguments], standalone_mode=False, prog_name="refunds")
        )
        told = capsys.readouterr()
        return status, told.out, told.err

    return run


def download(stack: BackedUp, folder: Path) -> None:
    for key in stack.listed():
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(stack.object(key))


def test_backups_are_listed_newest_first(stack: BackedUp, refunds: Run) -> None:
    status, _, err = refunds("list")
    assert (status, "no backup yet" in err) == (1, True)
    stack.add(refund(1))
    stack.back_up()
    stack.back_up()
    status, out, _ = refunds("list", "--json")
    told = json.loads(out)
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

    monkeypatch.setattr(commands, "_invoke", invoke)
    status, out, _ = refunds("run", "--json")
    assert (status, json.loads(out)["number"]) == (0, 1)


def test_a_failed_function_is_told(refunds: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def invoke(**_: Any) -> dict[str, Any]:
        body = BytesIO(b'{"errorType": "BackupIncompleteError", "errorMessage": "secret"}')
        return {"Payload": body, "FunctionError": "Unhandled"}

    functions = SimpleNamespace(functions=SimpleNamespace(invoke=invoke))
    monkeypatch.setattr(commands, "find_stack", lambda name: _Named(functions))
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
    offline = ("verify", "--from", "downloaded", "--public-key", "key.pem")
    assert refunds(*offline)[0] == 0
    assert refunds(*offline, "--at-least", "2")[0] == 1
    (tmp_path / "downloaded" / digest_key(1)).unlink()
    assert refunds(*offline)[0] == 1
    key.write_text("no key")
    assert refunds(*offline)[0] == 1
    assert refunds("verify", "--from", "nowhere")[0] == 2
    assert refunds("verify")[0] == 3


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


def test_parquet_without_its_library_says_how(
    stack: BackedUp, refunds: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack.back_up()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    status, _, err = refunds("export", "--format", "parquet", "out.parquet")
    assert (status, "pyarrow" in err) == (3, True)


class OneGateway:
    """Every payment is 10,000; it shows no refunds."""

    name = "flair"
    timeout_seconds = 5.0

    def get_payment(self, transaction_id: str, deadline: Any) -> Payment:
        return Payment(transaction_id, PaymentStatus.CAPTURED, "EUR", 10_000, 0)

    def list_refunds(self, deadline: Any, **_: Any) -> RefundPage:
        return RefundPage((), None)


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        restore_command,
        "_gateways",
        lambda stack: Gateways([OneGateway()]),  # type: ignore[list-item]
    )


def empty(stack: BackedUp) -> None:
    """Every row of the tables is lost."""
    dynamodb = boto3.client("dynamodb", region_name=REGION)
    for table, keys in (
        (stack.refunds, ["refund_id"]),
        (stack.ledger, ["transaction_id"]),
        (stack.audit, ["transaction_id", "entry_id"]),
    ):
        for item in dynamodb.scan(TableName=table)["Items"]:
            dynamodb.delete_item(TableName=table, Key={key: item[key] for key in keys})


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


def test_a_restore_refuses_while_requests_flow(
    stack: BackedUp, refunds: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack.back_up()
    monkeypatch.undo()
    enabled = SimpleNamespace(get_event_source_mapping=lambda UUID: {"State": "Enabled"})  # noqa: N803
    with pytest.raises(RefusedError, match="flow"):
        restore_command._must_not_flow(_Named(SimpleNamespace(functions=enabled)))  # type: ignore[arg-type]


def test_a_restore_needs_the_keys_signature(
    stack: BackedUp, refunds: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack.back_up()
    monkeypatch.setattr(restore_command, "keys_of", lambda *_: [LocalSigner("another").public_key])
    status, _, err = refunds("restore")
    assert (status, "not signed" in err) == (1, True)


def test_a_drill_tells_cloudwatch_how_it_went(
    stack: BackedUp, refunds: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[bool] = []
    monkeypatch.setattr(
        drill_command, "_tell_cloudwatch", lambda stack, passed, seconds: told.append(passed)
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


def test_the_drills_metric_is_the_one_that_the_alarm_watches(stack: BackedUp) -> None:
    def get_function_configuration(**_: Any) -> dict[str, Any]:
        return {"Environment": {"Variables": {"POWERTOOLS_SERVICE_NAME": "refunds-prod"}}}

    parts: Any = _Named(
        SimpleNamespace(
            functions=SimpleNamespace(get_function_configuration=get_function_configuration)
        )
    )
    parts.new_client = lambda service: boto3.client(service, region_name=REGION)
    drill_command._tell_cloudwatch(parts, passed=False, seconds=1.5)
    (metric,) = boto3.client("cloudwatch", region_name=REGION).list_metrics(
        Namespace="Refunds", MetricName="BackupDrillFailed"
    )["Metrics"]
    assert metric["Dimensions"] == [{"Name": "service", "Value": "refunds-prod"}]
