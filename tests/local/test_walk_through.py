"""A walk through the runbook: faults of the real local stack, and the alarms that they raise.

The emulator keeps no metrics and evaluates no alarm. So the metrics are read from the function's
own log, as CloudWatch would, and evaluated by the simulator's evaluator over template.yaml.

What the emulator can't do is played in tests/simulator/alarm_faults.py only: denied permissions
(it has no IAM), retries of stream records, and the metrics of SQS and Lambda themselves. A broken
release is played there too: here it would need a second build.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.local.flow import Flow, eventually
from tests.simulator.alarms import template_alarms
from tests.support.evaluated_alarms import alarms_after, logged_metrics


def run_reconciler(flow: Flow) -> dict[str, list[float]]:
    """One run; the metrics that it wrote."""
    answer = flow.stack.functions.invoke(
        FunctionName=flow.stack["ReconcileRefundsFunctionName"], Payload=b"{}", LogType="Tail"
    )
    assert "FunctionError" not in answer, answer["Payload"].read()
    log = base64.b64decode(answer["LogResult"]).decode(errors="replace")
    found = logged_metrics(log.splitlines())
    assert found["ReconcilerRuns"] == [1.0]
    return found


@contextmanager
def switched_off(flow: Flow, mapping_id: str) -> Iterator[None]:
    functions = flow.stack.functions

    def state(wanted: str) -> None:
        eventually(
            lambda: functions.get_event_source_mapping(UUID=mapping_id)["State"] == wanted,
            f"the mapping is {wanted}",
        )

    functions.update_event_source_mapping(UUID=mapping_id, Enabled=False)
    try:
        state("Disabled")
        yield
    finally:
        functions.update_event_source_mapping(UUID=mapping_id, Enabled=True)
        state("Enabled")


def new_environment(flow: Flow) -> None:
    """What the function has cached is gone: another setting starts it again."""
    functions, name = flow.stack.functions, flow.stack["ReconcileRefundsFunctionName"]
    variables = functions.get_function_configuration(FunctionName=name)["Environment"]["Variables"]
    variables["WALK_THROUGH"] = str(int(variables.get("WALK_THROUGH", "0")) + 1)
    functions.update_function_configuration(FunctionName=name, Environment={"Variables": variables})


def test_a_disabled_audit_mapping(flow: Flow) -> None:
    (mapping,) = flow.stack.functions.list_event_source_mappings(
        FunctionName=flow.stack["WriteAuditFunctionName"]
    )["EventSourceMappings"]
    with switched_off(flow, mapping["UUID"]):
        assert "AuditStopped" in alarms_after(run_reconciler(flow))
    assert "AuditStopped" not in alarms_after(run_reconciler(flow))


def test_a_wrong_key(flow: Flow) -> None:
    secrets, secret = flow.stack.secrets, flow.stack["GatewaySecretArn"]
    key = secrets.get_secret_value(SecretId=secret)["SecretString"]
    secrets.put_secret_value(SecretId=secret, SecretString="wrong")
    try:
        new_environment(flow)
        metrics = run_reconciler(flow)
    finally:
        secrets.put_secret_value(SecretId=secret, SecretString=key)
        new_environment(flow)

    assert metrics["MisconfiguredKeyRefused"]
    assert "Misconfigured" in alarms_after(metrics)
    assert "Misconfigured" not in alarms_after(run_reconciler(flow))


def test_an_archived_dead_letter_that_nobody_has_dealt_with(flow: Flow) -> None:
    _counted(flow, "dead-letters/2026/01/01/walk-through.json", "DeadLettersArchived")


def test_a_stream_record_that_made_no_entry(flow: Flow) -> None:
    _counted(flow, "audit/2026/01/01/walk-through.json", "AuditRecordsKept")


def test_a_reconciler_that_is_silent() -> None:
    assert alarms_after({}) >= {"ReconcilerSilent"}


def _counted(flow: Flow, key: str, alarm: str) -> None:
    s3, bucket = flow.stack.s3, flow.stack["FailuresBucketName"]
    metric = next(each.series[1] for each in template_alarms() if each.name == alarm)
    before: Any = run_reconciler(flow)[metric]
    s3.put_object(Bucket=bucket, Key=key, Body=b"{}")
    try:
        metrics = run_reconciler(flow)
    finally:
        s3.delete_object(Bucket=bucket, Key=key)

    assert metrics[metric] == [before[0] + 1]
    assert alarm in alarms_after(metrics)
    assert run_reconciler(flow)[metric] == before
