"""What the template deploys is what was approved: whatever is added, changed or dropped is noticed.

The other tests here say what must hold and why. This one knows every property, so that also what
nobody thought of is seen by a reviewer, as a line in the diff of approved.txt.
"""

from __future__ import annotations

import re

import pytest
from tests.support.expanded_template import (
    CHANGES,
    ENVIRONMENT,
    REQUESTS,
    Edit,
    Json,
    allow,
    change_key,
    drop,
    edited,
    put,
)
from tests.support.template_lines import approved, lines

APPROVE = "make approve-template"


def test_the_template_deploys_what_was_approved(template: Json) -> None:
    now, before = set(lines(template)), set(approved())
    changes = [f"+ {line}" for line in sorted(now - before)]
    changes += [f"- {line}" for line in sorted(before - now)]
    assert not changes, "\n".join(["Not approved:", *changes, f"If this is meant: {APPROVE}"])


def _statement(actions: str, *, principal: Json = "*") -> Json:
    return {"Effect": "Allow", "Principal": principal, "Action": actions, "Resource": "*"}


BUCKET = "BackupBucket.Properties"
TABLE = "PaymentAuditTrail.Properties"
SCHEDULE = "Properties.Events.Schedule.Properties"
RULES = f"{BUCKET}.LifecycleConfiguration.Rules"
DATA = "Properties.PolicyDocument.Statement"

DANGERS: list[tuple[str, Edit, str]] = [
    # --- Requests that vanish ---
    (
        "requests that a filter does not match are deleted unseen",
        put(f"{REQUESTS}.FilterCriteria", {"Filters": [{"Pattern": '{"body":{"x":[1]}}'}]}),
        "FilterCriteria",
    ),
    ("no request is processed", put(f"{REQUESTS}.Enabled", False), "Enabled = false"),
    (
        "requests wait for a quarter of an hour",
        put("RefundQueue.Properties.DelaySeconds", 900),
        "DelaySeconds",
    ),
    (
        "requests vanish after a minute",
        put("RefundQueue.Properties.MessageRetentionPeriod", 60),
        "RetentionPeriod",
    ),
    (
        "failing requests vanish instead of becoming dead letters",
        drop("RefundQueue.Properties.RedrivePolicy"),
        "RedrivePolicy",
    ),
    (
        "one failure makes a dead letter",
        put("RefundQueue.Properties.RedrivePolicy.maxReceiveCount", 1),
        "maxReceiveCount",
    ),
    (
        "requests are processed twice at once",
        put("RefundQueue.Properties.VisibilityTimeout", 30),
        "VisibilityTimeout",
    ),
    (
        "a second stack takes over the first one's queue",
        put("RefundQueue.Properties.QueueName", "refunds"),
        "QueueName",
    ),
    ("waiting requests go with the stack", drop("RefundQueue.DeletionPolicy"), "DeletionPolicy"),
    # --- Audit entries that are never written ---
    (
        "changes that a filter does not match are never audited",
        put(f"{CHANGES}.FilterCriteria", {"Filters": [{"Pattern": '{"eventName":["INSERT"]}'}]}),
        "FilterCriteria",
    ),
    ("no change is audited", put(f"{CHANGES}.Enabled", False), "Enabled = false"),
    (
        "changes before the deployment are never audited",
        put(f"{CHANGES}.StartingPosition", "LATEST"),
        "StartingPosition",
    ),
    (
        "one bad record stops the audit trail for good",
        put(f"{CHANGES}.MaximumRetryAttempts", -1),
        "MaximumRetryAttempts",
    ),
    ("records that fail are dropped", drop(f"{CHANGES}.DestinationConfig"), "DestinationConfig"),
    (
        "failed records are locked in with the backups",
        put(
            f"{CHANGES}.DestinationConfig.OnFailure.Destination",
            {"Fn::GetAtt": ["BackupBucket", "Arn"]},
        ),
        "OnFailure",
    ),
    (
        "failed records expire before anybody looks",
        put("FailuresBucket.Properties.LifecycleConfiguration.Rules.0.ExpirationInDays", 1),
        "ExpirationInDays",
    ),
    (
        "old images are missing from the stream",
        put("Refunds.Properties.StreamSpecification.StreamViewType", "NEW_IMAGE"),
        "StreamViewType",
    ),
    # --- Runs that never happen ---
    (
        "nothing settles open refunds",
        put(f"ReconcileRefunds.{SCHEDULE}.State", "DISABLED"),
        "State",
    ),
    ("nothing is backed up", put(f"BackupRefunds.{SCHEDULE}.State", "DISABLED"), "State"),
    (
        "the reconciler starts an hour late",
        put(
            f"ReconcileRefunds.{SCHEDULE}.FlexibleTimeWindow",
            {"Mode": "FLEXIBLE", "MaximumWindowInMinutes": 60},
        ),
        "FlexibleTimeWindow",
    ),
    (
        "an outage is noticed at the next run only",
        drop("ReconcileRefunds.Properties.Events.GatewayDown"),
        "GatewayDown",
    ),
    # --- Alarms that say nothing ---
    (
        "an alarm that tells nobody",
        put("DeadLetters.Properties.ActionsEnabled", False),
        "ActionsEnabled",
    ),
    (
        "an alarm that never ends tells nobody again",
        drop("DeadLetters.Properties.OKActions"),
        "OKActions",
    ),
    (
        "an alarm on too few instead of too many",
        put("DeadLetters.Properties.ComparisonOperator", "LessThanThreshold"),
        "ComparisonOperator",
    ),
    (
        "an alarm on the average of a sum",
        put("WriteAuditErrors.Properties.Statistic", "Average"),
        "Statistic",
    ),
    (
        "an alarm that looks once a day",
        put("ProcessRefundErrors.Properties.Period", 86400),
        "Period",
    ),
    (
        "an alarm that takes silence for health",
        put("BackupMissing.Properties.TreatMissingData", "ignore"),
        "TreatMissingData",
    ),
    (
        "an alarm on the wrong function",
        put("AuditLags.Properties.Dimensions.0.Value", {"Ref": "ProcessRefund"}),
        "Dimensions",
    ),
    (
        "an alarm that needs a day of failures",
        put("RefundsToReview.Properties.DatapointsToAlarm", 2),
        "DatapointsToAlarm",
    ),
    ("an alarm at a thousand", put("AuditRejects.Properties.Threshold", 1000), "Threshold"),
    # --- Doors ---
    (
        "a second policy on a role",
        put(
            "Anything",
            {
                "Type": "AWS::IAM::Policy",
                "Properties": {
                    "PolicyName": "more",
                    "Roles": [{"Ref": "WriteAuditRole"}],
                    "PolicyDocument": {
                        "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]
                    },
                },
            },
        ),
        "Anything",
    ),
    (
        "a managed policy on a role",
        put(
            "ProcessRefundRole.Properties.ManagedPolicyArns",
            ["arn:aws:iam::aws:policy/AdministratorAccess"],
        ),
        "ManagedPolicyArns",
    ),
    (
        "anybody assumes a role",
        put(
            "ProcessRefundRole.Properties.AssumeRolePolicyDocument.Statement.0.Principal",
            {"AWS": "*"},
        ),
        "AssumeRolePolicyDocument",
    ),
    (
        "anybody sends refund requests",
        put(f"RefundQueuePolicy.{DATA}.0", _statement("sqs:SendMessage")),
        "RefundQueuePolicy",
    ),
    (
        "anybody reads dead letters",
        put(f"RefundDeadLetterQueuePolicy.{DATA}.0", _statement("sqs:*")),
        "RefundDeadLetterQueuePolicy",
    ),
    (
        "anybody reads backups",
        put(f"BackupBucketPolicy.{DATA}.0", _statement("s3:GetObject")),
        "BackupBucketPolicy",
    ),
    (
        "anybody reads the alarms",
        put(f"AlarmTopicPolicy.{DATA}.0", _statement("sns:Subscribe")),
        "AlarmTopicPolicy",
    ),
    (
        "anybody reads the audit trail",
        put(f"{TABLE}.ResourcePolicy.PolicyDocument.Statement.0", _statement("dynamodb:Query")),
        "ResourcePolicy",
    ),
    (
        "anybody decrypts",
        change_key("AccountUsesKeyThroughServices", lambda s: s.update(Principal={"AWS": "*"})),
        "KeyPolicy",
    ),
    (
        "anybody invokes a function",
        put(
            "Anything",
            {
                "Type": "AWS::Lambda::Permission",
                "Properties": {
                    "Action": "lambda:InvokeFunction",
                    "FunctionName": {"Ref": "ProcessRefund"},
                    "Principal": "*",
                },
            },
        ),
        "Anything",
    ),
    (
        "the internet reaches the function that moves money",
        put(
            "Anything",
            {
                "Type": "AWS::Lambda::Url",
                "Properties": {"TargetFunctionArn": {"Ref": "ProcessRefund"}, "AuthType": "NONE"},
            },
        ),
        "Anything",
    ),
    (
        "the audit writer deletes entries",
        allow("WriteAudit", "InsertEntries", "dynamodb:DeleteItem"),
        "DeleteItem",
    ),
    (
        "a bucket is public",
        put(f"{BUCKET}.PublicAccessBlockConfiguration.BlockPublicPolicy", False),
        "BlockPublicPolicy",
    ),
    (
        "a key that no longer rotates",
        put("DataKey.Properties.EnableKeyRotation", False),
        "EnableKeyRotation",
    ),
    (
        "a key that is gone in a week",
        put("DataKey.Properties.PendingWindowInDays", 7),
        "PendingWindowInDays",
    ),
    ("a disabled key", put("DataKey.Properties.Enabled", False), "DataKey.Properties.Enabled"),
    (
        "a secret in the environment",
        put(f"ProcessRefund.{ENVIRONMENT}.API_KEY", "sk_live_1"),
        "API_KEY",
    ),
    # --- Records that vanish ---
    (
        "old versions of backups expire at once",
        put(f"{RULES}.0.NoncurrentVersionExpiration.NoncurrentDays", 1),
        "NoncurrentDays",
    ),
    ("backups expire in a day", put(f"{RULES}.1.ExpirationInDays", 1), "ExpirationInDays"),
    ("digests expire", put(f"{RULES}.0.Prefix", "refund-backups/"), "Prefix"),
    (
        "backups are kept in one zone",
        put(f"{RULES}.0.Transitions.0.StorageClass", "ONEZONE_IA"),
        "StorageClass",
    ),
    (
        "overwritten objects are lost",
        put(f"{BUCKET}.VersioningConfiguration.Status", "Suspended"),
        "Versioning",
    ),
    (
        "refunds forget themselves",
        put(
            "Refunds.Properties.TimeToLiveSpecification", {"AttributeName": "ttl", "Enabled": True}
        ),
        "TimeToLive",
    ),
    (
        "no point in time to restore to",
        drop("Ledger.Properties.PointInTimeRecoverySpecification"),
        "PointInTime",
    ),
    (
        "a table that is deleted with the stack",
        put("Ledger.DeletionPolicy", "Delete"),
        "DeletionPolicy",
    ),
    (
        "logs are kept for ever, or a day",
        put("ProcessRefundLogGroup.Properties.RetentionInDays", 1),
        "RetentionInDays",
    ),
    # --- Parameters ---
    ("an unbounded timeout", drop("/Parameters.GatewayTimeoutSeconds.MaxValue"), "MaxValue"),
    (
        "plain http to the internet",
        put("/Parameters.GatewayUrl.AllowedPattern", "https?://.*"),
        "AllowedPattern",
    ),
    ("backups for a day", put("/Parameters.BackupRetentionDays.MinValue", 1), "MinValue"),
    (
        "prod without alarms",
        put("/Rules.ProdNotifiesSomebody.RuleCondition", {"Fn::Equals": ["a", "b"]}),
        "RuleCondition",
    ),
    (
        "a condition that is always true",
        put("/Conditions.HasQueueSenders", {"Fn::Equals": ["a", "a"]}),
        "HasQueueSenders",
    ),
    (
        "a function that starves the others",
        put("ProcessRefund.Properties.ReservedConcurrentExecutions", 1),
        "ReservedConcurrent",
    ),
    (
        "a function that is cut off in the middle",
        put("ProcessRefund.Properties.Timeout", 3),
        "Timeout",
    ),
]


def test_the_list_of_dangerous_edits_is_long_enough_and_says_each_once() -> None:
    assert len(DANGERS) >= 40
    assert len({danger for danger, _, _ in DANGERS}) == len(DANGERS)


@pytest.mark.parametrize(
    ("edit", "where"), [pytest.param(edit, where, id=danger) for danger, edit, where in DANGERS]
)
def test_a_dangerous_edit_is_not_approved(template: Json, edit: Edit, where: str) -> None:
    changes = set(lines(edited(template, edit))) ^ set(approved())
    assert any(re.search(where, line) for line in changes), sorted(changes)
