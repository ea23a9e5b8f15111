"""What each role may do with the keys: encrypt through named services, and sign digests only."""

from __future__ import annotations

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


def test_only_the_backup_signs_and_only_digests(stack: ExpandedTemplate) -> None:
    key = stack["BackupSigningKey"]
    assert (key["KeyUsage"], key["KeySpec"]) == ("SIGN_VERIFY", "RSA_3072")
    signing = [
        s
        for s in key["KeyPolicy"]["Statement"]
        if {"kms:Sign", "kms:*"} & set(as_list(s["Action"]))
    ]
    (signs,) = signing
    assert signs["Action"] == "kms:Sign"
    assert signs["Principal"] == {"AWS": "BackupRefundsRole.Arn"}
    assert signs["Condition"]["StringEquals"] == {
        "kms:MessageType": "DIGEST",
        "kms:SigningAlgorithm": "RSASSA_PKCS1_V1_5_SHA_256",
    }
    for name in FUNCTIONS:
        assert "BackupSigningKey.Arn" not in stack.may(name, "kms")
    assert stack.outputs["BackupSigningKeyArn"]["Value"] == "BackupSigningKey.Arn"


def test_a_function_may_use_the_key_of_another_owners_audit_table(stack: ExpandedTemplate) -> None:
    key = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/theirs"
    stack = stack.given(CreateAuditTable="false", AuditTableName="theirs", AuditTableKeyArn=key)
    assert "PaymentAuditTrail" not in stack.resources
    assert stack.outputs["AuditTableName"]["Value"] == "theirs"
    for name in FUNCTIONS:
        assert set(stack.may(name, "kms")) == {"DataKey.Arn", key}
        assert stack[name]["Environment"]["Variables"]["AUDIT_TABLE"] == "theirs"
        assert any(arn.endswith(":table/theirs") for arn in stack.may(name, "dynamodb"))


WRITES = {
    "Decrypt",
    "DescribeKey",
    "Encrypt",
    "GenerateDataKey",
    "GenerateDataKeyWithoutPlaintext",
    "ReEncryptFrom",
    "ReEncryptTo",
}
"""What DynamoDB documents as the least for a table with a customer managed key."""


def test_each_function_uses_the_key_only_through_the_services_it_calls(
    stack: ExpandedTemplate,
) -> None:
    def used(name: str) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for statement in stack.statements(name):
            actions = {a for a in as_list(statement["Action"]) if a.startswith("kms:")}
            if actions:
                ((operator, condition),) = statement["Condition"].items()
                assert operator == "StringEquals"
                assert set(condition) == {"kms:ViaService"}
                for service in as_list(condition["kms:ViaService"]):
                    short = service.removesuffix(f".{REGION}.amazonaws.com")
                    found.setdefault(short, set()).update(a.removeprefix("kms:") for a in actions)
        return found

    writes_objects = {"Decrypt", "GenerateDataKey"}
    assert used("ProcessRefund") == {
        "dynamodb": WRITES,
        "sqs": {"Decrypt", "GenerateDataKey"},
        "secretsmanager": {"Decrypt"},
    }
    assert used("WriteAudit") == {"dynamodb": WRITES, "s3": writes_objects}
    assert used("ReconcileRefunds") == {
        "dynamodb": WRITES,
        "sqs": {"Decrypt"},
        "s3": writes_objects,
        "secretsmanager": {"Decrypt"},
    }
    reads = {"Decrypt", "DescribeKey", "GenerateDataKey"}
    assert used("BackupRefunds") == {"dynamodb": reads, "s3": reads}
    assert stack.given(Webhooks="true").may("ReceiveWebhook", "kms") == {"DataKey.Arn": {"Decrypt"}}


# --- Do the checks notice? ------------------------------------------------------------------------

EDITS: list[tuple[Check, Edit]] = [
    (
        test_each_function_uses_the_key_only_through_the_services_it_calls,
        allow("WriteAudit", "UseDataKeyForFailures", "kms:CreateGrant"),
    ),
    (
        test_only_the_backup_signs_and_only_digests,
        drop("BackupSigningKey.Properties.KeyPolicy.Statement.1.Condition"),
    ),
    (
        test_only_the_backup_signs_and_only_digests,
        put("BackupSigningKey.Properties.KeyPolicy.Statement.0.Action", "kms:*"),
    ),
    (
        test_only_the_backup_signs_and_only_digests,
        allow("ProcessRefund", "UseDataKey", resource="BackupSigningKey.Arn"),
    ),
    (
        test_a_function_may_use_the_key_of_another_owners_audit_table,
        drop("PaymentAuditTrail.Condition"),
    ),
    (
        test_a_function_may_use_the_key_of_another_owners_audit_table,
        put(f"WriteAudit.{ENVIRONMENT}.AUDIT_TABLE", "PaymentAuditTrail"),
    ),
    (
        test_a_function_may_use_the_key_of_another_owners_audit_table,
        allow("WriteAudit", "UseDataKey", resource="DataKey.Arn"),
    ),
]


@pytest.mark.parametrize(("check", "edit"), EDITS, ids=lambda value: value.__name__)
def test_the_checks_notice(template: Json, check: Check, edit: Edit) -> None:
    assert_noticed(template, check, edit)


def test_every_check_has_an_edit() -> None:
    assert_each_has_an_edit(globals(), EDITS)
