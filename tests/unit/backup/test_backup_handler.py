"""The function as Lambda calls it: settings, metrics, and itself invoked again."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import boto3
import pytest
from tests.support.backup_parts import BackedUp, refund
from tests.support.moto_stack import REGION

from refunds.backup.export_format import ExportFormatError


@pytest.fixture
def handler(stack: BackedUp, monkeypatch: pytest.MonkeyPatch) -> Callable[[], ModuleType]:
    key = boto3.client("kms", region_name=REGION).create_key(
        KeySpec="RSA_2048", KeyUsage="SIGN_VERIFY"
    )["KeyMetadata"]["Arn"]
    for name, value in {
        "AWS_DEFAULT_REGION": REGION,
        "AWS_LAMBDA_FUNCTION_NAME": "stack-BackupRefunds",
        "AWS_LAMBDA_FUNCTION_VERSION": "7",
        "POWERTOOLS_SERVICE_NAME": "stack",
        "POWERTOOLS_METRICS_NAMESPACE": "Refunds",
        "POWERTOOLS_TRACE_DISABLED": "1",
        "REFUNDS_TABLE": stack.refunds,
        "LEDGER_TABLE": stack.ledger,
        "AUDIT_TABLE": stack.audit,
        "BACKUP_BUCKET": stack.bucket,
        "BACKUP_DATA_KEY_ARN": "arn:aws:kms:eu-central-1:111122223333:key/data",
        "BACKUP_SIGNING_KEY_ARN": key,
        "BACKUP_COMPRESSION": "gzip",
        "BACKUP_READ_UNITS_PER_SECOND": "0",
        "BACKUP_NATIVE_ABOVE_GIB": "0",
    }.items():
        monkeypatch.setenv(name, value)

    def fresh() -> ModuleType:
        module = importlib.import_module("refunds.handlers.backup_refunds")
        return importlib.reload(module)

    return fresh


def context(seconds: float = 900) -> SimpleNamespace:
    return SimpleNamespace(
        function_name="stack-BackupRefunds",
        function_version="7",
        memory_limit_in_mb=1769,
        invoked_function_arn="arn:aws:lambda:eu-central-1:111122223333:function:x:live",
        aws_request_id="request",
        get_remaining_time_in_millis=lambda: int(seconds * 1000),
    )


def metrics(out: str) -> set[str]:
    found: set[str] = set()
    for line in out.splitlines():
        if '"_aws"' in line:
            (about,) = json.loads(line)["_aws"]["CloudWatchMetrics"]
            found |= {each["Name"] for each in about["Metrics"]}
    return found


def test_an_empty_event_is_a_whole_run(
    stack: BackedUp, handler: Callable[[], ModuleType], capsys: pytest.CaptureFixture[str]
) -> None:
    stack.add(refund(1), refund(2))
    told = handler().handler({}, context())
    assert told["digest"]["sequence"] == 1
    assert {name: table["item_count"] for name, table in told["tables"].items()} == {
        "refunds": 2,
        "ledger": 2,
        "audit": 2,
    }
    json.dumps(told)  # Lambda returns it
    assert {"BackupCompleted", "BackupItemsRefunds", "DaysSinceBackupDrill"} <= metrics(
        capsys.readouterr().out
    )


def test_drills_that_cant_be_read_are_reported_as_long_ago(
    stack: BackedUp,
    handler: Callable[[], ModuleType],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stack.add(refund(1))
    module = handler()

    def denied(now: object) -> int:
        raise PermissionError

    monkeypatch.setattr(module._drill_age, "days", denied)
    assert module.handler({}, context())["digest"]["sequence"] == 1
    assert '"DaysSinceBackupDrill":[999.0]' in capsys.readouterr().out


def test_what_does_not_fit_is_continued_by_the_same_version(
    stack: BackedUp,
    handler: Callable[[], ModuleType],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stack.add(refund(1))
    module = handler()
    invoked: list[dict[str, Any]] = []
    monkeypatch.setattr(module._clients.functions, "invoke", lambda **asked: invoked.append(asked))
    told = module.handler({}, context(seconds=1))
    assert told["continued"] is True
    assert metrics(capsys.readouterr().out) & {"BackupCompleted"} == set()
    (asked,) = invoked
    assert asked["FunctionName"] == "stack-BackupRefunds"
    assert (asked["Qualifier"], asked["InvocationType"]) == ("7", "Event")
    told = module.handler(json.loads(asked["Payload"]), context())
    assert told["digest"]["sequence"] == 1
    assert told["tables"]["audit"]["item_count"] == 1


def test_reading_keeps_to_the_settings_limit(
    stack: BackedUp, handler: Callable[[], ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BACKUP_READ_UNITS_PER_SECOND", "5")
    waited: list[float] = []
    module = handler()
    limit = module._run._reader._limit
    monkeypatch.setattr(limit, "_sleep", waited.append)
    monkeypatch.setattr(limit, "_monotonic", lambda: 0.0)  # however slow the machine is
    for number in range(30):
        stack.put(stack.refunds, {"refund_id": f"rf-{number}", "text": "x" * 9000})
    module.handler({}, context())
    assert sum(waited) > 0


def test_a_wrong_compression_shows_at_the_start(
    handler: Callable[[], ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    handler()
    monkeypatch.setenv("BACKUP_COMPRESSION", "bzip2")
    with pytest.raises(ExportFormatError, match="bzip2"):
        handler()
