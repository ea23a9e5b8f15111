"""The names of a stack's outputs."""

from __future__ import annotations

OUTPUTS = (
    "RefundQueueUrl",
    "RefundQueueArn",
    "RefundDeadLetterQueueUrl",
    "RefundsTableName",
    "AuditTableName",
    "BackupBucketName",
    "ProcessRefundFunctionName",
    "WriteAuditFunctionName",
    "ReconcileRefundsFunctionName",
    "BackupRefundsFunctionName",
    "EventBusName",
    "LedgerTableName",
    "FailuresBucketName",
)
"""The outputs that every stack of template.yaml has."""

FUNCTIONS = ("ProcessRefund", "WriteAudit", "ReconcileRefunds", "BackupRefunds")
"""The functions' logical ids; each has its output ``<logical id>FunctionName``."""
