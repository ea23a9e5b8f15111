"""docs/backup.md's recipes of one table and of all tables, word by word, on a stack of its own:
what a restore leaves is the template's, its chains are whole, and what is in flight settles."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tests.local.flow import Flow, eventually
from tests.support.recipes import recipe

from refunds.domain.refund import Item
from refunds_devkit.local.lifecycle import down, up
from refunds_devkit.local.progress import Steps
from refunds_devkit.local.workspace import PROJECT, Workspace
from refunds_devkit.sandbox.client import SandboxClient
from refunds_ops.stack.records import refund_item

COMMAND_SECONDS = 300
TABLES = ("Refunds", "Ledger", "Audit")


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
        self._folder = workspace.folder

    def run(self, line: str) -> subprocess.CompletedProcess[str]:
        path = f"{self._bin}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        return subprocess.run(
            ["sh", "-euc", f"set -a; . '{self._env_file}'; set +a; {line}"],
            cwd=self._folder,
            env={**os.environ, "PATH": path, "PYTHONPATH": str(PROJECT)},
            text=True,
            capture_output=True,
            timeout=COMMAND_SECONDS,
        )

    def follow(self, heading: str, before_resume: Callable[[], None]) -> None:
        for line in recipe(heading):
            if line.startswith("refunds resume"):
                before_resume()
            done = self.run(line)
            assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    """A stack of its own: its tables are deleted."""
    for name in ("GATEWAY", "GATEWAY_URL", "GATEWAY_API_KEY", "EMULATOR_PORT", "SANDBOX_PORT"):
        os.environ.pop(name, None)
    workspace = Workspace(tmp_path_factory.mktemp("restoring"))
    try:
        stack = up(workspace, Steps(Console()), for_containers=False)
        yield Operator(Flow(stack, SandboxClient(stack["GATEWAY_URL"])), workspace)
    finally:
        down(workspace)


def settings_of(flow: Flow, table: str) -> dict[str, Any]:
    """What the template decides about a table."""
    dynamodb, name = flow.stack.dynamodb, flow.stack[f"{table}TableName"]
    described = dynamodb.describe_table(TableName=name)["Table"]
    backups = dynamodb.describe_continuous_backups(TableName=name)["ContinuousBackupsDescription"]
    tags = dynamodb.list_tags_of_resource(ResourceArn=described["TableArn"])["Tags"]
    stream: Any = described.get("StreamSpecification", {})
    return {
        "keys": described["KeySchema"],
        "indexes": sorted(
            (each["IndexName"], str(each["KeySchema"]), str(each["Projection"]))
            for each in described.get("GlobalSecondaryIndexes", [])
        ),
        "stream": stream.get("StreamViewType") if stream.get("StreamEnabled") else None,
        "billing": described.get("BillingModeSummary", {}).get("BillingMode"),
        "encryption": described.get("SSEDescription", {}).get("KMSMasterKeyArn"),
        "protected": described.get("DeletionProtectionEnabled", False),
        "recovery": backups["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"],
        "tags": {each["Key"]: each["Value"] for each in tags if not each["Key"].startswith("aws:")},
    }


def writer_mappings(flow: Flow) -> list[Any]:
    """WriteAudit's event source mappings that read the table's current stream."""
    dynamodb, functions = flow.stack.dynamodb, flow.stack.functions
    table = dynamodb.describe_table(TableName=flow.stack["RefundsTableName"])["Table"]
    mappings = functions.list_event_source_mappings(
        FunctionName=flow.stack["WriteAuditFunctionName"]
    )["EventSourceMappings"]
    return [each for each in mappings if each["EventSourceArn"] == table["LatestStreamArn"]]


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


def delete(flow: Flow, *tables: str) -> None:
    for table in tables:
        name = flow.stack[f"{table}TableName"]
        flow.stack.dynamodb.update_table(TableName=name, DeletionProtectionEnabled=False)
        flow.stack.dynamodb.delete_table(TableName=name)
        flow.stack.dynamodb.get_waiter("table_not_exists").wait(
            TableName=name, WaiterConfig={"Delay": 1}
        )


@pytest.mark.parametrize(
    ("heading", "lost"), [("One table", TABLES[:1]), ("All tables", TABLES)], ids=lambda it: str(it)
)
def test_a_recipe_leaves_a_whole_system(
    operator: Operator, heading: str, lost: tuple[str, ...]
) -> None:
    flow = operator.flow
    paid, pending = paid_and_pending(flow)
    flow.invoke("BackupRefunds")
    after_backup = flow.request(flow.payment(), 300)
    if "Audit" not in lost:
        flow.send(after_backup)
        flow.entries(flow.refund(after_backup, "SUCCEEDED"))
    wanted = {table: settings_of(flow, table) for table in TABLES}
    for table in {"Refunds", "Ledger", *lost}:
        # The emulator's CloudFormation leaves these two of the template out. A restore does not.
        wanted[table] |= {"encryption": flow.stack["DataKeyArn"], "recovery": "ENABLED"}
    delete(flow, *lost)

    def is_whole() -> None:
        differs = {
            (table, name): (value, wanted[table][name])
            for table in TABLES
            for name, value in settings_of(flow, table).items()
            if value != wanted[table][name]
        }
        assert not differs
        (mapping,) = writer_mappings(flow)
        assert mapping["State"] == "Enabled"
        # Without it nothing is resumed, and the restore connects it again.
        flow.stack.functions.delete_event_source_mapping(UUID=mapping["UUID"])
        eventually(lambda: not writer_mappings(flow), "WriteAudit reads nothing")
        refused = operator.run("refunds resume --why restored")
        assert refused.returncode != 0
        assert "WriteAudit" in refused.stdout + refused.stderr
        again = operator.run("refunds backup restore")
        assert again.returncode == 0, again.stdout + again.stderr
        assert len(writer_mappings(flow)) == 1

    operator.follow(heading, is_whole)

    assert flow.stack.dynamodb.describe_table(TableName=flow.stack["RefundsTableName"])
    flow.sandbox.settle(pending["gateway_refund_id"], "succeeded")
    settled = eventually(lambda: _settled(flow, pending), "the pending refund is paid")
    entries = flow.entries(settled)
    assert [each["version"] for each in entries] == list(range(1, settled["version"] + 1))
    # A new request, and one that was paid before, sent again.
    new = flow.request(flow.payment(), 100)
    flow.send(new, flow.request(paid["transaction_id"], 500, refund_id=paid["refund_id"]))
    flow.entries(flow.refund(new, "SUCCEEDED"))
    flow.queue_is_empty()
    assert flow.moved(paid["transaction_id"]) == [500]
    clean = operator.run("refunds verify --gateway")
    assert clean.returncode == 0, clean.stdout + clean.stderr
    assert not re.search(r"\bgap\b|chain_broken", clean.stdout)


def _settled(flow: Flow, refund: Item) -> Item | None:
    flow.invoke("ReconcileRefunds")
    item = refund_item(flow.stack, refund["refund_id"])
    return item if item and item["status"] == "SUCCEEDED" else None
