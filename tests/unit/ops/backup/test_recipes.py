"""The recipes of docs/backup.md, run word by word."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.support.backup_commands import OneGateway, connect, download
from tests.support.backup_parts import BackedUp
from tests.support.fake_lambda import FakeLambda
from tests.support.recipes import recipe
from tests.support.refund_trail import RefundTrail

from refunds.domain.refund import Refund, Status
from refunds.gateways.contract import GatewayRefund, GatewayStatus, RefundPage
from refunds.gateways.routing import Gateways
from refunds.tables.ledger import LedgerTable
from refunds_ops import cli
from refunds_ops.stack.stack import Stack
from refunds_ops.terminal import run_command


class PaidAtGateway(OneGateway):
    """Shows every refund that is not ended as paid."""

    def __init__(self) -> None:
        self.refunds: list[Refund] = []

    def list_refunds(self, deadline: Any, **asked: Any) -> RefundPage:
        payment = asked.get("transaction_id")
        shown = [
            GatewayRefund(
                f"fr_{int(each.refund_id[3:])}",
                each.transaction_id,
                each.refund_id,
                each.amount_minor or 0,
                each.currency,
                GatewayStatus.SUCCEEDED,
            )
            for each in self.refunds
            if payment in (None, each.transaction_id)
        ]
        return RefundPage(tuple(shown), None)

    def reference_for(self, refund_id: str) -> str:
        return refund_id

    def find_refunds(
        self, reference: str, transaction_id: str, deadline: Any
    ) -> tuple[GatewayRefund, ...]:
        page = self.list_refunds(deadline, transaction_id=transaction_id)
        return tuple(each for each in page.refunds if each.refund_id == reference)


class Operator:
    """Types what a recipe says. After each command the stream is delivered, as it is in AWS."""

    def __init__(self, stack: BackedUp, trail: RefundTrail, functions: FakeLambda) -> None:
        self.stack = stack
        self.trail = trail
        self.functions = functions
        self.statuses: list[tuple[str, int]] = []

    def follow(self, heading: str) -> None:
        for line in recipe(heading):
            words = shlex.split(os.path.expandvars(line), comments=True)
            self.statuses.append((line, self._run(line, words)))
            self.trail.writer.deliver()
        assert [line for line, status in self.statuses if status] == []

    def _run(self, line: str, words: list[str]) -> int:
        match words:
            case ["aws", "s3", "sync", source, folder]:
                assert source == f"s3://{self.stack.bucket}/refund-backups"
                download(self.stack, Path("downloaded"))
                Path("downloaded/refund-backups").rename(folder)
                return 0
            case ["aws", "lambda", "update-event-source-mapping", *options]:
                assert options == ["--no-enabled", "--uuid", "queue"]
                self.functions.update_event_source_mapping(UUID="queue", Enabled=False)
                return 0
            case ["refunds", *arguments, ">", file]:
                assert arguments == ["backup", "public-key"]
                Path(file).write_bytes(self.stack.signer.public_key.pem)
                return 0
            case ["refunds", *arguments]:
                return run_command(
                    lambda: cli.cli(arguments, standalone_mode=False, prog_name="refunds")
                )
        return subprocess.run(["bash", "-euo", "pipefail", "-c", line], check=False).returncode


@pytest.fixture
def gateway_shows(monkeypatch: pytest.MonkeyPatch) -> PaidAtGateway:
    gateway = PaidAtGateway()
    gateways = Gateways([gateway])  # type: ignore[list-item]
    monkeypatch.setattr("refunds_ops.audit.sources.gateways", lambda _: gateways)
    return gateway


@pytest.fixture
def operator(
    stack: BackedUp, gateway_shows: PaidAtGateway, refunds: Any, monkeypatch: pytest.MonkeyPatch
) -> Operator:
    """Two refunds, one of them pending when it was backed up and paid since."""
    functions: Any = Stack.functions
    monkeypatch.setattr("refunds_ops.audit.sources.public_key", lambda *_: stack.signer.public_key)
    monkeypatch.setenv("RefundRequestsMappingId", "queue")
    monkeypatch.setenv("MaximumConcurrency", "10")
    monkeypatch.setenv("FailuresBucketName", stack.bucket)
    monkeypatch.setattr("refunds_ops.commands.intake._ASK_AGAIN_SECONDS", 0.0)
    functions.requests = "Enabled"
    trail = RefundTrail(stack)
    trail.resume()
    trail.add(1)
    trail.add(2, Status.PENDING)
    stack.back_up()
    trail.settle("rf-000002", Status.SUCCEEDED, gateway_refund_id="fr_2")
    gateway_shows.refunds = [trail.get("rf-000001"), trail.get("rf-000002")]
    return Operator(stack, trail, functions)


def test_one_refund(operator: Operator) -> None:
    operator.trail.damage("rf-000001", amount_minor={"N": "9999"})
    operator.follow("One refund")
    assert operator.trail.get("rf-000001").amount_minor == 101
    assert operator.functions.requests == "Enabled"


def test_one_table(operator: Operator) -> None:
    operator.stack.dynamodb.delete_table(TableName=operator.stack.refunds)
    operator.follow("One table")
    assert operator.trail.get("rf-000002").status is Status.SUCCEEDED
    assert operator.functions.requests == "Enabled"
    operator.trail.settle("rf-000001", Status.REVERSED)
    assert operator.trail.events(1) == ["processing", "succeeded", "reversed"]


def test_all_tables(operator: Operator, gateway_shows: PaidAtGateway) -> None:
    stack = operator.stack
    for table in (stack.refunds, stack.ledger, stack.audit):
        stack.dynamodb.delete_table(TableName=table)
    # Paid after the backup: the restored refund is pending, and the reconciler asks for it.
    operator.follow("All tables")
    assert operator.functions.requests == "Enabled"
    pending = operator.trail.get("rf-000002")
    assert (pending.status, pending.open_shard is not None) == (Status.PENDING, True)
    ledger = LedgerTable(stack.dynamodb, stack.ledger).get("tx-000002")
    assert ledger is not None
    assert ledger.reservations == {"rf-000002": 102}


def test_another_accounts_stack(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    new = BackedUp.create()
    functions = FakeLambda(requests="Enabled")
    outputs = {
        "RefundsTableName": new.refunds,
        "LedgerTableName": new.ledger,
        "AuditTableName": new.audit,
        "BackupBucketName": new.bucket,
    }

    def with_outputs(stack: Stack, name: str) -> Stack:
        assert name == "refunds-dr"
        return Stack(stack.where, {**os.environ, **outputs})

    monkeypatch.setattr("refunds_ops.stack.stack.with_outputs", with_outputs)
    monkeypatch.setattr(Stack, "functions", functions)
    connect(new, functions)
    dr = RefundTrail(new)
    followed = Operator(operator.stack, dr, functions)
    followed.follow("Another account's stack")
    assert dr.get("rf-000001").status is Status.SUCCEEDED
    assert dr.events(2) == ["processing", "pending"]
    assert functions.requests == "Enabled"
    dr.settle("rf-000002", Status.SUCCEEDED, gateway_refund_id="fr_2")
    assert dr.findings() == []


def test_a_look_into_the_past(operator: Operator, tmp_path: Path) -> None:
    download(operator.stack, tmp_path / "backups")
    (tmp_path / "key.pem").write_bytes(operator.stack.signer.public_key.pem)
    operator.follow("A look into the past")
    names = operator.stack.dynamodb.list_tables()["TableNames"]
    for suffix in ("-2026-11-23", "-old"):
        assert f"{operator.stack.refunds}{suffix}" in names
    assert operator.functions.requests == "Enabled"  # nothing was paused


def test_verifying_offline_and_with_standard_tools(operator: Operator) -> None:
    operator.stack.back_up()
    operator.follow("Verifying")
    assert any(line.startswith("openssl dgst") for line, _ in operator.statuses)
    assert any(line.startswith("jq") for line, _ in operator.statuses)
    changed = min(Path("backups").rglob("*.json.gz"))  # of the first backup
    changed.write_bytes(b"something else")
    check = next(line for line, _ in operator.statuses if line.startswith("jq"))
    assert operator._run(check, shlex.split(check)) != 0
