"""An operator who types the recipes of docs/backup.md, for the tests that restore."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.local.flow import Flow
from tests.support.recipes import recipe

from refunds.domain.refund import Item
from refunds_devkit.local.workspace import PROJECT, Workspace
from refunds_ops.stack.records import refund_item

COMMAND_SECONDS = 300


class Operator:
    """Types commands as a person does, with the stack's settings in the environment."""

    def __init__(self, flow: Flow, workspace: Workspace) -> None:
        self.flow = flow
        self._env_file = workspace.stack_env
        self._bin = workspace.folder / "bin"
        self._bin.mkdir(exist_ok=True)
        shim = self._bin / "aws"
        shim.write_text(
            f'#!/bin/sh\nexec {sys.executable} {PROJECT}/tests/support/aws_cli.py "$@"\n'
        )
        shim.chmod(0o755)
        self.folder = workspace.folder

    def run(
        self, line: str, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """``environment``: of another stack than the one whose settings are in the shell."""
        path = f"{self._bin}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        return subprocess.run(
            [
                "sh",
                "-euc",
                line if environment else f"set -a; . '{self._env_file}'; set +a; {line}",
            ],
            cwd=self.folder,
            env={**os.environ, **(environment or {}), "PATH": path, "PYTHONPATH": str(PROJECT)},
            text=True,
            capture_output=True,
            timeout=COMMAND_SECONDS,
        )

    def follow(
        self,
        heading: str,
        before_resume: Callable[[], None] = lambda: None,
        environment_of: Callable[[str], Mapping[str, str] | None] = lambda line: None,
        statuses: Mapping[str, int] = {},
    ) -> None:
        """Run the recipe below ``heading`` line by line. Fails the test when a line ends with
        another exit status than 0, or than ``statuses`` has for it."""
        for line in recipe(heading):
            if re.match(r"refunds( --stack \S+)? resume", line):
                before_resume()
            done = self.run(line, environment_of(line))
            wanted = statuses.get(line, 0)
            assert done.returncode == wanted, f"{line}\n{done.stdout}\n{done.stderr}"


def paid_and_pending(flow: Flow) -> tuple[Item, Item]:
    paid = flow.request(flow.payment(), 500)
    payment = flow.payment()
    flow.sandbox.add_fault("pending", transaction_id=payment)
    pending = flow.request(payment, 700)
    flow.send(paid, pending)
    settled = flow.refund(paid, "SUCCEEDED")
    open_ = flow.refund(pending, "PENDING")
    for refund in (settled, open_):
        flow.entries(refund)
    flow.queue_is_empty()
    return settled, open_


def settled_by_reconciler(flow: Flow, refund: Item) -> Item | None:
    flow.invoke("ReconcileRefunds")
    item = refund_item(flow.stack, refund["refund_id"])
    return item if item and item["status"] == "SUCCEEDED" else None
