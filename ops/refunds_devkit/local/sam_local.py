"""Runs `sam local invoke` of every function but ReceiveWebhook, on a temporary local stack.

The commands are those that a person would type after `make up`. Afterwards each function's work is
looked up in the stack, so a container that responds but wrote elsewhere is noticed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from refunds_devkit.local import containers
from refunds_devkit.local.deployment import build, sam_environment
from refunds_devkit.local.emulator import architecture
from refunds_devkit.local.lifecycle import down, up
from refunds_devkit.local.progress import Steps
from refunds_devkit.local.running import run
from refunds_devkit.local.workspace import PROJECT, Workspace
from refunds_ops.backup.storage import Bucket
from refunds_ops.backup.verification import newest
from refunds_ops.errors import NotReadyError
from refunds_ops.stack.records import audit_entries, refund_item
from refunds_ops.stack.stack import Stack

RUNTIME = "python3.13"
INVOKE_SECONDS = 180.0

_SAM = Path(sys.executable).parent / "sam"


@dataclass(frozen=True)
class Call:
    """A function, its event, and a check of its work that returns what is wrong, or None."""

    function: str
    event: str
    fault: Callable[[Stack, Any], str | None]


def invoke_all(workspace: Workspace, console: Console) -> int:
    """Invoke all and return the exit status. A missing container engine is an error only in CI."""
    if not containers.engine_runs():
        if os.environ.get("CI", "").lower() in ("1", "true", "yes"):
            raise NotReadyError(
                "No container engine is running, and CI does not skip this.",
                "Start Docker (docker version must show a server).",
            )
        console.print(
            "[bold yellow]SKIPPED[/] sam local invoke: no container engine is running.\n"
            "  Start Docker (docker version must show a server), then: make sam-local",
            highlight=False,
        )
        return 0
    steps = Steps(console)
    try:
        stack = up(workspace, steps)
        folder = workspace.folder / "build-for-containers"
        with steps.step(f"sam build for {RUNTIME}", f"Built for {RUNTIME}"):
            parameters = {"PythonRuntime": RUNTIME, "Architecture": architecture()}
            build(workspace, parameters, folder)
        for call in CALLS:
            _invoke(workspace, stack, folder / "template.yaml", call, steps)
    finally:
        down(workspace)
    console.print(f"[bold green]All {len(CALLS)} functions ran in containers.[/]")
    return 0


def _invoke(workspace: Workspace, stack: Stack, template: Path, call: Call, steps: Steps) -> None:
    log = workspace.log(f"invoke-{call.function}")
    command: list[str | Path] = [
        *(_SAM, "local", "invoke", call.function, "--config-file", PROJECT / "samconfig.toml"),
        *("--template", template, "--event", PROJECT / "events" / call.event),
        *("--env-vars", workspace.sam_env, "--region", stack.settings["AWS_REGION"]),
        *("--parameter-overrides", f"PythonRuntime={RUNTIME}", f"Architecture={architecture()}"),
        *(["--skip-pull-image"] if _has_image() else []),
    ]
    with steps.step(
        f"sam local invoke {call.function} --event events/{call.event}",
        f"{call.function}  events/{call.event}",
    ):
        said = run(
            command,
            sam_environment({k: v for k, v in stack.settings.items() if k != "AWS_ENDPOINT_URL"}),
            log,
            seconds=INVOKE_SECONDS,
            failure=f"sam local invoke {call.function} failed",
            to_do=["Its image is pulled from public.ecr.aws: can this machine reach it?"],
        )
        try:
            answer = json.loads(said)
        except ValueError:
            answer = said
        if fault := call.fault(stack, answer):
            raise NotReadyError(f"{call.function} ran, but {fault}.", f"Log: {log}")


def _has_image() -> bool:
    image = f"public.ecr.aws/lambda/python:{RUNTIME.removeprefix('python')}-{architecture()}"
    found = subprocess.run(
        ["docker", "image", "inspect", image], capture_output=True, timeout=60, check=False
    )
    return found.returncode == 0


def _process_refund(stack: Stack, answer: Any) -> str | None:
    event = json.loads((PROJECT / "events/process-refund-full.json").read_text())
    request = json.loads(event["Records"][0]["body"])
    if answer != {"batchItemFailures": []}:
        return f"answered {answer}"
    refund = refund_item(stack, request["refund_id"])
    if refund is None or refund["status"] != "SUCCEEDED":
        return f"the refund in the local stack is {refund and refund['status']}"
    return None


def _write_audit(stack: Stack, answer: Any) -> str | None:
    event = json.loads((PROJECT / "events/write-audit-insert.json").read_text())
    image = event["Records"][0]["dynamodb"]["NewImage"]
    if answer != {"batchItemFailures": []}:
        return f"answered {answer}"
    entries, _ = audit_entries(stack, image["transaction_id"]["S"], image["refund_id"]["S"])
    return None if entries else "the audit trail in the local stack has no entry"


def _reconcile(stack: Stack, answer: Any) -> str | None:
    if not isinstance(answer, dict) or answer.get("failed") != 0:
        return f"answered {answer}"
    return None


def _back_up(stack: Stack, answer: Any) -> str | None:
    found = newest(Bucket(stack.s3, stack["BackupBucketName"]))
    if found is None or found.backup_prefix != answer["prefix"]:
        return f"the local stack's newest backup is another one; the function returned {answer}"
    return None


CALLS = (
    Call("ProcessRefund", "process-refund-full.json", _process_refund),
    Call("WriteAudit", "write-audit-insert.json", _write_audit),
    Call("ReconcileRefunds", "reconcile.json", _reconcile),
    Call("BackupRefunds", "backup.json", _back_up),
)
