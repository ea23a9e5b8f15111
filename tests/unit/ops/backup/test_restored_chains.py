"""Restored refunds continue their audit chains: verify is clean, and stays so when they settle."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.backup_commands import Run
from tests.support.backup_parts import BackedUp, refund
from tests.support.counted_calls import counted_calls
from tests.support.people import MOTO
from tests.support.refund_trail import RefundTrail

from refunds.domain.audit_entry import audit_entry
from refunds.domain.refund import Status
from refunds.gateways.contract import GatewayUnavailableError
from refunds.tables.ledger import LedgerTable

pytestmark = pytest.mark.usefixtures("gateway")


@pytest.fixture
def trail(stack: BackedUp, refunds: Run) -> RefundTrail:
    return RefundTrail(stack)


def test_a_row_deleted_by_hand_comes_back_as_the_version_after_its_removal(
    trail: RefundTrail, refunds: Run
) -> None:
    trail.add(1)
    trail.add(2, Status.PENDING)
    trail.stack.back_up()
    trail.delete("rf-000001")
    trail.delete("rf-000002")
    assert {finding.kind for finding in trail.findings()} == {"removed", "reservation_stray"}
    status, out, _ = refunds("restore")
    assert (status, "refunds: 2 continued" in out) == (0, True)
    trail.writer.deliver()
    assert trail.findings() == []
    restored = trail.get("rf-000001")
    assert (restored.version, restored.status) == (4, Status.SUCCEEDED)
    assert restored.restored is not None
    assert restored.restored["source"] == "backup 1"
    assert restored.restored["why"] == "restore"  # that of the pause
    assert trail.events(1) == ["processing", "succeeded", "deleted", "restored"]
    trail.settle("rf-000002", Status.SUCCEEDED)
    assert trail.events(2) == ["processing", "pending", "deleted", "restored", "succeeded"]
    assert trail.findings() == []
    assert trail.writer.kept == []


def test_a_row_lost_after_the_backup_comes_back_as_its_trail_has_it(
    trail: RefundTrail, refunds: Run
) -> None:
    trail.add(1, Status.PROCESSING)
    trail.stack.back_up()
    trail.settle("rf-000001", Status.SUCCEEDED)
    trail.delete("rf-000001")
    assert refunds("restore")[0] == 0
    trail.writer.deliver()
    restored = trail.get("rf-000001")
    # Not PROCESSING, as the backup has it: that would send the money again.
    assert (restored.version, restored.status) == (4, Status.SUCCEEDED)
    assert restored.fingerprint == refund(1).fingerprint
    assert restored.open_shard is None
    assert trail.findings() == []


def test_a_refund_newer_than_the_backup_comes_back_from_its_trail(
    trail: RefundTrail, refunds: Run
) -> None:
    trail.stack.back_up()
    trail.add(1)
    trail.add(2, Status.IN_REVIEW)
    trail.delete("rf-000001")
    trail.delete("rf-000002")
    status, out, _ = refunds("restore")
    assert (status, "refunds of the audit trail: 2 from the audit trail" in out) == (0, True)
    trail.writer.deliver()
    assert trail.findings() == []
    restored = trail.get("rf-000002")
    assert (restored.status, restored.key_used_at) == (Status.IN_REVIEW, restored.created_at)
    assert restored.open_shard is not None
    trail.settle("rf-000002", Status.FAILED)
    trail.stack.put(trail.stack.ledger, {"transaction_id": "tx-000002"})
    assert trail.findings() == []


def test_a_second_restore_changes_nothing(trail: RefundTrail, refunds: Run) -> None:
    trail.add(1)
    trail.stack.back_up()
    trail.delete("rf-000001")
    refunds("restore")
    trail.writer.deliver()
    before = trail.get("rf-000001")
    status, out, _ = refunds("restore")
    assert (status, "1 newer" in out) == (0, True)
    assert trail.get("rf-000001") == before


def test_a_row_put_back_by_hand_at_its_old_version_is_continued(
    trail: RefundTrail, refunds: Run
) -> None:
    there = trail.add(1)
    trail.stack.back_up()
    trail.delete("rf-000001")
    trail.stack.put(trail.stack.refunds, there.item())
    trail.writer.deliver()
    assert [finding.kind for finding in trail.findings()] == ["refund_behind"]
    assert refunds("restore")[0] == 0
    trail.writer.deliver()
    assert trail.findings() == []


def test_a_refund_whose_trail_is_damaged_is_blocked_and_named(
    trail: RefundTrail, refunds: Run
) -> None:
    trail.add(1)
    trail.stack.back_up()
    trail.delete("rf-000001")
    trail.stack.dynamodb.update_item(
        TableName=trail.stack.audit,
        Key={"transaction_id": {"S": "tx-000001"}, "entry_id": {"S": "REFUND#rf-000001#000003"}},
        UpdateExpression="SET user_id = :thief",
        ExpressionAttributeValues={":thief": {"S": "thief"}},
    )
    status, out, _ = refunds("restore")
    assert (status, "blocked rf-000001" in out) == (1, True)
    assert trail.table.get("rf-000001") is None


def _does_not_answer(*_: Any) -> None:
    raise GatewayUnavailableError("no answer")


# --- One refund, by name --------------------------------------------------------------------------


def by_name(refunds: Run, *more: str) -> tuple[int, str, str]:
    return refunds(
        "restore", "--refund", "rf-000001", "--why", "TICKET-7", "--by", "operator:ann", *more
    )


@pytest.mark.parametrize(
    "damaged",
    [
        {"amount_minor": {"N": "1"}},
        {"amount_minor": {"S": "a lot"}},
        {"user_id": {"B": b"\x00"}},
        {"version": {"N": "1"}},
        {"version": {"S": "two"}},
        {"fingerprint": {"S": "another"}},
    ],
    ids=str,
)
def test_a_damaged_record_is_replaced_by_name(
    trail: RefundTrail, refunds: Run, damaged: dict[str, Any]
) -> None:
    trail.add(1)
    trail.stack.back_up()
    trail.damage("rf-000001", **damaged)
    status, out, err = by_name(refunds)
    assert status == 0, err
    assert "rf-000001 restored as version 3: SUCCEEDED, 1.01 EUR" in out
    trail.writer.deliver()
    assert trail.findings() == []
    restored = trail.get("rf-000001")
    assert (restored.amount_minor, restored.user_id) == (101, "user-1")
    assert restored.fingerprint == refund(1).fingerprint
    assert restored.processed_by == MOTO
    assert restored.restored is not None
    assert restored.restored["why"] == "TICKET-7"
    assert trail.events(1) == ["processing", "succeeded", "restored"]


def test_a_sound_record_is_not_replaced(trail: RefundTrail, refunds: Run) -> None:
    before = trail.add(1)
    trail.stack.back_up()
    status, _, err = by_name(refunds)
    assert (status, "No restore is needed" in err) == (1, True)
    assert trail.get("rf-000001") == before


def test_a_record_newer_than_its_trail_is_not_replaced(trail: RefundTrail, refunds: Run) -> None:
    trail.add(1)
    trail.stack.back_up()
    before = trail.settle("rf-000001", Status.REVERSED)
    trail.stack.dynamodb.delete_item(
        TableName=trail.stack.audit,
        Key={"transaction_id": {"S": "tx-000001"}, "entry_id": {"S": "REFUND#rf-000001#000003"}},
    )
    status, _, err = by_name(refunds)
    assert (status, "refunds audit rebuild rf-000001" in err) == (1, True)
    assert trail.get("rf-000001") == before


def test_a_restore_that_was_stopped_before_the_ledger_is_completed_by_the_same_command(
    trail: RefundTrail, refunds: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    trail.add(1)
    trail.add(2)
    trail.stack.back_up()
    trail.delete("rf-000001")
    trail.delete("rf-000002")
    both = ("--refund", "rf-000002")
    with monkeypatch.context() as unanswered:
        unanswered.setattr("refunds_ops.backup.stack_restore.LedgerRebuild.run", _does_not_answer)
        status, _, err = by_name(refunds, *both)
    assert (status, "Run the same command again" in err) == (3, True)
    trail.writer.deliver()
    for transaction_id in ("tx-000001", "tx-000002"):
        trail.stack.dynamodb.delete_item(
            TableName=trail.stack.ledger, Key={"transaction_id": {"S": transaction_id}}
        )
    status, out, err = by_name(refunds, *both)
    assert status == 0, err
    assert "rf-000001 was restored already: version 4" in out
    assert "rf-000002 restored as version 4" in out
    trail.writer.deliver()
    assert trail.get("rf-000001").version == 4
    assert trail.findings() == []


def test_a_removal_that_was_audited_after_the_refund_went_on_is_mended_as_the_runbook_says(
    trail: RefundTrail, refunds: Run
) -> None:
    """AuditRejects: the refund's next version and its removal have one number."""
    there = trail.add(1, Status.PROCESSING)
    trail.stack.back_up()
    trail.stack.dynamodb.delete_item(
        TableName=trail.stack.refunds, Key={"refund_id": {"S": "rf-000001"}}
    )
    trail.stack.put(trail.stack.refunds, there.item())  # rebuilt before WriteAudit knew
    trail.settle("rf-000001", Status.SUCCEEDED)
    assert trail.writer.kept == ["another entry of this version is already there"]
    assert trail.findings() != []
    assert by_name(refunds, "--transaction", "tx-000001")[0] == 0
    trail.writer.deliver()
    assert trail.findings() == []
    restored = trail.get("rf-000001")
    assert (restored.version, restored.status) == (3, Status.PROCESSING)
    assert restored.check_at is not None  # the reconciler asks the gateway what became of it


def test_lost_entries_come_back_with_the_record(trail: RefundTrail, refunds: Run) -> None:
    trail.add(1)
    trail.stack.back_up()
    trail.delete("rf-000001")
    for version in (1, 2):
        trail.stack.dynamodb.delete_item(
            TableName=trail.stack.audit,
            Key={
                "transaction_id": {"S": "tx-000001"},
                "entry_id": {"S": f"REFUND#rf-000001#{version:06d}"},
            },
        )
    assert by_name(refunds)[0] == 0
    trail.writer.deliver()
    assert trail.findings() == []


def test_a_refund_that_no_backup_has_comes_back_from_its_trail(
    trail: RefundTrail, refunds: Run
) -> None:
    trail.stack.back_up()
    trail.add(1)
    trail.delete("rf-000001")
    status, _, err = by_name(refunds)
    assert (status, "neither this backup nor the audit trail has rf-000001" in err) == (1, True)
    assert by_name(refunds, "--transaction", "tx-000001")[0] == 0
    trail.writer.deliver()
    assert trail.findings() == []


def test_the_other_refunds_of_the_payment_are_read_together(
    trail: RefundTrail, refunds: Run
) -> None:
    """Its ledger is rebuilt from all of them, and there can be five thousand."""
    trail.add(1)
    trail.stack.back_up()

    def reads(others: range) -> int:
        for number in others:
            other = refund(number, transaction_id="tx-000001")
            trail.stack.put(trail.stack.refunds, other.item())
            entry = audit_entry(other.item()) | {"recorded_at": other.updated_at}
            trail.stack.put(trail.stack.audit, entry)
        trail.damage("rf-000001", amount_minor={"N": "1"})
        with counted_calls() as calls:
            assert by_name(refunds)[0] == 0
        trail.writer.deliver()
        return calls["GetItem"]

    assert reads(range(2, 4)) == reads(range(4, 10))
    ledger = LedgerTable(trail.stack.dynamodb, trail.stack.ledger).get("tx-000001")
    assert ledger is not None
    assert len(ledger.reservations) == 9


def test_a_trail_with_a_finding_is_not_continued(trail: RefundTrail, refunds: Run) -> None:
    trail.add(1)
    trail.stack.back_up()
    trail.damage("rf-000001", amount_minor={"N": "1"})
    key = {"transaction_id": {"S": "tx-000001"}, "entry_id": {"S": "REFUND#rf-000001#000001"}}
    trail.stack.dynamodb.update_item(
        TableName=trail.stack.audit,
        Key=key,
        UpdateExpression="SET user_id = :thief",
        ExpressionAttributeValues={":thief": {"S": "thief"}},
    )
    status, _, err = by_name(refunds)
    assert (status, "has a finding, changed" in err) == (1, True)


@pytest.mark.parametrize(
    "options",
    [
        ("--refund", "rf-000001"),
        ("--refund", "rf-000001", "--why", "x", "--suffix", "-old"),
        ("--refund", "rf-000001", "--why", "x", "--table", "refunds"),
        ("--transaction", "tx-000001"),
    ],
    ids=str,
)
def test_one_refund_needs_a_reason_and_the_stacks_own_tables(
    trail: RefundTrail, refunds: Run, options: tuple[str, ...]
) -> None:
    assert refunds("restore", *options)[0] == 2


def test_a_card_number_is_not_kept_as_a_reason(trail: RefundTrail, refunds: Run) -> None:
    trail.stack.back_up()
    status, _, err = refunds("restore", "--refund", "rf-1", "--why", "4111 1111 1111 1111")
    assert (status, "card numbers" in err) == (1, True)
