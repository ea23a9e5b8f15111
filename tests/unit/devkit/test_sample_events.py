"""Every file in events/ is what the code makes, and gives the result that its name says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.support.deployed import Deployed, deployed

from refunds_devkit.sample_events import FOLDER, as_file, sample_events

ALL_DONE: Any = {"batchItemFailures": []}


@pytest.fixture(scope="module")
def functions() -> Iterator[Deployed]:
    with deployed() as there:
        yield there


def event(name: str) -> Any:
    return json.loads((FOLDER / f"{name}.json").read_text())


def refund_of(functions: Deployed, name: str) -> dict[str, Any]:
    request = json.loads(event(name)["Records"][0]["body"])
    found = functions.item("REFUNDS_TABLE", refund_id=request["refund_id"])
    assert found is not None
    return found


def test_the_files_are_what_the_code_makes() -> None:
    """Else: refunds-dev sample-events"""
    wanted = {f"{name}.json": as_file(each) for name, each in sample_events().items()}
    assert {path.name: path.read_text() for path in FOLDER.iterdir()} == wanted


@pytest.mark.parametrize(
    ("name", "status", "amount_minor", "failure_code"),
    [
        ("process-refund-full", "SUCCEEDED", 10_000, None),
        ("process-refund-partial", "SUCCEEDED", 2_500, None),
        ("process-refund-everything", "SUCCEEDED", 5_000, None),
        ("process-refund-all-fields", "SUCCEEDED", 2_500, None),
        ("process-refund-over-balance", "REJECTED", 500, "amount_exceeds_balance"),
        ("process-refund-declined", "FAILED", 2_500, "card_declined"),
        ("process-refund-duplicate-in-batch", "SUCCEEDED", 1_000, None),
    ],
)
def test_a_request_becomes_a_refund(
    functions: Deployed, name: str, status: str, amount_minor: int, failure_code: str | None
) -> None:
    answer = functions.call("ProcessRefund", event(name))
    if name != "process-refund-duplicate-in-batch":  # there the second record may have to wait
        assert answer == ALL_DONE
    refund = refund_of(functions, name)
    assert refund["status"] == {"S": status}
    assert refund["amount_minor"] == {"N": str(amount_minor)}
    assert refund.get("failure_code", {}).get("S") == failure_code


def test_a_malformed_request_is_a_dead_letter(functions: Deployed) -> None:
    sent = event("process-refund-malformed")
    assert functions.call("ProcessRefund", sent) == ALL_DONE
    assert functions.dead_letters()[sent["Records"][0]["body"]] == "invalid_field"


def test_a_request_with_a_card_number_is_a_dead_letter_without_its_digits(
    functions: Deployed,
) -> None:
    sent = event("process-refund-card-number")
    body = sent["Records"][0]["body"]
    assert functions.call("ProcessRefund", sent) == ALL_DONE
    assert functions.dead_letters()[body.replace("4242", "****")] == "card_number"


def test_each_record_of_a_mixed_batch_goes_its_own_way(functions: Deployed) -> None:
    sent = event("process-refund-batch-mixed")
    assert functions.call("ProcessRefund", sent) == ALL_DONE
    assert functions.dead_letters()[sent["Records"][1]["body"]] == "invalid_json"
    statuses = {}
    for number in (1, 3, 4):
        refund = functions.item("REFUNDS_TABLE", refund_id=f"sample_mixed_{number}")
        statuses[number] = refund and refund["status"]["S"]
    assert statuses == {1: "SUCCEEDED", 3: "REJECTED", 4: "SUCCEEDED"}


def test_changes_of_a_refund_become_its_chain_of_entries(functions: Deployed) -> None:
    for name in ("insert", "lease-only", "modify", "remove"):
        assert functions.call("WriteAudit", event(f"write-audit-{name}")) == ALL_DONE
    entries = functions.entries("pay_full", "sample_audited")
    assert [entry["event"]["S"] for entry in entries] == [
        "refund.processing",
        "refund.succeeded",
        "refund.deleted",
    ]
    hashes = [entry["entry_hash"]["S"] for entry in entries]
    assert [entry["previous_hash"].get("S") for entry in entries] == [None, *hashes[:-1]]


@pytest.mark.parametrize("name", ["write-audit-poison", "write-audit-batch-mixed"])
def test_a_change_without_a_new_version_is_kept_in_s3(functions: Deployed, name: str) -> None:
    assert functions.call("WriteAudit", event(name)) == ALL_DONE
    assert any(key.startswith("audit/") for key in functions.keys("FAILURES_BUCKET"))


@pytest.mark.parametrize("name", ["reconcile", "reconcile-scheduled"])
def test_the_reconciler_does_a_whole_run(functions: Deployed, name: str) -> None:
    answer = functions.call("ReconcileRefunds", event(name))
    assert answer["sweep_complete"] is True


@pytest.mark.parametrize("name", ["backup", "backup-scheduled"])
def test_a_backup_is_made(functions: Deployed, name: str) -> None:
    functions.call("BackupRefunds", event(name))
    keys = functions.keys("BACKUP_BUCKET")
    for table in ("refunds", "ledger", "audit"):
        assert any(f"/{table}/AWSDynamoDB/" in key for key in keys), table
