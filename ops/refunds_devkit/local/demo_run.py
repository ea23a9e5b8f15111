"""Sends the demo's requests, waits for conditions and collects the results.

Every wait has a deadline. What is missing then is missing in the report, and the demo fails.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from refunds.backup.digest import Digest
from refunds.domain.identity import Identity
from refunds.domain.refund import ENDED_WITHOUT_MONEY, Item, Status
from refunds.tables.wire import item_from_wire
from refunds_devkit.local.demo_requests import Case, Story
from refunds_devkit.local.processes import wait_until
from refunds_devkit.sandbox.client import SandboxClient
from refunds_ops.backup.data_files import DamagedError
from refunds_ops.backup.drill import Drill
from refunds_ops.backup.restore import RestoreError
from refunds_ops.backup.storage import Stored, backup_storage
from refunds_ops.backup.verification import BackupReport, BackupVerification, newest
from refunds_ops.commands.backup_options import keys_of
from refunds_ops.commands.drill import driller_of
from refunds_ops.deciding import deciding
from refunds_ops.stack.records import audit_entries, refund_item
from refunds_ops.stack.stack import Stack

SETTLE_SECONDS = 60.0
FINAL = ENDED_WITHOUT_MONEY | {Status.SUCCEEDED}


@dataclass
class Seen:
    """Everything that the demo found in the stack at its end."""

    refunds: dict[str, Item] = field(default_factory=dict)
    entries: list[Item] = field(default_factory=list)
    refused: list[dict[str, Any]] = field(default_factory=list)
    ledger: dict[str, Item] = field(default_factory=dict)
    books: dict[str, Any] = field(default_factory=dict)
    calls: list[dict[str, Any]] = field(default_factory=list)
    backup: Digest | None = None
    backup_files: list[Stored] = field(default_factory=list)
    verified: BackupReport | None = None
    drill: Drill | None = None
    drill_failure: str = ""
    waiting_messages: int = 0


class Run:
    """One run of the story. It calls ``changed`` whenever the display may need an update."""

    def __init__(self, stack: Stack, sandbox: SandboxClient, story: Story) -> None:
        self._stack = stack
        self._sandbox = sandbox
        self.story = story
        self.seen = Seen()
        self.sent = 0
        self.changed: Callable[[], None] = lambda: None

    def run(self) -> None:
        """Send, wait, settle, back up, rehearse a restore, and read everything."""
        self._send(self.story.first)
        self._wait(self._first_done)
        self._approve()
        self._send(self.story.second)
        self._wait(lambda: self._all_refused() and not self._messages_waiting())
        self._settle_pending()
        self._wait(self._audited)
        self._back_up()
        self._look_at_all()

    def _send(self, cases: tuple[Case, ...]) -> None:
        for case in cases:
            for _ in range(case.copies):
                self._stack.sqs.send_message(
                    QueueUrl=self._stack["RefundQueueUrl"], MessageBody=case.body
                )
        self.sent += len(cases)
        self.changed()

    def _wait(self, condition: Callable[[], bool]) -> None:
        def looked() -> bool:
            self._look_at_refunds()
            done = condition()
            self.changed()
            return done

        wait_until(looked, SETTLE_SECONDS)

    def _first_done(self) -> bool:
        statuses = {refund_id: refund["status"] for refund_id, refund in self.seen.refunds.items()}
        pending = statuses.pop(self.story.pending.refund_id, None)
        waiting = statuses.pop(self.story.approved.refund_id, None)
        return (
            pending in ("PENDING", "SUCCEEDED")
            and waiting == "AWAITING_APPROVAL"
            and len(statuses) == len(self.story.refunds) - 2
            and all(Status(status) in FINAL for status in statuses.values())
        )

    def _approve(self) -> None:
        """A person approves the refund that is over a limit. The reconciler's next run pays it."""
        approved = self.story.approved.refund_id
        if self.seen.refunds.get(approved, {}).get("status") != Status.AWAITING_APPROVAL:
            return  # the report says what is missing
        session = self._stack.new_client("sts").assume_role(
            RoleArn="arn:aws:iam::000000000000:role/Reviewer", RoleSessionName="ada"
        )["AssumedRoleUser"]
        ada = Identity(session["Arn"], "000000000000", session["AssumedRoleId"])
        seen = {"evidence": "order A-1008 was cancelled"}
        deciding(self._stack, ada).approvals().approve(approved, ada, "a known customer", seen)
        self._invoke("ReconcileRefunds")
        self._wait(lambda: bool(self.seen.refunds[approved]["status"] == Status.SUCCEEDED))

    def _settle_pending(self) -> None:
        """The bank settles the pending refund. The reconciler's next run finds that."""
        refund = self.seen.refunds.get(self.story.pending.refund_id, {})
        if refund.get("status") == Status.PENDING:
            self._sandbox.settle(refund["gateway_refund_id"], "succeeded")

        def reconciled() -> bool:
            if not self._is_due(refund):
                return False
            self._invoke("ReconcileRefunds")
            self._look_at_refunds()
            there = self.seen.refunds.get(self.story.pending.refund_id, {})
            return bool(there.get("status") == Status.SUCCEEDED)

        self._wait(reconciled)

    def _is_due(self, refund: Item) -> bool:
        there = self.seen.refunds.get(refund.get("refund_id", ""), {})
        now = self._sandbox.health()["now"]
        return str(there.get("check_at", "")) <= str(now)

    def _audited(self) -> bool:
        self._look_at_trail()
        expected = sum(refund["version"] for refund in self.seen.refunds.values())
        return bool(len(self.seen.entries) >= expected)

    def _all_refused(self) -> bool:
        self._look_at_refused()
        return len(self.seen.refused) >= sum(1 for case in self.story.cases if case.refused)

    def _messages_waiting(self) -> int:
        names: Any = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self._stack.sqs.get_queue_attributes(
            QueueUrl=self._stack["RefundQueueUrl"], AttributeNames=names
        )["Attributes"]
        self.seen.waiting_messages = sum(int(value) for value in found.values())
        return self.seen.waiting_messages

    def _back_up(self) -> None:
        """Back up, then verify the backup and restore it."""
        self._invoke("BackupRefunds")
        self.changed()
        storage, keys = backup_storage(self._stack, None), keys_of(self._stack, ())
        self.seen.backup = backup = newest(storage)
        if backup is None:
            return
        self.seen.backup_files = list(storage.list(f"{backup.backup_prefix}/"))
        self.seen.verified = BackupVerification(storage, keys).run()
        try:
            self.seen.drill = driller_of(self._stack).run(
                backup, secrets.token_hex(4), lambda what, done, total: self.changed()
            )
        except (RestoreError, DamagedError) as exc:
            self.seen.drill_failure = str(exc)

    def _invoke(self, function: str) -> None:
        answer = self._stack.functions.invoke(
            FunctionName=self._stack[f"{function}FunctionName"], Payload=b"{}"
        )
        if "FunctionError" in answer:
            raise RuntimeError(f"{function} failed: {answer['Payload'].read()[:1000]!r}")

    def _look_at_all(self) -> None:
        self._look_at_refunds()
        self._look_at_trail()
        self._messages_waiting()
        self.seen.books = self._sandbox.ledger()
        self.seen.calls = self._sandbox.calls(reference=self.story.timed_out.refund_id)
        pages = self._stack.dynamodb.scan(
            TableName=self._stack["LedgerTableName"], ConsistentRead=True
        )
        items = [item_from_wire(wire) for wire in pages["Items"]]
        self.seen.ledger = {item["transaction_id"]: item for item in items}

    def _look_at_refunds(self) -> None:
        for case in self.story.refunds:
            if item := refund_item(self._stack, case.refund_id):
                self.seen.refunds[case.refund_id] = item

    def _look_at_trail(self) -> None:
        self.seen.entries = [
            entry
            for payment in self.story.payments
            for entry in audit_entries(self._stack, payment.id)[0]
        ]

    def _look_at_refused(self) -> None:
        known = {message["MessageId"] for message in self.seen.refused}
        # Received but not deleted: they return to the queue after the visibility timeout.
        answer = self._stack.sqs.receive_message(
            QueueUrl=self._stack["RefundDeadLetterQueueUrl"],
            MaxNumberOfMessages=10,
            MessageAttributeNames=["All"],
            VisibilityTimeout=0,
        )
        for message in answer.get("Messages", []):
            if message["MessageId"] not in known:
                self.seen.refused.append(dict(message))


def refused_of(seen: Seen, case: Case) -> dict[str, str] | None:
    """error_code and error_message of a case's refused message, or None if it is not in the DLQ."""
    for message in seen.refused:
        if message["Body"] == case.body:
            attributes = message.get("MessageAttributes", {})
            return {name: value["StringValue"] for name, value in attributes.items()}
    return None


def movements_of(seen: Seen, refund_id: str) -> list[dict[str, Any]]:
    return [each for each in seen.books.get("movements", []) if each["reference"] == refund_id]
