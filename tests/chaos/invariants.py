"""Checks the invariants from outside: the gateway's ledger, the tables, and `refunds verify`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.engines.disk import Disk
from tests.support.engines.pollers import InvocationError
from tests.support.engines.stack import EngineStack
from tests.support.evaluated_alarms import alarms_after, lambda_alarms_after, logged_metrics

from refunds.backup.digest import DIGESTS_PREFIX
from refunds.tables.wire import item_from_wire

Row = Mapping[str, Any]
OPEN = ("PROCESSING", "PENDING", "AWAITING_APPROVAL")
BACKUP_SECONDS = 1200
VERIFY_SECONDS = 1800
KEPT_PREFIX = "aws/lambda/"
"""Where Lambda's on-failure destination puts records. Those that are handled move elsewhere."""


def scan(running: EngineStack, output: str) -> list[dict[str, Any]]:
    stack = running.stack
    pages = stack.dynamodb.get_paginator("scan").paginate(
        TableName=stack[output], ConsistentRead=True
    )
    return [item_from_wire(item) for page in pages for item in page["Items"]]


def violations(running: EngineStack, requested: Mapping[str, str], captured: int) -> list[str]:
    """Everything that is wrong at the end. ``requested``: each refund's payment."""
    found = compare(
        requested,
        captured,
        refunds=scan(running, "RefundsTableName"),
        entries=scan(running, "AuditTableName"),
        movements=running.sandbox.movements(),
    )
    return found + _back_up(running) + _verify(running)


def full_disk(running: EngineStack, disk: Disk) -> list[str]:
    """I7 and I9: without room a backup fails, raises its alarm, and publishes nothing."""
    before = _backups(running)
    metrics = {"Errors": 0.0}
    disk.fill()
    try:
        running.functions["BackupRefunds"].invoke({})
    except InvocationError:
        metrics["Errors"] = 1.0
    finally:
        disk.free()
    found = [f"I7 {key} was published on a full disk" for key in _backups(running) - before]
    if "BackupRefundsErrors" not in lambda_alarms_after("BackupRefunds", metrics):
        found.append("I9 BackupRefundsErrors is not on after a backup without room")
    return found


def keep_evidence(running: EngineStack, folder: Path) -> None:
    """What tables, gateway and functions say, for whoever looks into a violation."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(running.log, folder / "functions.log")
    parts: Mapping[str, Sequence[Row]] = {
        "refunds": scan(running, "RefundsTableName"),
        "ledger": scan(running, "LedgerTableName"),
        "audit": scan(running, "AuditTableName"),
        "movements": running.sandbox.movements(),
        "calls": running.sandbox.calls(),
    }
    for name, rows in parts.items():
        lines = (json.dumps(row, default=str) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text("".join(lines))


def _back_up(running: EngineStack) -> list[str]:
    """One whole backup, however many invocations it takes."""
    before = _backups(running)
    try:
        running.functions["BackupRefunds"].invoke({})
    except InvocationError as failure:
        return [f"I7 the last backup failed: {failure}"]
    deadline = time.monotonic() + BACKUP_SECONDS
    while time.monotonic() < deadline:
        if _backups(running) - before:
            return []
        time.sleep(1)
    return ["I7 the last backup was not published"]


def _backups(running: EngineStack) -> set[str]:
    """The keys of the digests: what is in none is no backup."""
    stack = running.stack
    pages = stack.s3.get_paginator("list_objects_v2").paginate(
        Bucket=stack["BackupBucketName"], Prefix=DIGESTS_PREFIX
    )
    return {each["Key"] for page in pages for each in page.get("Contents", [])}


def replay_kept_records(running: EngineStack) -> list[str]:
    """What WriteAudit could not write while its tables failed is kept, and for a person to replay.

    I9: the alarm that says so must be on. Then do what it says.
    """
    stack = running.stack
    kept = stack.s3.list_objects_v2(Bucket=stack["FailuresBucketName"], Prefix=KEPT_PREFIX)
    if not kept["KeyCount"]:
        return []
    found = []
    if "AuditRecordsKept" not in alarms_after(_reconciler_metrics(running)):
        found.append("I9 AuditRecordsKept is not on")
    replayed = _operate(running, "audit", "replay")
    if replayed.returncode:
        found.append(f"I4 audit replay left records: {replayed.stderr[-500:]}")
    return found


def compare(
    requested: Mapping[str, str],
    captured: int,
    *,
    refunds: Sequence[Row],
    entries: Sequence[Row],
    movements: Sequence[Row],
) -> list[str]:
    """What the tables and the gateway's ledger contradict each other in."""
    found: list[str] = []
    moved = Counter(movement["reference"] for movement in movements)
    by_payment: dict[str, int] = defaultdict(int)
    for movement in movements:
        by_payment[movement["transaction_id"]] += movement["amount"]
    found += [f"I1 {name} moved money {times} times" for name, times in moved.items() if times > 1]
    found += [
        f"I2 {payment}: {amount} of {captured} refunded"
        for payment, amount in by_payment.items()
        if amount > captured
    ]
    status = {item["refund_id"]: item["status"] for item in refunds}
    for refund_id in requested:
        if refund_id not in status:
            found.append(f"I3 {refund_id} vanished")
        elif status[refund_id] in OPEN:
            found.append(f"I3 {refund_id} is still {status[refund_id]}")
        elif status[refund_id] == "IN_REVIEW":
            continue  # a person decides
        elif (status[refund_id] == "SUCCEEDED") != (moved[refund_id] > 0):
            found.append(f"I6 {refund_id} is {status[refund_id]}, moved {moved[refund_id]} times")
    written = Counter(entry.get("refund_id") for entry in entries)
    found += [
        f"I4 {item['refund_id']}: {written[item['refund_id']]} entries for {item['version']}"
        for item in refunds
        if written[item["refund_id"]] != item["version"]
    ]
    return found


def unraised_alarms(running: EngineStack) -> list[str]:
    """I9: an alarm is on for what needs a person, and none is on for anything else."""
    metrics = _reconciler_metrics(running)
    in_review = [
        item for item in scan(running, "RefundsTableName") if item["status"] == "IN_REVIEW"
    ]
    return compare_alarms(metrics, in_review=len(in_review))


def _reconciler_metrics(running: EngineStack) -> dict[str, list[float]]:
    """What one run of the reconciler reports."""
    before = running.log.stat().st_size
    running.functions["ReconcileRefunds"].invoke({})
    with running.log.open("rb") as log:
        log.seek(before)
        return logged_metrics(log.read().decode(errors="replace").splitlines())


def compare_alarms(metrics: dict[str, list[float]], in_review: int) -> list[str]:
    """``metrics`` of one whole run of the reconciler when everything has settled."""
    if "ReconcilerRuns" not in metrics:
        return ["I9 the reconciler reported no run"]
    expected = {"RefundsToReview"} if in_review else set()
    on = alarms_after(metrics)
    return [f"I9 {name} is not on" for name in sorted(expected - on)] + [
        f"I9 {name} is on, and nothing is wrong" for name in sorted(on - expected)
    ]


def _verify(running: EngineStack) -> list[str]:
    """The findings of `refunds verify`: hash chains, and tables and backup with each other."""
    done = _operate(running, "verify", "--json")
    if done.returncode == 0:
        return []
    if done.returncode == 1:
        return [f"verify: {json.dumps(each)}" for each in json.loads(done.stdout)["findings"]]
    return [f"verify did not run: {done.stderr[-500:]}"]


def _operate(running: EngineStack, *arguments: str) -> subprocess.CompletedProcess[str]:
    """An operator's command on the running stack."""
    return subprocess.run(
        [sys.executable, "-m", "refunds_ops.cli", *arguments],
        env={**os.environ, **running.stack.outputs},
        capture_output=True,
        text=True,
        timeout=VERIFY_SECONDS,
        check=False,
    )
