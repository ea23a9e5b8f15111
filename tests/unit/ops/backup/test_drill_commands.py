"""`refunds backup drill` at a terminal: what it says, to whom, and how it exits."""

from __future__ import annotations

import json
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError, WaiterError
from tests.support.backup_commands import Named, Run
from tests.support.backup_parts import BackedUp, refund
from tests.support.moto_stack import REGION

from refunds_ops.backup.drill import Driller
from refunds_ops.backup.restore import RestoreError
from refunds_ops.commands import drill


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

    parts: Any = Named(
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
