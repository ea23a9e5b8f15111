"""A stack in moto as the operators' commands and the console have it."""

from __future__ import annotations

from typing import Any

from tests.support.fake_lambda import FakeLambda
from tests.support.moto_stack import REGION
from tests.support.moto_stack import Stack as MotoStack

from refunds_ops.stack.stack import Stack

NAME = "refunds-prod"


def outputs(stack: MotoStack) -> dict[str, str]:
    return {
        "StackName": NAME,
        "RefundsTableName": stack.refunds_table,
        "LedgerTableName": stack.ledger_table,
        "AuditTableName": stack.audit_table,
        "RefundQueueUrl": stack.queue_url,
        "RefundDeadLetterQueueUrl": stack.dead_letter_queue_url,
        "FailuresBucketName": stack.failures_bucket,
        "BackupBucketName": stack.backup_bucket,
        "BackupSigningKeyArn": "arn:aws:kms:eu-central-1:111122223333:key/signing",
        "RefundRequestsMappingId": "mapping",
        "MaximumConcurrency": "10",
        "ProcessRefundFunctionName": f"{NAME}-ProcessRefund",
        "ReconcileRefundsFunctionName": f"{NAME}-ReconcileRefunds",
        "TimeZone": "Europe/Berlin",
    }


def operators_stack(stack: MotoStack, functions: FakeLambda | None = None) -> Stack:
    """The stack in moto as the operators' commands have it."""
    found = Stack(f"the stack {NAME}", outputs(stack), {"AWS_REGION": REGION})
    clients: dict[str, Any] = {
        "dynamodb": stack.clients.dynamodb,
        "sqs": stack.clients.sqs,
        "s3": stack.clients.s3,
        "functions": functions or FakeLambda("Enabled"),
    }
    # As cached_property would.
    found.__dict__.update(clients)
    return found
