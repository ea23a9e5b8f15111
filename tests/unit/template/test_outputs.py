"""The outputs that commands, tests and other stacks rely on."""

from __future__ import annotations

import pytest
from tests.support.expanded_template import (
    Check,
    Edit,
    ExpandedTemplate,
    Json,
    assert_each_has_an_edit,
    assert_noticed,
    drop,
)

OUTPUTS = {
    "RefundQueueUrl": "RefundQueue",
    "RefundQueueArn": "RefundQueue.Arn",
    "RefundDeadLetterQueueUrl": "RefundDeadLetterQueue",
    "RefundsTableName": "Refunds",
    "LedgerTableName": "Ledger",
    "AuditTableName": "PaymentAuditTrail",
    "BackupBucketName": "BackupBucket",
    "FailuresBucketName": "FailuresBucket",
    "EventBusName": "RefundEvents",
    "ProcessRefundFunctionName": "ProcessRefund",
    "WriteAuditFunctionName": "WriteAudit",
    "ReconcileRefundsFunctionName": "ReconcileRefunds",
    "BackupRefundsFunctionName": "BackupRefunds",
    "GatewaySecretArn": "GatewaySecret.Id",
    "AlarmTopicArn": "AlarmTopic",
    "DataKeyArn": "DataKey.Arn",
}


def test_outputs_are_those_that_others_rely_on(stack: ExpandedTemplate) -> None:
    assert OUTPUTS.items() <= {n: o["Value"] for n, o in stack.outputs.items()}.items()


# --- Do the checks notice? ------------------------------------------------------------------------

EDITS: list[tuple[Check, Edit]] = [
    *((test_outputs_are_those_that_others_rely_on, drop(f"/Outputs.{name}")) for name in OUTPUTS),
]


@pytest.mark.parametrize(("check", "edit"), EDITS, ids=lambda value: value.__name__)
def test_the_checks_notice(template: Json, check: Check, edit: Edit) -> None:
    assert_noticed(template, check, edit)


def test_every_check_has_an_edit() -> None:
    assert_each_has_an_edit(globals(), EDITS)
