"""The audit commands over a trail's stack."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.audit_backups import Signer
from tests.support.audit_rows import Trail
from tests.support.moto_stack import REGION

from refunds_ops.audit import cross_check
from refunds_ops.cli import cli
from refunds_ops.terminal import run_command

Run = Callable[..., int]


def commands_on(trail: Trail, monkeypatch: pytest.MonkeyPatch, folder: Path) -> Run:
    """Runs a command on the trail's stack, in the folder; returns its exit status."""
    stack = trail.stack
    outputs = {
        "RefundQueueUrl": stack.queue_url,
        "RefundsTableName": stack.refunds_table,
        "LedgerTableName": stack.ledger_table,
        "AuditTableName": stack.audit_table,
        "FailuresBucketName": stack.failures_bucket,
        "BackupBucketName": stack.backup_bucket,
        "EventBusName": stack.bus_name,
        "AWS_REGION": REGION,
        "COLUMNS": "120",
    }
    for name, value in outputs.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(cross_check, "CLAIM_SECONDS", 0.0)  # nothing is between two steps here
    (folder / "key.pem").write_bytes(Signer().public.pem)

    def run(*arguments: str) -> int:
        return run_command(lambda: cli(list(arguments), standalone_mode=False))

    return run
