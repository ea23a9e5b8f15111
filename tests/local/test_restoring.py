"""docs/backup.md's recipes, word by word, on a stack of its own: what a restore leaves is the
template's, its chains are whole, and what is in flight settles."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any

import pytest
from rich.console import Console
from tests.local.flow import Flow, eventually
from tests.local.operating import Operator, paid_and_pending, settled_by_reconciler

from refunds_devkit.local.lifecycle import down, up
from refunds_devkit.local.progress import Steps
from refunds_devkit.local.workspace import Workspace
from refunds_devkit.sandbox.client import SandboxClient

TABLES = ("Refunds", "Ledger", "Audit")


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
    settled = eventually(lambda: settled_by_reconciler(flow, pending), "the pending refund is paid")
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


def test_one_refund_that_is_lost_or_damaged_comes_back_as_its_trail_has_it(
    operator: Operator,
) -> None:
    flow = operator.flow
    dynamodb, table = flow.stack.dynamodb, flow.stack["RefundsTableName"]
    key = {"refund_id": {"S": "rf-000001"}}
    body = backed_up(flow, "rf-000001")

    dynamodb.delete_item(TableName=table, Key=key)
    found = operator.run("refunds verify")
    assert found.returncode == 1, found.stdout + found.stderr
    operator.follow("One refund")
    is_restored(flow, body)

    dynamodb.update_item(
        TableName=table,
        Key=key,
        UpdateExpression="SET amount_minor = :wrong",
        ExpressionAttributeValues={":wrong": {"N": "9999"}},
    )
    eventually(lambda: _failed_records(operator), "the change by hand is in the failures bucket")
    operator.follow("One refund", statuses={"refunds verify": 1})
    is_restored(flow, body)
    (failed,) = _failed_records(operator)
    closed = operator.run(f"refunds audit close {failed} --why 'changed by hand, TICKET-7'")
    assert closed.returncode == 0, closed.stdout + closed.stderr
    clean = operator.run("refunds verify")
    assert clean.returncode == 0, clean.stdout + clean.stderr


def backed_up(flow: Flow, refund_id: str) -> str:
    """The request of a paid refund that is in the newest backup."""
    body = flow.request(flow.payment(), 500, refund_id=refund_id)
    flow.send(body)
    flow.entries(flow.refund(body, "SUCCEEDED"))
    flow.queue_is_empty()
    flow.invoke("BackupRefunds")
    return body


def is_restored(flow: Flow, body: str) -> None:
    restored = flow.refund(body, "SUCCEEDED")
    assert restored["amount_minor"] == 500
    assert flow.entries(restored)[-1]["event"] == "refund.restored"


def _failed_records(operator: Operator) -> list[str]:
    stack = operator.flow.stack
    listed = stack.s3.list_objects_v2(Bucket=stack["FailuresBucketName"], Prefix="audit/")
    return [each["Key"] for each in listed.get("Contents", [])]
