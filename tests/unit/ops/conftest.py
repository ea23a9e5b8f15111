"""The operator's command line on a stack in moto."""

from __future__ import annotations

import pytest
from tests.support.command_line import Refunds
from tests.support.moto_stack import REGION, Stack


@pytest.fixture
def refunds_stack(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Stack:
    """The stack in moto, named by the environment."""
    outputs = {
        "AWS_REGION": REGION,
        "RefundsTableName": stack.refunds_table,
        "LedgerTableName": stack.ledger_table,
        "AuditTableName": stack.audit_table,
        "RefundQueueUrl": stack.queue_url,
        "RefundDeadLetterQueueUrl": stack.dead_letter_queue_url,
        "FailuresBucketName": stack.failures_bucket,
        "BackupBucketName": stack.backup_bucket,
        "TimeZone": "Europe/Berlin",
    }
    for name, value in outputs.items():
        monkeypatch.setenv(name, value)
    return stack


@pytest.fixture
def refunds(capsys: pytest.CaptureFixture[str], refunds_stack: Stack) -> Refunds:
    return Refunds(capsys)
