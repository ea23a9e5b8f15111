"""The managed policies for people: each permits its commands, and none of the others' powers.

Each command runs on the deployed stack; its AWS calls are recorded and put to the policies.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import botocore.session
import pytest
from click.testing import CliRunner
from tests.support.builders import refund
from tests.support.deployed import Deployed, deployed
from tests.support.expanded_template import (
    ACCOUNT,
    REGION,
    Check,
    Edit,
    ExpandedTemplate,
    Json,
    as_list,
    assert_each_has_an_edit,
    assert_noticed,
    drop,
    put,
)
from tests.support.iam import allows, policy
from tests.support.recorded_calls import recorded_calls

from refunds.domain.refund import Status
from refunds.tables.wire import item_to_wire
from refunds_devkit.sample_events import FOLDER
from refunds_ops import dead_letters
from refunds_ops.audit.verify import Verification
from refunds_ops.cli import cli

PEOPLE = {
    "SupportPolicy": (
        "show sample_full",
        "list --user user_ada",
        "list --transaction pay_full",
        "open",
        "review list",
        "audit show sample_full",
        "status",
    ),
    "RefunderPolicy": (
        "request --transaction pay_partial --user u --amount 1.00 --currency USD --reason other "
        "--requested-by agent:jo",
    ),
    "ReviewerPolicy": (
        "review decide sample_full --paid --why x --evidence y",
        "approve sample_waiting --why x --yes",
        "deny sample_waiting --why x --yes",
        "limits show",
    ),
    "OperatorPolicy": (
        "pause --why maintenance",
        "resume --why over",
        "dead-letters list",
        "audit replay",
        "key check",
        "limits show",
        "limits set user:u-1 --user-count 1 --why x",
    ),
    "RestorerPolicy": ("backup list", "backup verify", "backup drill", "backup run", "verify"),
}

OUTPUTS = {
    "RefundQueueUrl": "RefundQueue",
    "RefundDeadLetterQueueUrl": "RefundDeadLetterQueue",
    "RefundsTableName": "Refunds",
    "LedgerTableName": "Ledger",
    "AuditTableName": "PaymentAuditTrail",
    "BackupBucketName": "BackupBucket",
    "FailuresBucketName": "FailuresBucket",
    "EventBusName": "RefundEvents",
    "GatewaySecretArn": "GatewaySecret",
    "BackupSigningKeyArn": "BackupSigningKey",
    "DataKeyArn": "DataKey",
    "RefundRequestsMappingId": "ProcessRefundRefundRequests",
}
FUNCTIONS = ("ProcessRefund", "WriteAudit", "ReconcileRefunds", "BackupRefunds")


@pytest.fixture(scope="module")
def functions() -> Iterator[Deployed]:
    with deployed() as there:
        names = {logical_id: name for name, logical_id in there.logical_ids.items()}
        outputs = {output: names[logical_id] for output, logical_id in OUTPUTS.items()}
        outputs |= {f"{name}FunctionName": name for name in FUNCTIONS}
        outputs |= {"RefundQueueArn": "arn:aws:sqs:us-east-1:123456789012:RefundQueue"}
        outputs |= {"MaximumConcurrency": "10", "TimeZone": "UTC"}
        with patch.dict(os.environ, outputs):
            there.call("ProcessRefund", _event("process-refund-full"))
            there.call("BackupRefunds", _event("backup"))
            _put_waiting(names["Refunds"])
            yield there


def _put_waiting(table: str) -> None:
    """A refund over a limit, which waits for a person."""
    waiting = refund(
        refund_id="sample_waiting",
        status=Status.AWAITING_APPROVAL,
        awaiting={"over": "per_refund", "limit": "1", "approvers": "2", "expires_at": "9999"},
    )
    client: Any = botocore.session.Session().create_client("dynamodb")
    client.put_item(TableName=table, Item=item_to_wire(waiting.item()))


def _event(name: str) -> Json:
    return json.loads((FOLDER / f"{name}.json").read_text())


COMMANDS = [(person, command) for person, commands in PEOPLE.items() for command in commands]


@pytest.mark.parametrize(("person", "command"), COMMANDS)
def test_a_policy_permits_the_commands_of_its_job(
    stack: ExpandedTemplate,
    functions: Deployed,
    person: str,
    command: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Nothing writes the audit trail here. `verify` would wait a minute for its entries.
    waits: Any = Verification.__init__.__kwdefaults__
    monkeypatch.setitem(waits, "sleep", lambda _: None)
    monkeypatch.setattr(dead_letters, "WAIT_SECONDS", 0)
    with recorded_calls(functions.logical_ids) as calls:
        CliRunner().invoke(cli, command.split(), standalone_mode=False)
    assert calls
    statements = policy(stack, "SupportPolicy", person)
    names = {"s3:ListObjectVersions": "s3:ListBucketVersions"}
    denied = {
        (action, resource)
        for action, resource in calls
        if not allows(statements, names.get(action, action), resource)
    }
    assert denied == set()


def test_who_may_move_money_may_not_decide_about_it(stack: ExpandedTemplate) -> None:
    refunder = policy(stack, "SupportPolicy", "RefunderPolicy")
    reviewer = policy(stack, "SupportPolicy", "ReviewerPolicy")
    assert allows(refunder, "sqs:SendMessage", "RefundQueue")
    assert not allows(reviewer, "sqs:SendMessage", "RefundQueue")
    assert allows(reviewer, "dynamodb:UpdateItem", "Refunds")
    assert not allows(refunder, "dynamodb:UpdateItem", "Refunds")
    # Nobody else decides or approves: it changes a refund.
    deciders = {
        name for name in PEOPLE if allows(policy(stack, name), "dynamodb:UpdateItem", "Refunds")
    }
    assert deciders == {"ReviewerPolicy"}


def test_support_changes_nothing(stack: ExpandedTemplate) -> None:
    reading = ("Get", "List", "Describe", "Query", "BatchGet", "Decrypt")
    for statement in policy(stack, "SupportPolicy"):
        for action in as_list(statement["Action"]):
            assert action.partition(":")[2].startswith(reading), action


def test_nobody_deletes_a_record(stack: ExpandedTemplate) -> None:
    for person in PEOPLE:
        statements = policy(stack, person)
        for table in ("Refunds", "Ledger", "PaymentAuditTrail"):
            for action in ("DeleteItem", "DeleteTable", "BatchWriteItem", "UpdateTable"):
                assert not allows(statements, f"dynamodb:{action}", table), (person, action)
        for action in ("DeleteObject", "DeleteObjectVersion"):
            assert not allows(statements, f"s3:{action}", "BackupBucket"), (person, action)
        written = [
            resource
            for statement in statements
            if "s3:PutObject" in as_list(statement["Action"])
            for resource in as_list(statement["Resource"])
            if "BackupBucket" in resource
        ]
        # A drill that passed is recorded; backups and digests are beyond any person.
        drills = ["BackupBucket.Arn/refund-backups/drills/*"]
        assert written == (drills if person == "RestorerPolicy" else [])
        assert not allows(statements, "kms:Sign", "BackupSigningKey")
        assert not allows(statements, "dynamodb:UpdateItem", "PaymentAuditTrail")


def test_policies_name_what_they_allow(stack: ExpandedTemplate) -> None:
    unnamed = {
        "lambda:ListEventSourceMappings",
        "dynamodb:ListTables",
        "cloudwatch:PutMetricData",
        "cloudwatch:DescribeAlarms",
        "cloudwatch:GetMetricStatistics",
    }
    for name in PEOPLE:
        assert "Roles" not in stack[name]  # nobody has it until you attach it
        for statement in policy(stack, name):
            actions = as_list(statement["Action"])
            assert not any("*" in action for action in actions)
            if "*" in as_list(statement["Resource"]):
                assert set(actions) <= unnamed
        assert stack.outputs[f"{name}Arn"]["Value"] == name


THEIR_KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/theirs"


def test_people_may_use_the_key_of_another_owners_audit_table(stack: ExpandedTemplate) -> None:
    stack = stack.given(
        CreateAuditTable="false", AuditTableName="theirs", AuditTableKeyArn=THEIR_KEY
    )
    for person in ("SupportPolicy", "OperatorPolicy", "RestorerPolicy"):
        keys = {
            resource
            for statement in policy(stack, person)
            if "kms:Decrypt" in as_list(statement["Action"])
            for resource in as_list(statement["Resource"])
        }
        assert THEIR_KEY in keys


def test_support_may_see_the_whole_overview_of_the_console(stack: ExpandedTemplate) -> None:
    for action, resource in (
        ("dynamodb:BatchGetItem", "PaymentAuditTrail"),
        ("cloudwatch:DescribeAlarms", "*"),
        ("cloudwatch:GetMetricStatistics", "*"),
        ("kms:GetPublicKey", "BackupSigningKey"),
    ):
        assert allows(policy(stack, "SupportPolicy"), action, resource)


# --- Do the checks notice? ------------------------------------------------------------------------

STATEMENTS = "Properties.PolicyDocument.Statement"
EDITS: list[tuple[Check, Edit]] = [
    (
        test_who_may_move_money_may_not_decide_about_it,
        put(
            f"ReviewerPolicy.{STATEMENTS}.0",
            {
                "Effect": "Allow",
                "Action": "sqs:SendMessage",
                "Resource": {"Fn::GetAtt": ["RefundQueue", "Arn"]},
            },
        ),
    ),
    (test_who_may_move_money_may_not_decide_about_it, drop(f"RefunderPolicy.{STATEMENTS}.0")),
    (test_support_changes_nothing, put(f"SupportPolicy.{STATEMENTS}.1.Action", "dynamodb:PutItem")),
    (
        test_nobody_deletes_a_record,
        put(f"OperatorPolicy.{STATEMENTS}.0.Action", "dynamodb:DeleteItem"),
    ),
    (test_policies_name_what_they_allow, put(f"RestorerPolicy.{STATEMENTS}.0.Resource", "*")),
    (
        test_people_may_use_the_key_of_another_owners_audit_table,
        drop(f"SupportPolicy.{STATEMENTS}.10.Resource.1"),
    ),
    (
        test_support_may_see_the_whole_overview_of_the_console,
        drop(f"SupportPolicy.{STATEMENTS}.6"),
    ),
]


@pytest.mark.parametrize(("check", "edit"), EDITS, ids=lambda value: value.__name__)
def test_the_checks_notice(template: Json, check: Check, edit: Edit) -> None:
    assert_noticed(template, check, edit)


def test_every_check_has_an_edit() -> None:
    checked_by_commands = {"test_a_policy_permits_the_commands_of_its_job"}
    assert_each_has_an_edit(
        {name: value for name, value in globals().items() if name not in checked_by_commands}, EDITS
    )
