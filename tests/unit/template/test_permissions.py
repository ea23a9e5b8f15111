"""What each function's role allows, and that it allows nothing else; keys have their own file."""

from __future__ import annotations

import re

import pytest
from tests.support.expanded_template import (
    ACCOUNT,
    ENVIRONMENT,
    FUNCTIONS,
    REGION,
    Check,
    Edit,
    ExpandedTemplate,
    Json,
    allow,
    as_list,
    assert_each_has_an_edit,
    assert_noticed,
    drop,
    put,
)

AUDIT_TABLE = f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/PaymentAuditTrail"
MAY_NOT_BE_NAMED = {"dynamodb:ListStreams", "xray:PutTelemetryRecords", "xray:PutTraceSegments"}


def test_each_function_has_a_role_of_its_own_without_managed_policies(
    stack: ExpandedTemplate,
) -> None:
    roles = [stack[name]["Role"] for name in FUNCTIONS]
    assert len(set(roles)) == len(FUNCTIONS)
    for name in FUNCTIONS:
        role = stack[stack[name]["Role"].removesuffix(".Arn")]
        assert "ManagedPolicyArns" not in role
        (trust,) = role["AssumeRolePolicyDocument"]["Statement"]
        assert trust["Principal"] == {"Service": "lambda.amazonaws.com"}


def test_no_role_allows_what_could_be_named(stack: ExpandedTemplate) -> None:
    for name, role in stack.of_type("AWS::IAM::Role").items():
        for policy in role.get("Policies", []):
            for statement in policy["PolicyDocument"]["Statement"]:
                assert "NotAction" not in statement
                assert "NotResource" not in statement
                actions = set(as_list(statement["Action"]))
                assert not any("*" in action for action in actions), (name, actions)
                for resource in as_list(statement["Resource"]):
                    if resource == "*":
                        assert actions <= MAY_NOT_BE_NAMED, (name, actions)
                    else:
                        _assert_named(resource, actions)


def _assert_named(resource: str, actions: set[str]) -> None:
    """A pattern may only mean objects below a bucket, and a table's exports and streams, whose
    names DynamoDB makes up."""
    if "*" in resource and resource not in ("Refunds.Arn/export/*", "Refunds.Arn/stream/*"):
        assert all(action.startswith("s3:") for action in actions), (resource, actions)
        assert re.fullmatch(r"\w+Bucket\.Arn/([a-z-]+/)?\*", resource), resource


def test_who_may_do_what_to_which_table(stack: ExpandedTemplate) -> None:
    record = {"GetItem", "PutItem", "UpdateItem"}
    assert stack.may("ProcessRefund", "dynamodb") == {
        "Refunds.Arn": record | {"BatchGetItem"},
        "Ledger.Arn": record | {"BatchGetItem"},
        AUDIT_TABLE: {"Query"},
    }
    assert stack.may("ReconcileRefunds", "dynamodb") == {
        "Refunds.Arn": record | {"BatchGetItem", "DescribeTable"},
        AUDIT_TABLE: {"Query"},
        "Refunds.Arn/index/open-refunds": {"Query"},
        "Ledger.Arn": record,
    }
    assert stack.may("BackupRefunds", "dynamodb") == {
        "Refunds.Arn": {"DescribeTable", "ExportTableToPointInTime", "Scan"},
        "Refunds.Arn/export/*": {"DescribeExport"},
        "Ledger.Arn": {"DescribeTable", "Scan"},
        AUDIT_TABLE: {"DescribeTable", "Scan"},
    }


def test_the_audit_writer_can_add_entries_and_write_over_none(stack: ExpandedTemplate) -> None:
    assert stack.may("WriteAudit", "dynamodb") == {
        "Refunds.Arn/stream/*": {"DescribeStream", "GetRecords", "GetShardIterator"},
        "*": {"ListStreams"},
        AUDIT_TABLE: {"GetItem", "PartiQLInsert"},
    }


def test_no_function_may_delete_records(stack: ExpandedTemplate) -> None:
    deleting = re.compile(
        r"dynamodb:(Delete|BatchWrite|PartiQL(?!Insert)|Transact|UpdateTable|UpdateTimeToLive)"
        r"|s3:(Delete|PutLifecycle|PutBucket)"
        r"|kms:(ScheduleKeyDeletion|DisableKey|PutKeyPolicy)"
    )
    for name in FUNCTIONS:
        for statement in stack.statements(name):
            for action in as_list(statement["Action"]):
                assert not deleting.match(action), (name, action)


def test_who_may_receive_and_send_messages(stack: ExpandedTemplate) -> None:
    assert stack.may("ProcessRefund", "sqs") == {
        "RefundQueue.Arn": {
            "ChangeMessageVisibility",
            "DeleteMessage",
            "GetQueueAttributes",
            "ReceiveMessage",
            "SendMessage",
        },
        "RefundDeadLetterQueue.Arn": {"SendMessage"},
    }
    assert stack.may("ReconcileRefunds", "sqs") == {
        "RefundDeadLetterQueue.Arn": {
            "ChangeMessageVisibility",
            "DeleteMessage",
            "ReceiveMessage",
        },
    }
    assert stack.may("WriteAudit", "sqs") == stack.may("BackupRefunds", "sqs") == {}


def test_only_what_calls_the_gateway_reads_its_key(stack: ExpandedTemplate) -> None:
    reads = {"GatewaySecret.Id": {"GetSecretValue"}}
    assert stack.may("ProcessRefund", "secretsmanager") == reads
    assert stack.may("ReconcileRefunds", "secretsmanager") == reads
    assert stack.may("WriteAudit", "secretsmanager") == {}
    assert stack.may("BackupRefunds", "secretsmanager") == {}


def test_routed_gateways_have_a_secret_of_their_own(stack: ExpandedTemplate) -> None:
    assert "RoutedGatewaySecret" not in stack.resources
    routed = stack.given(GatewayRoutes="pi_|ch_=stripe")
    reads = {
        "GatewaySecret.Id": {"GetSecretValue"},
        "RoutedGatewaySecret.Id": {"GetSecretValue"},
    }
    for name in ("ProcessRefund", "ReconcileRefunds"):
        assert routed.may(name, "secretsmanager") == reads
        variables = routed[name]["Environment"]["Variables"]
        assert variables["ROUTED_SECRET_ARN"] == "RoutedGatewaySecret.Id"  # noqa: S105
        assert variables["GATEWAY_ROUTES"] == "pi_|ch_=stripe"
    assert routed["RoutedGatewaySecret"]["KmsKeyId"] == "DataKey.Arn"
    assert routed.outputs["RoutedGatewaySecretArn"]["Value"] == "RoutedGatewaySecret.Id"


def test_backups_are_written_below_their_prefix_only(stack: ExpandedTemplate) -> None:
    assert stack.may("BackupRefunds", "s3") == {
        "BackupBucket.Arn/refund-backups/*": {
            "AbortMultipartUpload",
            "GetObject",
            "PutObject",
            "PutObjectAcl",
        },
        "BackupBucket.Arn": {"ListBucket"},
    }
    # What AWS asks for of an export; nothing of ours uploads in parts or sets an ACL.
    for statement in stack.statements("BackupRefunds"):
        needed = {"s3:AbortMultipartUpload", "s3:PutObjectAcl"} & set(as_list(statement["Action"]))
        assert not needed or statement["Sid"] == "WriteExport"
    assert stack.may("ReconcileRefunds", "s3") == {
        "FailuresBucket.Arn/dead-letters/*": {"PutObject"},
        "FailuresBucket.Arn": {"ListBucket"},
    }
    assert stack.may("ProcessRefund", "s3") == {}


def test_a_backup_may_continue_in_another_invocation_of_itself(stack: ExpandedTemplate) -> None:
    policy = stack["BackupRefundsContinues"]
    assert policy["Roles"] == ["BackupRefundsRole"]
    (statement,) = policy["PolicyDocument"]["Statement"]
    assert statement["Action"] == "lambda:InvokeFunction"
    assert statement["Resource"] == ["BackupRefunds.Arn", "BackupRefunds.Arn:*"]
    assert stack["BackupRefunds"]["RecursiveLoop"] == "Allow"


def test_only_this_accounts_scheduler_starts_runs(stack: ExpandedTemplate) -> None:
    for schedule in stack.of_type("AWS::Scheduler::Schedule").values():
        assert schedule["Target"]["RoleArn"] == "SchedulesRole.Arn"
    role = stack["SchedulesRole"]
    (trust,) = role["AssumeRolePolicyDocument"]["Statement"]
    assert trust["Principal"] == {"Service": "scheduler.amazonaws.com"}
    assert trust["Condition"] == {"StringEquals": {"aws:SourceAccount": ACCOUNT}}
    (allowed,) = role["Policies"][0]["PolicyDocument"]["Statement"]
    assert allowed["Action"] == "lambda:InvokeFunction"
    assert allowed["Resource"] == ["ReconcileRefunds.Arn:live", "BackupRefunds.Arn:live"]


BREAK_GLASS = f"arn:aws:iam::{ACCOUNT}:role/emergency"


def test_digests_are_written_once_and_nobody_deletes_a_backup(stack: ExpandedTemplate) -> None:
    def denied(given: ExpandedTemplate) -> dict[str, Json]:
        statements = given["BackupBucketPolicy"]["PolicyDocument"]["Statement"]
        return {s["Sid"]: s for s in statements if s["Effect"] == "Deny"}

    once = denied(stack)["DigestsAreWrittenOnce"]
    assert once["Principal"] == "*"
    assert once["Action"] == "s3:PutObject"
    assert once["Resource"] == "BackupBucket.Arn/refund-backups/digests/*"
    assert once["Condition"] == {"Null": {"s3:if-none-match": True}}
    stays = denied(stack)["NobodyDeletesBackups"]
    assert stays["Principal"] == "*"
    assert {"s3:DeleteObject", "s3:DeleteObjectVersion"} < set(stays["Action"])
    assert stays["Resource"] == "BackupBucket.Arn/*"
    assert "Condition" not in stays
    excepted = denied(stack.given(BreakGlassRoleArn=BREAK_GLASS))["NobodyDeletesBackups"]
    assert excepted["Condition"] == {"ArnNotEquals": {"aws:PrincipalArn": BREAK_GLASS}}


def test_nobody_changes_or_deletes_an_audit_entry(stack: ExpandedTemplate) -> None:
    def denied(given: ExpandedTemplate) -> Json:
        policy = given["PaymentAuditTrail"]["ResourcePolicy"]["PolicyDocument"]
        (statement,) = policy["Statement"]
        return statement

    stays = denied(stack)
    assert (stays["Effect"], stays["Principal"]) == ("Deny", "*")
    assert set(stays["Action"]) == {
        "dynamodb:BatchWriteItem",
        "dynamodb:DeleteItem",
        "dynamodb:PartiQLDelete",
        "dynamodb:PartiQLUpdate",
        "dynamodb:UpdateItem",
    }
    assert stays["Resource"] == AUDIT_TABLE
    assert "Condition" not in stays
    excepted = denied(stack.given(BreakGlassRoleArn=BREAK_GLASS))
    assert excepted["Condition"] == {"ArnNotEquals": {"aws:PrincipalArn": BREAK_GLASS}}


# --- Do the checks notice? ------------------------------------------------------------------------

EDITS: list[tuple[Check, Edit]] = [
    (
        test_only_this_accounts_scheduler_starts_runs,
        drop("SchedulesRole.Properties.AssumeRolePolicyDocument.Statement.0.Condition"),
    ),
    (
        test_digests_are_written_once_and_nobody_deletes_a_backup,
        drop("BackupBucketPolicy.Properties.PolicyDocument.Statement.1"),
    ),
    (
        test_digests_are_written_once_and_nobody_deletes_a_backup,
        drop("BackupBucketPolicy.Properties.PolicyDocument.Statement.2"),
    ),
    (
        test_nobody_changes_or_deletes_an_audit_entry,
        put(
            "PaymentAuditTrail.Properties.ResourcePolicy.PolicyDocument.Statement.0.Action",
            ["dynamodb:DeleteItem"],
        ),
    ),
    (
        test_each_function_has_a_role_of_its_own_without_managed_policies,
        put("WriteAudit.Properties.Role", {"Fn::GetAtt": ["ProcessRefundRole", "Arn"]}),
    ),
    (
        test_each_function_has_a_role_of_its_own_without_managed_policies,
        put("WriteAuditRole.Properties.ManagedPolicyArns", ["arn:aws:iam::aws:policy/PowerUser"]),
    ),
    (
        test_no_role_allows_what_could_be_named,
        allow("ProcessRefund", "RecordRefunds", "dynamodb:*"),
    ),
    (
        test_no_role_allows_what_could_be_named,
        allow("ProcessRefund", "ReadGatewayKey", resource="*"),
    ),
    (
        test_no_role_allows_what_could_be_named,
        allow("BackupRefunds", "ReadTables", resource="arn:aws:dynamodb:*:*:table/*"),
    ),
    (
        test_no_role_allows_what_could_be_named,
        allow("BackupRefunds", "WriteBackups", resource="arn:aws:s3:::*/*"),
    ),
    (
        test_who_may_do_what_to_which_table,
        allow("ProcessRefund", "ReadAuditedVersions", "dynamodb:PutItem"),
    ),
    (
        test_who_may_do_what_to_which_table,
        allow("ReconcileRefunds", "FinishRefunds", "dynamodb:Scan"),
    ),
    (
        test_the_audit_writer_can_add_entries_and_write_over_none,
        allow("WriteAudit", "InsertEntries", "dynamodb:PutItem"),
    ),
    (
        test_the_audit_writer_can_add_entries_and_write_over_none,
        allow("WriteAudit", "InsertEntries", "dynamodb:PartiQLUpdate"),
    ),
    (
        test_no_function_may_delete_records,
        allow("ReconcileRefunds", "FinishRefunds", "dynamodb:DeleteItem"),
    ),
    (
        test_no_function_may_delete_records,
        allow("BackupRefunds", "WriteBackups", "s3:DeleteObjectVersion"),
    ),
    (
        test_who_may_receive_and_send_messages,
        allow("ProcessRefund", "RefuseMessages", "sqs:DeleteMessage"),
    ),
    (
        test_only_what_calls_the_gateway_reads_its_key,
        allow("BackupRefunds", "ReadTables", "secretsmanager:GetSecretValue"),
    ),
    (
        test_routed_gateways_have_a_secret_of_their_own,
        put(f"ReconcileRefunds.{ENVIRONMENT}.ROUTED_SECRET_ARN", {"Ref": "AWS::NoValue"}),
    ),
    (
        test_backups_are_written_below_their_prefix_only,
        allow("BackupRefunds", "WriteBackups", resource="BackupBucket.Arn/*"),
    ),
    (
        test_a_backup_may_continue_in_another_invocation_of_itself,
        put(
            "BackupRefundsContinues.Properties.PolicyDocument.Statement.0.Resource",
            {"Fn::GetAtt": ["ProcessRefund", "Arn"]},
        ),
    ),
    (
        test_a_backup_may_continue_in_another_invocation_of_itself,
        drop("BackupRefunds.Properties.RecursiveLoop"),
    ),
]


@pytest.mark.parametrize(("check", "edit"), EDITS, ids=lambda value: value.__name__)
def test_the_checks_notice(template: Json, check: Check, edit: Edit) -> None:
    assert_noticed(template, check, edit)


def test_every_check_has_an_edit() -> None:
    assert_each_has_an_edit(globals(), EDITS)
