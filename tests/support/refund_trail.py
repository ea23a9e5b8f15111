"""Refunds of a stack in moto, written as the protocol writes them, with WriteAudit behind them."""

from __future__ import annotations

from typing import Any

import boto3
from tests.support.backup_parts import BackedUp, refund
from tests.support.moto_stack import REGION
from tests.support.moto_stream import MotoStream

from refunds.backup.table_scan import PageReader, ReadLimit
from refunds.domain.audit_entry import audit_entry
from refunds.domain.clock import SystemClock, rfc3339
from refunds.domain.intake import Intake
from refunds.domain.refund import Refund, Status, change_status
from refunds.tables.audit_trail import AuditTable
from refunds.tables.refunds import RefundsTable
from refunds.tables.state import Control
from refunds_ops.audit.findings import Finding
from refunds_ops.audit.tables import Tables
from refunds_ops.audit.verify import Verification


class RefundTrail:
    """One stack's refunds as the protocol writes them, with WriteAudit behind the stream."""

    def __init__(self, stack: BackedUp) -> None:
        self.stack = stack
        self.clock = SystemClock()
        self.writer = MotoStream(stack.refunds, stack.audit, self.clock)
        self.table = RefundsTable(stack.dynamodb, stack.refunds)
        self.audit = AuditTable(stack.dynamodb, stack.audit)

    def add(self, number: int, status: Status = Status.SUCCEEDED) -> Refund:
        first = refund(
            number, status=Status.PROCESSING, gateway_refund_id=None, updated_at=self.now()
        )
        self.stack.add(first)
        self.writer.deliver()
        if status is first.status:
            return first
        return self.settle(first.refund_id, status, gateway_refund_id=f"fr_{number}")

    def now(self) -> str:
        return rfc3339(self.clock.now())

    def settle(self, refund_id: str, status: Status, **changes: Any) -> Refund:
        old = self.get(refund_id)
        previous_hash = audit_entry(old.item())["entry_hash"]
        new = change_status(
            old,
            status,
            at=self.now(),
            by="ReconcileRefunds:1",
            previous_hash=previous_hash,
            **changes,
        )
        assert self.table.save(old, new)
        self.writer.deliver()
        return new

    def get(self, refund_id: str) -> Refund:
        found = self.table.get(refund_id)
        assert found is not None
        return found

    def delete(self, refund_id: str) -> None:
        self.stack.dynamodb.delete_item(
            TableName=self.stack.refunds, Key={"refund_id": {"S": refund_id}}
        )
        self.writer.deliver()

    def damage(self, refund_id: str, **attributes: Any) -> None:
        """A hand changes the record; the stream has no new version to audit."""
        for name, value in attributes.items():
            self.stack.dynamodb.update_item(
                TableName=self.stack.refunds,
                Key={"refund_id": {"S": refund_id}},
                UpdateExpression="SET #name = :value",
                ExpressionAttributeNames={"#name": name},
                ExpressionAttributeValues={":value": value},
            )
        self.writer.deliver()

    def resume(self) -> None:
        Control(self.stack.dynamodb, self.stack.ledger).change_intake(lambda _: Intake())

    def events(self, number: int) -> list[str]:
        tables = self._tables()
        entries = tables.entries_of(f"tx-{number:06d}", f"rf-{number:06d}")
        return [entry["event"]["S"].removeprefix("refund.") for entry in entries]

    def findings(self) -> list[Finding]:
        report = Verification(
            self._tables(),
            clock=self.clock,
            progress=lambda _, pages, __: iter(pages),
            sleep=lambda _: None,
        ).run()
        return report.findings

    def _tables(self) -> Tables:
        stack = self.stack
        client = boto3.client("dynamodb", region_name=REGION)
        return Tables(
            client,
            PageReader(boto3.client("dynamodb", region_name=REGION), ReadLimit(0)),
            refunds=stack.refunds,
            ledger=stack.ledger,
            audit=stack.audit,
        )
