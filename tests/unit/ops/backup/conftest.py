from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from moto import mock_aws
from tests.support.backup_commands import OneGateway, Run, pause, stream
from tests.support.backup_parts import BackedUp, refund
from tests.support.builders import NOW
from tests.support.fake_lambda import FakeLambda
from tests.support.moto_stack import REGION

from refunds.domain.clock import rfc3339
from refunds.gateways.routing import Gateways
from refunds_ops import cli
from refunds_ops.backup.progress import Progress
from refunds_ops.commands import backup, drill, restore
from refunds_ops.stack.stack import Stack
from refunds_ops.terminal import run_command

COMMANDS = (backup, drill, restore)


@pytest.fixture(scope="module")
def aws() -> Iterator[None]:
    """AWS in moto, for one module's tests."""
    with mock_aws():
        yield


@pytest.fixture
def stack(aws: None) -> BackedUp:
    return BackedUp.create()


@pytest.fixture
def refunds(
    stack: BackedUp,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """The command line, on that stack; returns status, stdout and stderr."""
    for name, value in {
        "AWS_DEFAULT_REGION": REGION,
        "RefundsTableName": stack.refunds,
        "LedgerTableName": stack.ledger,
        "AuditTableName": stack.audit,
        "BackupBucketName": stack.bucket,
        "RefundQueueUrl": "https://queue",
        "BackupRefundsFunctionName": "stack-BackupRefunds",
        "WriteAuditFunctionName": "stack-WriteAudit",
        "BackupSigningKeyArn": "arn:of-kms",
        "RefundRequestsMappingId": "mapping",
        "COLUMNS": "200",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    for module in COMMANDS:
        monkeypatch.setattr(module, "keys_of", lambda *_: [stack.signer.public_key])
    functions = FakeLambda()
    functions.connect(stream(stack))
    monkeypatch.setattr(Stack, "functions", functions)
    pause(stack)

    def run(*arguments: str) -> tuple[int, str, str]:
        status = run_command(
            lambda: cli.cli(["backup", *arguments], standalone_mode=False, prog_name="refunds")
        )
        told = capsys.readouterr()
        return status, told.out, told.err

    return run


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        restore,
        "_gateways",
        lambda stack: Gateways([OneGateway()]),  # type: ignore[list-item]
    )


@pytest.fixture
def backed_up(stack: BackedUp) -> BackedUp:
    stack.add(*(refund(number) for number in range(8)))
    stack.back_up()
    return stack


@pytest.fixture
def progress(tmp_path: Path) -> Progress:
    return Progress(tmp_path / "restore.json", begun_at=rfc3339(NOW))
