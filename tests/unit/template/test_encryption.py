"""Encryption at rest and on the way."""

from __future__ import annotations

import re

import pytest
from tests.support.expanded_template import (
    REGION,
    Check,
    Edit,
    ExpandedTemplate,
    Json,
    as_list,
    assert_each_has_an_edit,
    assert_noticed,
    change_key,
    drop,
    put,
)

PLAIN_HTTP = "Properties.PolicyDocument.Statement.0"

SHOP = "arn:aws:iam::444455556666:role/shop"  # a producer in another account


def test_everything_at_rest_is_encrypted_with_the_data_key(stack: ExpandedTemplate) -> None:
    stack = stack.given(Stage="prod")
    for queue in stack.of_type("AWS::SQS::Queue").values():
        assert queue["KmsMasterKeyId"] == "DataKey.Arn"
    tables = stack.of_type("AWS::DynamoDB::Table")
    assert set(tables) == {"Refunds", "Ledger", "PaymentAuditTrail"}
    for table in tables.values():
        assert table["SSESpecification"] == {
            "SSEEnabled": True,
            "SSEType": "KMS",
            "KMSMasterKeyId": "DataKey.Arn",
        }
    for bucket in stack.of_type("AWS::S3::Bucket").values():
        (rule,) = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
        assert rule["ServerSideEncryptionByDefault"] == {
            "SSEAlgorithm": "aws:kms",
            "KMSMasterKeyID": "DataKey.Arn",
        }
    for secret in stack.of_type("AWS::SecretsManager::Secret").values():
        assert secret["KmsKeyId"] == "DataKey.Arn"
    for topic in stack.of_type("AWS::SNS::Topic").values():
        assert topic["KmsMasterKeyId"] == "DataKey.Arn"
    for group in stack.of_type("AWS::Logs::LogGroup").values():
        assert group["KmsKeyId"] == "DataKey.Arn"


def test_the_data_key_rotates_and_its_policy_is_narrow(stack: ExpandedTemplate) -> None:
    key = stack.given(QueueSenderArns=SHOP)["DataKey"]
    assert key["EnableKeyRotation"] is True
    statements = key["KeyPolicy"]["Statement"]
    using = re.compile(r"kms:(Decrypt|Encrypt|GenerateDataKey|ReEncrypt|CreateGrant)")
    for statement in statements:
        actions = as_list(statement["Action"])
        assert not any("*" in action for action in actions), statement["Sid"]
        if any(using.match(action) for action in actions):
            assert statement.get("Condition"), statement["Sid"]
    by_service = {
        s["Principal"]["Service"]: set(s["Action"])
        for s in statements
        if "Service" in s["Principal"]
    }
    # Without these an alarm, or a function's log, is lost without a word.
    assert by_service["cloudwatch.amazonaws.com"] == {"kms:Decrypt", "kms:GenerateDataKey"}
    assert "kms:GenerateDataKey" in by_service[f"logs.{REGION}.amazonaws.com"]
    # And without this nobody can ever change the policy again.
    assert any("kms:PutKeyPolicy" in as_list(s["Action"]) for s in statements)


def test_nothing_is_reached_without_tls(stack: ExpandedTemplate) -> None:
    def refuses_plain_http(policy: Json, *resources: str) -> bool:
        return any(
            statement["Effect"] == "Deny"
            and statement["Principal"] == "*"
            and statement["Condition"] == {"Bool": {"aws:SecureTransport": False}}
            and {"s3:*", "sqs:*", "sns:Publish"} & set(as_list(statement["Action"]))
            and set(as_list(statement["Resource"])) == set(resources)
            for statement in policy["PolicyDocument"]["Statement"]
        )

    for name in stack.of_type("AWS::S3::Bucket"):
        policies = stack.of_type("AWS::S3::BucketPolicy").values()
        (policy,) = [policy for policy in policies if policy["Bucket"] == name]
        assert refuses_plain_http(policy, f"{name}.Arn", f"{name}.Arn/*")
    for name in stack.of_type("AWS::SQS::Queue"):
        policies = stack.of_type("AWS::SQS::QueuePolicy").values()
        (policy,) = [policy for policy in policies if policy["Queues"] == [name]]
        assert refuses_plain_http(policy, f"{name}.Arn")
    assert refuses_plain_http(stack["AlarmTopicPolicy"], "AlarmTopic")


# --- Do the checks notice? ------------------------------------------------------------------------

EDITS: list[tuple[Check, Edit]] = [
    *(
        (test_everything_at_rest_is_encrypted_with_the_data_key, drop(path))
        for path in (
            "RefundQueue.Properties.KmsMasterKeyId",
            "Ledger.Properties.SSESpecification",
            "FailuresBucket.Properties.BucketEncryption",
            "GatewaySecret.Properties.KmsKeyId",
            "AlarmTopic.Properties.KmsMasterKeyId",
            "WriteAuditLogGroup.Properties.KmsKeyId",
        )
    ),
    (
        test_the_data_key_rotates_and_its_policy_is_narrow,
        put("DataKey.Properties.EnableKeyRotation", False),
    ),
    (
        test_the_data_key_rotates_and_its_policy_is_narrow,
        change_key("AccountUsesKeyThroughServices", lambda s: s.pop("Condition")),
    ),
    (
        test_the_data_key_rotates_and_its_policy_is_narrow,
        change_key("AccountAdministersKey", lambda s: s.update(Action="kms:*")),
    ),
    (
        test_the_data_key_rotates_and_its_policy_is_narrow,
        change_key("AlarmsToTheTopic", lambda s: s["Action"].remove("kms:Decrypt")),
    ),
    *(
        (test_nothing_is_reached_without_tls, put(f"{policy}.{PLAIN_HTTP}.Effect", "Allow"))
        for policy in (
            "RefundQueuePolicy",
            "RefundDeadLetterQueuePolicy",
            "BackupBucketPolicy",
            "FailuresBucketPolicy",
            "AlarmTopicPolicy",
        )
    ),
    (
        test_nothing_is_reached_without_tls,
        put(f"BackupBucketPolicy.{PLAIN_HTTP}.Resource", {"Fn::GetAtt": ["BackupBucket", "Arn"]}),
    ),
]


@pytest.mark.parametrize(("check", "edit"), EDITS, ids=lambda value: value.__name__)
def test_the_checks_notice(template: Json, check: Check, edit: Edit) -> None:
    assert_noticed(template, check, edit)


def test_every_check_has_an_edit() -> None:
    assert_each_has_an_edit(globals(), EDITS)
