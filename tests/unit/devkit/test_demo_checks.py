"""The demo's checks hold for a good run, and each notices its kind of wrong."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable

import pytest
from rich.console import Console

from refunds.backup.digest import DataFile, Digest, Export
from refunds.domain.audit_entry import audit_entry
from refunds_devkit.local.demo_checks import checks
from refunds_devkit.local.demo_report import opening, progress, report
from refunds_devkit.local.demo_requests import PAYMENTS, Case, story
from refunds_devkit.local.demo_run import Seen
from refunds_ops.backup.drill import Drill, TableDrill
from refunds_ops.backup.storage import Stored
from refunds_ops.backup.tables import Differences
from refunds_ops.backup.verification import BackupReport


def refund_item(case: Case) -> dict[str, object]:
    item = case.fields | {
        "status": str(case.status),
        "processed_by": "refunds-local-ProcessRefund-0A1B:1",
        "gateway": "flair",
        "created_at": "2026-11-23T07:10:00.000000Z",
        "updated_at": "2026-11-23T07:10:00.000000Z",
        "version": 1,
    }
    if case.failure_code:
        item["failure_code"] = case.failure_code
    if case == story().approved:
        item["awaiting"] = {"over": "approve_above"}
        item["approvals"] = [{"by": "arn:aws:sts::000000000000:assumed-role/Reviewer/ada"}]
    return item


def good_run() -> Seen:
    told, seen = story(), Seen()
    movements = []
    for case in told.refunds:
        seen.refunds[case.refund_id] = refund_item(case)
        seen.entries.append(audit_entry(seen.refunds[case.refund_id]))
        if case.moved_minor:
            movements.append(
                {
                    "reference": case.refund_id,
                    "transaction_id": case.fields["transaction_id"],
                    "amount": case.moved_minor,
                }
            )
    seen.books = {"movements": movements}
    for payment in PAYMENTS:
        moved = sum(each["amount"] for each in movements if each["transaction_id"] == payment.id)
        seen.ledger[payment.id] = {"remaining": payment.captured_minor - moved}
    seen.ledger["#sweep"] = {}
    seen.refused = [
        {
            "Body": case.body,
            "MessageAttributes": {
                "error_code": {"StringValue": case.refused},
                "error_message": {"StringValue": "because"},
            },
        }
        for case in told.cases
        if case.refused
    ]
    seen.backup = digest({"refunds": 9, "ledger": len(PAYMENTS), "audit": 9})
    seen.backup_files = [Stored(file.key, 10) for file in seen.backup.files()]
    seen.verified = BackupReport(digests=1, files=3, items=18 + len(PAYMENTS))
    seen.drill = Drill(
        seen.backup,
        [
            TableDrill(
                export.table,
                f"refunds-drill-{export.table}",
                Differences(export.item_count),
                Differences(export.item_count),
                0.1,
                0.1,
            )
            for export in seen.backup.exports
        ],
    )
    seen.calls = [
        {"at": "2026-11-23T07:10:00.1Z", "operation": "create_refund", "status": None},
        {"at": "2026-11-23T07:10:05.1Z", "operation": "list_refunds", "status": 200},
    ]
    return seen


def digest(counts: dict[str, int]) -> Digest:
    exports = []
    for table, count in counts.items():
        root = f"refund-backups/x/{table}/AWSDynamoDB/1"
        file = DataFile(f"{root}/data/a.json.gz", "0" * 64, 10, count)
        exports.append(Export(table, f"arn:{table}", root, "", count, (), (file,)))
    return Digest(1, "backups", "", "", "refund-backups/x", tuple(exports), "f" * 64, None)


def test_all_holds_for_a_good_run() -> None:
    assert [check for check in checks(story(), good_run()) if not check.holds] == []


def paid_twice(seen: Seen) -> None:
    seen.books["movements"].append(copy.deepcopy(seen.books["movements"][0]))


def lost_entry(seen: Seen) -> None:
    seen.entries.pop()


def changed_entry(seen: Seen) -> None:
    seen.entries[0]["requested_by"] = "somebody else"


def other_status(seen: Seen) -> None:
    seen.refunds["rf_over"]["status"] = "SUCCEEDED"


def other_reason(seen: Seen) -> None:
    seen.refunds["rf_declined"]["failure_code"] = "insufficient_funds"


def changed_body(seen: Seen) -> None:
    seen.refused[0]["Body"] += " "


def money_reserved(seen: Seen) -> None:
    seen.ledger["pay_1004"]["remaining"] = 0


def short_backup(seen: Seen) -> None:
    seen.backup = digest({"refunds": 9, "ledger": len(PAYMENTS), "audit": 8})


def no_backup(seen: Seen) -> None:
    seen.backup = None


def damaged_backup(seen: Seen) -> None:
    assert seen.verified is not None
    seen.verified.add("modified", "refund-backups/x/refunds", "its hash is not the digest's")


def unread_file(seen: Seen) -> None:
    assert seen.verified is not None
    seen.verified.files -= 1


def unverified_backup(seen: Seen) -> None:
    seen.verified = None


def no_drill(seen: Seen) -> None:
    seen.drill, seen.drill_failure = None, "the import ended FAILED"


def half_a_drill(seen: Seen) -> None:
    assert seen.drill is not None
    seen.drill.tables.pop()


def other_row_restored(seen: Seen) -> None:
    assert seen.drill is not None
    seen.drill.tables[0].against_source.different.append("rf_full")


def nobody_approved(seen: Seen) -> None:
    del seen.refunds["rf_large"]["approvals"]


def message_left(seen: Seen) -> None:
    seen.waiting_messages = 1


@pytest.mark.parametrize(
    "spoil",
    [
        paid_twice,
        lost_entry,
        changed_entry,
        other_status,
        other_reason,
        changed_body,
        money_reserved,
        short_backup,
        no_backup,
        damaged_backup,
        unread_file,
        unverified_backup,
        no_drill,
        half_a_drill,
        other_row_restored,
        nobody_approved,
        message_left,
    ],
)
def test_what_is_wrong_is_noticed_and_told(spoil: Callable[[Seen], None]) -> None:
    seen = good_run()
    spoil(seen)
    found = checks(story(), seen)
    assert [check for check in found if not check.holds]
    console = Console(width=100, file=io.StringIO())
    report(console, story(), seen, found)


def test_it_fits_into_100_columns() -> None:
    console = Console(width=100, record=True, file=io.StringIO())
    seen = good_run()
    found = checks(story(), seen)
    by = "refunds-local-ReconcileRefunds-C6D877F8102AE:1"
    widest = {
        "refund_id": "rf_declined",
        "transaction_id": "pay_1008",
        "status": "AWAITING_APPROVAL",
    }
    hashes = {"previous_hash": "a" * 64, "entry_hash": "b" * 64}
    seen.entries.append({**seen.entries[-1], **widest, **hashes, "processed_by": by})
    console.print(opening())
    console.print(progress(story(), seen, 3))
    report(console, story(), seen, found)
    shown = console.export_text()
    assert "Everything is right" in shown
    assert "…" not in shown.replace("reference=…", "")
    assert max(len(line.rstrip()) for line in shown.splitlines()) <= 100
