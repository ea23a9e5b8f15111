"""`make up` and `make down`: a running stack is found again, repaired, and stopped."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest
from rich.console import Console

from refunds_devkit.local.lifecycle import down, up
from refunds_devkit.local.processes import is_running, wait_until
from refunds_devkit.local.progress import Steps
from refunds_devkit.local.workspace import Workspace
from refunds_ops.stack.stack import OUTPUTS


def listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def test_up_is_mended_by_up_and_down_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GATEWAY_URL", raising=False)
    workspace, steps = Workspace(tmp_path / "local"), Steps(Console())
    try:
        stack = up(workspace, steps, for_containers=False)
        record = workspace.record()
        assert record is not None
        assert record.emulator is not None
        assert record.gateway is not None

        shown = subprocess.run(
            ["sh", "-ec", f"set -a; . '{workspace.stack_env}'; exec env"],
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        ).stdout.splitlines()
        exported = dict(line.split("=", 1) for line in shown if "=" in line)
        wanted = ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION")
        for name in (*wanted, "AWS_DEFAULT_REGION", "GATEWAY_URL", *OUTPUTS):
            assert exported[name], name
        assert exported["RefundQueueUrl"] == stack["RefundQueueUrl"]
        variables = json.loads(workspace.sam_env.read_text())
        assert variables["ProcessRefund"]["REFUNDS_TABLE"] == stack["RefundsTableName"]

        os.kill(record.gateway.pid, signal.SIGKILL)
        gateway = record.gateway
        assert wait_until(lambda: not is_running(gateway), 10)
        again = up(workspace, steps)
        assert again["RefundsTableName"] == stack["RefundsTableName"]
        mended = workspace.record()
        assert mended is not None
        assert mended.emulator == record.emulator
        assert mended.gateway != record.gateway
    finally:
        stopped = down(workspace)
    assert {"emulator", "gateway"} <= set(stopped)
    assert not listens(record.emulator_port)
    assert not is_running(record.emulator)
    assert down(workspace) == []
    assert not workspace.stack_env.exists()
