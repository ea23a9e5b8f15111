"""Checks that the stack can process a refund request, without leaving a trace.

A probe that is not a valid request travels through the queue, the event source mapping,
ProcessRefund, the event bus and the dead-letter queue, from which it is removed. It reaches no
table and makes no refund. Before that, the gateway must accept the key in the stack's secret, both
functions must start with their imports and settings, and both mappings must be enabled.
"""

from __future__ import annotations

import json
import secrets
import time
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from refunds_devkit.local.gateway import gateway_problem
from refunds_devkit.local.processes import wait_until
from refunds_devkit.local.workspace import Workspace
from refunds_ops.errors import NotReadyError
from refunds_ops.stack.stack import Stack

PROBE_SECONDS = 60.0
MAPPINGS_SECONDS = 30.0


def wait_until_ready(stack: Stack, workspace: Workspace, gateway_url: str) -> None:
    """Returns once the stack can process a message. Raises ``NotReadyError``."""
    try:
        if wrong := _find_fault(stack, gateway_url):
            raise NotReadyError(
                f"The stack was deployed, but cannot process a refund: {wrong}.",
                f"Log: {workspace.log('emulator')}",
            )
    except (ClientError, BotoCoreError) as exc:
        raise NotReadyError(
            f"The emulator failed during the readiness check: {exc}",
            f"Log: {workspace.log('emulator')}",
        ) from exc


def _find_fault(stack: Stack, gateway_url: str) -> str | None:
    key = stack.secrets.get_secret_value(SecretId=stack["GatewaySecretArn"])["SecretString"]
    if wrong := gateway_problem(gateway_url, key):
        return f"the gateway at {gateway_url} cannot be used: {wrong}"
    if not wait_until(lambda: _mappings(stack) == ["Enabled", "Enabled"], MAPPINGS_SECONDS):
        return f"the event source mappings are {', '.join(_mappings(stack)) or 'missing'}"
    for function in ("ProcessRefund", "WriteAudit"):
        answer = stack.functions.invoke(
            FunctionName=stack[f"{function}FunctionName"], Payload=json.dumps({"Records": []})
        )
        if "FunctionError" in answer:
            return f"{function} fails: {_text(answer['Payload'].read())}"
    if not _probe_passes(stack):
        return f"a probe sent to the queue was not processed within {PROBE_SECONDS:.0f} s"
    return None


def _mappings(stack: Stack) -> list[str]:
    names = (stack["ProcessRefundFunctionName"], stack["WriteAuditFunctionName"])
    found = stack.functions.list_event_source_mappings()["EventSourceMappings"]
    return [
        each["State"] for each in found if any(f":{name}" in each["FunctionArn"] for name in names)
    ]


def _probe_passes(stack: Stack) -> bool:
    probe = f"readiness probe {secrets.token_hex(8)}: not a refund request"
    stack.sqs.send_message(QueueUrl=stack["RefundQueueUrl"], MessageBody=probe)
    deadline = time.monotonic() + PROBE_SECONDS
    while time.monotonic() < deadline:
        if _taken_out(stack, probe):
            return True
    return False


def _taken_out(stack: Stack, probe: str) -> bool:
    """Read the dead-letter queue for up to a second. Everything but the probe stays there."""
    queue = stack["RefundDeadLetterQueueUrl"]
    messages: list[Any] = list(
        stack.sqs.receive_message(
            QueueUrl=queue, MaxNumberOfMessages=10, WaitTimeSeconds=1, VisibilityTimeout=1
        ).get("Messages", [])
    )
    for message in messages:
        if message["Body"] == probe:
            stack.sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
            return True
    return False


def _text(payload: bytes) -> str:
    return payload.decode(errors="replace")[:500]
