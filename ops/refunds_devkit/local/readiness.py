"""Whether a refund request would really be processed, found out without leaving a trace.

A probe that is no valid request goes the whole way: queue, event source mapping, ProcessRefund, the
event bus, and the dead-letter queue, where it is taken out again. No table has it, and no refund is
made. Before it: the gateway answers with the key in the stack's secret, both functions start with
all that they import and all their settings, and both mappings are on.
"""

from __future__ import annotations

import json
import secrets
import time
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from refunds_devkit.local.gateway import answer_of
from refunds_devkit.local.processes import wait_until
from refunds_devkit.local.workspace import Workspace
from refunds_ops.errors import NotReadyError
from refunds_ops.stack.stack import Stack

PROBE_SECONDS = 60.0
MAPPINGS_SECONDS = 30.0


def wait_until_ready(stack: Stack, workspace: Workspace, gateway_url: str) -> None:
    """Returns when a message would be processed. Raises ``NotReadyError``."""
    try:
        if wrong := _find_fault(stack, gateway_url):
            raise NotReadyError(
                f"The stack was deployed, but would process no refund: {wrong}.",
                f"Log: {workspace.log('emulator')}",
            )
    except (ClientError, BotoCoreError) as exc:
        raise NotReadyError(
            f"The emulator failed while the stack was tried out: {exc}",
            f"Log: {workspace.log('emulator')}",
        ) from exc


def _find_fault(stack: Stack, gateway_url: str) -> str | None:
    key = stack.secrets.get_secret_value(SecretId=stack["GatewaySecretArn"])["SecretString"]
    if wrong := answer_of(gateway_url, key):
        return f"the gateway at {gateway_url} is of no use: {wrong}"
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
    """Look into the dead-letter queue for up to a second; what is not the probe stays there."""
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
