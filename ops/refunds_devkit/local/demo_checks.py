"""Checks what the demo shows. Each check is a claim; a claim that does not hold is reported."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from refunds.domain.audit_entry import entry_hash
from refunds_devkit.local.demo_requests import Story
from refunds_devkit.local.demo_run import Seen, movements_of, refused_of


@dataclass(frozen=True)
class Check:
    claim: str
    holds: bool
    found: str = ""


def checks(story: Story, seen: Seen) -> list[Check]:
    """Every claim that the demo makes, and whether it holds."""
    return [
        *_outcomes(story, seen),
        *_refusals(story, seen),
        _approval(story, seen),
        *_money(story, seen),
        *_trail(story, seen),
        *_backup(seen),
        Check("the queue is empty", seen.waiting_messages == 0),
    ]


def _outcomes(story: Story, seen: Seen) -> Iterator[Check]:
    for case in story.refunds:
        refund = seen.refunds.get(case.refund_id, {})
        found = (refund.get("status"), refund.get("failure_code"), refund.get("amount_minor"))
        expected = (case.status, case.failure_code, case.fields["amount_minor"])
        yield Check(f"{case.refund_id} is {case.status}", found == expected, f"it is {found}")
    unknown = set(seen.refunds) - {case.refund_id for case in story.refunds}
    yield Check("there is no other refund", not unknown, f"{sorted(unknown)}")


def _refusals(story: Story, seen: Seen) -> Iterator[Check]:
    refused_cases = [case for case in story.cases if case.refused]
    for case in refused_cases:
        refusal = refused_of(seen, case)
        yield Check(
            f"the {case.title} is refused as {case.refused}, its body byte for byte in the DLQ",
            refusal is not None and refusal.get("error_code") == case.refused,
            f"the DLQ has {refusal}",
        )
    yield Check(
        f"the dead-letter queue has exactly these {len(refused_cases)}",
        len(seen.refused) == len(refused_cases),
        f"it holds {len(seen.refused)}",
    )


def _approval(story: Story, seen: Seen) -> Check:
    refund_id = story.approved.refund_id
    refund = seen.refunds.get(refund_id, {})
    by = [each["by"] for each in refund.get("approvals", ())]
    return Check(
        f"{refund_id} waited until another person than its requester approved it",
        bool(by) and by[0].endswith("/ada") and bool(refund.get("awaiting")),
        f"it was approved by {by}",
    )


def _money(story: Story, seen: Seen) -> Iterator[Check]:
    for case in story.refunds:
        moved = [each["amount"] for each in movements_of(seen, case.refund_id)]
        expected = [case.moved_minor] if case.moved_minor else []
        yield Check(
            f"money moved {'once' if expected else 'never'} for {case.refund_id}",
            moved == expected,
            f"it moved {moved}",
        )
    for payment in story.payments:
        refunded = sum(
            each["amount"]
            for each in seen.books.get("movements", [])
            if each["transaction_id"] == payment.id
        )
        # A payment has no balance until its first reservation.
        remaining = seen.ledger.get(payment.id, {}).get("remaining", payment.captured_minor)
        yield Check(
            f"the ledger of {payment.id} agrees with the gateway",
            remaining == payment.captured_minor - refunded,
            f"{remaining} left, of {payment.captured_minor}, {refunded} refunded",
        )


def _trail(story: Story, seen: Seen) -> Iterator[Check]:
    for case in story.refunds:
        refund = seen.refunds.get(case.refund_id, {})
        chain = [entry for entry in seen.entries if entry["refund_id"] == case.refund_id]
        versions = [entry["version"] for entry in chain]
        yield Check(
            f"{case.refund_id} has one audit entry for each version",
            versions == list(range(1, refund.get("version", 0) + 1)),
            f"versions {versions} of {refund.get('version')}",
        )
        before = None
        linked = True
        for entry in chain:
            linked &= entry["entry_hash"] == entry_hash(entry)
            linked &= entry.get("previous_hash") == before
            before = entry["entry_hash"]
        yield Check(f"the hash chain of {case.refund_id} is unbroken", linked)
        yield Check(
            f"the trail of {case.refund_id} ends as the refund does",
            bool(chain) and chain[-1]["status"] == refund.get("status"),
        )


def _backup(seen: Seen) -> Iterator[Check]:
    backup, verified, drill = seen.backup, seen.verified, seen.drill
    yield Check("there is a published backup", backup is not None)
    if backup is None:
        return
    transactions = [name for name in seen.ledger if not name.startswith("#")]
    for table, count in (
        ("refunds", len(seen.refunds)),
        ("ledger", len(transactions)),
        ("audit", len(seen.entries)),
    ):
        held = sum(export.item_count for export in backup.exports if export.table == table)
        yield Check(f"the backup holds all {count} {table} items", held == count, f"it has {held}")
    files = len(backup.files())
    yield Check(
        f"each of its {files} files is what its signed digest says",
        verified is not None and not verified.findings and verified.files == files,
        f"{verified}",
    )
    restored_tables = drill.tables if drill else []
    yield Check(
        "the drill has restored all three tables",
        sorted(restored.table for restored in restored_tables) == ["audit", "ledger", "refunds"],
        seen.drill_failure,
    )
    for restored in restored_tables:
        yield Check(
            f"restored, {restored.table} equals the backup and the live table in every row",
            restored.passed and not restored.against_source.since,
            f"{restored.against_backup}; {restored.against_source}",
        )
