"""docs/deploying.md, walked through on an emulator of its own: every command, in order.

The test edits a copy of samconfig.toml as the page says a person does: the gateway's address, the
alarms' receiver, and the processor and Python of this machine. Only that stage dev calls itself
local is the test's own, since the sandbox gateway speaks plain http.
"""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.local.deploying import PAGE, Walk, copy_of_the_project
from tests.local.flow import Flow, eventually
from tests.support.doc_commands import named_blocks
from tests.support.doc_pages import NOT_IN_THE_WALK
from tests.support.expanded_template import REGION, ExpandedTemplate, load_template

from refunds_devkit.local.deployment import (
    PARAMETERS,
    build,
    build_parameters,
    deploy_stack,
    gateway_parameters,
)
from refunds_devkit.local.emulator import aws_settings, start_emulator, wait_for_emulator
from refunds_devkit.local.gateway import DEFAULT_API_KEY, start_sandbox, wait_for_sandbox
from refunds_devkit.local.lifecycle import down
from refunds_devkit.local.ports import LOOPBACK, free_port
from refunds_devkit.local.workspace import PROJECT, Record, Workspace
from refunds_devkit.sandbox.client import SandboxClient
from refunds_ops.stack.adoption import IDENTIFIERS
from refunds_ops.stack.stack import Stack, with_outputs

FIRST_RELEASE = Path(__file__).with_name("release-0.1.0.tar.xz")
"""Template and functions of release 0.1.0, as they were: what it wrote must be read today."""


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walk]:
    for name in ("GATEWAY", "GATEWAY_URL", "GATEWAY_API_KEY", "EMULATOR_PORT", "SANDBOX_PORT"):
        os.environ.pop(name, None)
    workspace = Workspace(tmp_path_factory.mktemp("deploying"))
    try:
        record = Record(emulator_port=free_port(), gateway_url=f"http://{LOOPBACK}:{free_port()}")
        emulator = start_emulator(workspace, record.emulator_port)
        gateway_port = int(record.gateway_url.rpartition(":")[2])
        gateway = start_sandbox(workspace, gateway_port, "flair", reset=True)
        workspace.save(replace(record, emulator=emulator, gateway=gateway))
        wait_for_sandbox(workspace, gateway, record.gateway_url)
        wait_for_emulator(workspace, emulator, record.emulator_port)
        build(workspace, build_parameters(), workspace.build)
        project = copy_of_the_project(workspace.folder / "project", record.gateway_url)
        gateway_client = SandboxClient(record.gateway_url)
        yield Walk(project, record.emulator_port, gateway_client, record.gateway_url)
    finally:
        down(workspace)


def test_an_upgrade_from_the_first_release_keeps_all_data(walk: Walk) -> None:
    """Deployed as release 0.1.0 was, used, then deployed with today's template."""
    name = "refunds-upgraded"
    parameters = {
        **PARAMETERS,
        **build_parameters(),
        "AuditTableName": "PaymentAuditTrail-upgraded",
    }
    workspace = Workspace(walk.project.parent)
    release = walk.project / "0.1.0"
    with tarfile.open(FIRST_RELEASE) as archive:
        archive.extractall(release, filter="data")
    folder = release / "build"
    build(workspace, build_parameters(), folder, release / "template.yaml")
    before = deploy_stack(
        workspace,
        walk.port,
        name,
        # That release took plain http in the same parameter.
        parameters | {"GatewayUrl": walk.gateway_url},
        folder / "template.yaml",
    )
    before.secrets.put_secret_value(
        SecretId=before["GatewaySecretArn"], SecretString=DEFAULT_API_KEY
    )
    flow = Flow(before, walk.gateway)
    body = flow.request(flow.payment(), 2500)
    flow.send(body)
    entries = flow.entries(flow.refund(body, "SUCCEEDED"))

    after = deploy_stack(
        workspace, walk.port, name, parameters | gateway_parameters(walk.gateway_url)
    )
    for output in ("RefundsTableName", "LedgerTableName", "AuditTableName", "RefundQueueUrl"):
        assert after[output] == before[output], output
    for output in ("BackupBucketName", "FailuresBucketName", "GatewaySecretArn", "DataKeyArn"):
        assert after[output] == before[output], output
    flow = Flow(after, walk.gateway)
    assert flow.entries(flow.refund(body, "SUCCEEDED")) == entries
    flow.send(body)  # redelivered, after the upgrade
    new = flow.request(flow.payment(), 100)
    flow.send(new)
    flow.refund(new, "SUCCEEDED")
    reference = json.loads(body)["refund_id"]
    assert len(walk.gateway.movements(reference=reference)) == 1


def test_backups_are_copied_to_another_account(walk: Walk, monkeypatch: pytest.MonkeyPatch) -> None:
    """As docs/security.md says; the emulator copies where the other account's policy lets it.

    Its CloudFormation leaves a bucket's replication out, so the test applies the template's. And
    its S3 copies over plain http, so the test lifts the other bucket's demand for TLS.
    """
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    workspace = Workspace(walk.project.parent)
    there = {**aws_settings(walk.port), "AWS_ACCESS_KEY_ID": "444455556666"}
    other = Stack("the other account", {}, there)
    template = (PROJECT / "docs/backup-copy.template.yaml").read_text()
    other.cloudformation.create_stack(StackName="copies", TemplateBody=template)
    other.cloudformation.get_waiter("stack_create_complete").wait(
        StackName="copies", WaiterConfig={"Delay": 1}
    )
    copies = with_outputs(other, "copies")
    parameters = {
        **PARAMETERS,
        **build_parameters(),
        **gateway_parameters(walk.gateway_url),
        **copies.outputs,
        "AuditTableName": "PaymentAuditTrail-copied",
    }
    here = deploy_stack(workspace, walk.port, "refunds-copied", parameters)
    here.s3.put_bucket_replication(
        Bucket=here["BackupBucketName"],
        ReplicationConfiguration=_replication(here, copies.outputs),
    )
    flow = Flow(here, walk.gateway)
    bucket = copies["BackupCopyBucketArn"].rpartition(":")[2]
    flow.invoke("BackupRefunds")
    assert _keys(other, bucket) == []  # not before step 3

    other.cloudformation.update_stack(
        StackName="copies",
        UsePreviousTemplate=True,
        Parameters=[{"ParameterKey": "SourceRoleArn", "ParameterValue": here["BackupCopyRoleArn"]}],
    )
    other.cloudformation.get_waiter("stack_update_complete").wait(
        StackName="copies", WaiterConfig={"Delay": 1}
    )
    policy = json.loads(other.s3.get_bucket_policy(Bucket=bucket)["Policy"])
    policy["Statement"] = [each for each in policy["Statement"] if each["Sid"] != "TlsOnly"]
    other.s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))
    flow.invoke("BackupRefunds")
    copied = _keys(other, bucket)
    assert "refund-backups/digests/000000000002.json" in copied
    assert all(key.startswith("refund-backups/") for key in copied)
    digest = json.loads(_read(other, bucket, "refund-backups/digests/000000000002.json"))
    listed = [
        each["s3Object"]
        for export in digest["exports"]
        for each in (*export["manifests"], *export["dataFiles"])
    ]
    assert listed
    assert set(listed) <= set(copied)
    key = listed[0]
    assert _read(other, bucket, key) == _read(here, here["BackupBucketName"], key)
    # A deletion is not copied.
    here.s3.delete_object(Bucket=here["BackupBucketName"], Key=key)
    assert key in _keys(other, bucket)
    _delete(here, "refunds-copied")


def _replication(here: Stack, there: Mapping[str, str]) -> Any:
    """The template's, in the spelling of S3's API."""
    expanded = ExpandedTemplate(load_template(), **there)
    configuration = expanded["BackupBucket"]["ReplicationConfiguration"]
    rules = [
        {"ID" if name == "Id" else name: value for name, value in rule.items()}
        for rule in configuration["Rules"]
    ]
    return {"Role": here["BackupCopyRoleArn"], "Rules": rules}


def _keys(stack: Stack, bucket: str) -> list[str]:
    pages = stack.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    return [each["Key"] for page in pages for each in page.get("Contents", [])]


def _read(stack: Stack, bucket: str, key: str) -> bytes:
    return stack.s3.get_object(Bucket=bucket, Key=key)["Body"].read()


def test_the_first_deployment(walk: Walk) -> None:
    walk.run("first")
    walk.run("key", answers=f"{DEFAULT_API_KEY}\n")
    said = walk.run("doctor")
    assert "the gateway flair answers and accepts the key" in said
    assert "✗" not in said
    payment = walk.flow("refunds-dev").payment()
    walk.run("refund", YOUR_PAYMENT=payment, YOUR_USER="u-1")
    walk.ran.append("show")
    show = named_blocks(PAGE)["show"]
    shown = eventually(
        lambda: text if "SUCCEEDED" in (text := walk.shell(f"{show.strip()} || true")) else None,
        "the first refund succeeds",
    )
    assert "first-refund" in shown


def test_prod_is_refused_without_a_receiver_of_its_alarms(walk: Walk) -> None:
    with pytest.raises(AssertionError, match="Set AlarmEmail"):
        walk.run("second", answers="y\n" * 5)


def test_a_second_stage_beside_the_first(walk: Walk) -> None:
    config = walk.project / "samconfig.toml"
    text = config.read_text()
    config.write_text(
        text.replace(
            '"Stage=prod",',
            # The emulator has no metric math.
            '"Stage=prod",\n  "AlarmEmail=ops@shop.example",\n  "BusinessAlarms=off",',
        )
    )
    walk.run("second", answers="y\n" * 5)
    walk.run("protect")
    dev, prod = walk.stack("refunds-dev"), walk.stack("refunds-prod")
    shared = {
        name
        for name, value in dev.outputs.items()
        if prod.outputs.get(name) == value and name not in ("MaximumConcurrency", "TimeZone")
    }
    assert shared == set()
    assert prod["AuditTableName"] == "PaymentAuditTrail"
    assert "protected against deletion" in walk.shell("refunds doctor --stack refunds-prod || true")


def test_a_guided_deployment_with_what_the_page_says_to_answer(walk: Walk) -> None:
    """Enter to every question but those that the page names. The answers are not saved here: they
    would change the settings of the stages that other tests deploy."""
    answers = {
        "Stage": "local",
        "LocalGatewayUrl": walk.gateway_url,
        # AuditTableName is named by hand too, where dev has taken the name that Enter would give.
        **build_parameters(),
    }
    walk.shell("sam build")
    for name, webhooks in (("guided", ""), ("webhooks", "true")):  # Enter leaves them off
        given = answers | {"AuditTableName": f"PaymentAuditTrail-{name}", "Webhooks": webhooks}
        asked = [given.get(each, "") for each in load_template()["Parameters"]]
        typed = [f"refunds-{name}", "", *asked, "", "", "", "n"]
        said = walk.shell("sam deploy --guided", answers="\n".join(typed) + "\n")
        assert f"Successfully created/updated stack - refunds-{name}" in said, said[-2000:]
        assert "has no authentication" not in said
        stack = walk.stack(f"refunds-{name}")
        assert stack["AuditTableName"] == f"PaymentAuditTrail-{name}"
        assert ("WebhookUrl" in stack.outputs) == (webhooks == "true")
        _delete(stack, f"refunds-{name}")


def _delete(stack: Stack, name: str) -> None:
    stack.cloudformation.delete_stack(StackName=name)
    stack.cloudformation.get_waiter("stack_delete_complete").wait(
        StackName=name, WaiterConfig={"Delay": 1}
    )


def test_deploying_again_changes_nothing(walk: Walk) -> None:
    assert "No changes to deploy" in walk.run("again")


def test_a_paused_queue_stays_paused_through_a_deployment(walk: Walk) -> None:
    walk.shell("refunds pause --stack refunds-dev --why test --by me")
    config = walk.project / "samconfig.toml"
    text = config.read_text()
    config.write_text(
        text.replace('"RequestBatchSize=', "").replace(
            '"LogRetentionDays=14",', '"LogRetentionDays=14",\n  "RequestBatchSize=5",'
        )
    )
    walk.run("again")
    stack = walk.stack("refunds-dev")
    mapping = stack.functions.get_event_source_mapping(UUID=stack["RefundRequestsMappingId"])
    assert mapping["BatchSize"] == 5
    assert mapping["State"] == "Disabled"


def test_deleting_and_deploying_again_loses_nothing(walk: Walk) -> None:
    """The queue is still paused: a request waits in it while the stack is deleted."""
    flow = walk.flow("refunds-dev")
    kept = dict(flow.stack.outputs)
    waiting = flow.request(flow.payment(), 4200)
    flow.send(waiting)
    walk.run("delete")

    # The emulator can't import secrets (AWS can): there is a new one, which needs the key again.
    body = named_blocks(PAGE)["adopt"]
    walk.ran.append("adopt")
    assert "AWS::SecretsManager::Secret" in IDENTIFIERS
    adopt, _, rest = body.partition("sam build\n")
    said = walk.shell(adopt.replace("refunds-dev", "refunds-dev --leave GatewaySecret"))
    assert "refunds-dev has its data again" in said
    deploy, _, doctor = rest.partition("refunds doctor")
    walk.shell("sam build\n" + deploy)
    walk.run("key", answers=f"{DEFAULT_API_KEY}\n")
    said = walk.shell("refunds doctor" + doctor)
    assert "queue is Disabled" in said or "is connected" in said

    again = walk.flow("refunds-dev")
    for output in (
        "RefundsTableName",
        "LedgerTableName",
        "AuditTableName",
        "RefundQueueUrl",
        "RefundDeadLetterQueueUrl",
        "BackupBucketName",
        "FailuresBucketName",
        "DataKeyArn",
        "BackupSigningKeyArn",
    ):
        assert again.stack[output] == kept[output], output
    walk.shell("refunds resume --stack refunds-dev --why test --by me")
    again.refund(waiting, "SUCCEEDED")
    again.send(waiting)
    more = again.request(again.payment(), 100)
    again.send(more)
    again.refund(more, "SUCCEEDED")
    assert len(walk.gateway.movements(reference=json.loads(waiting)["refund_id"])) == 1
    assert "SUCCEEDED" in walk.shell("refunds show --stack refunds-dev first-refund")


def test_every_command_of_the_page_was_run(walk: Walk) -> None:
    assert set(walk.ran) | set(NOT_IN_THE_WALK) == set(named_blocks(PAGE))
