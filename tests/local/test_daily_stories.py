"""Stories of docs/daily.md that need functions, mappings and backups: their recipes, word for word,
on the local stack. tests/unit/ops/test_daily_work.py has the others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.local.flow import Flow
from tests.support.daily_stories import STORIES, filled_in

from refunds_ops.stack.stack import Stack

COMMAND_SECONDS = 300


@dataclass(frozen=True)
class Ran:
    status: int
    out: str
    err: str


class Commands:
    """Runs a story's commands one by one, in their order."""

    def __init__(self, stack: Stack, folder: Path, story: int) -> None:
        self._environment = {**os.environ, **stack.outputs, **stack.settings}
        self._folder = folder
        self._left = [*STORIES[story]]

    def run(self, *begins: str, **placeholders: str) -> Ran:
        """The next command, which must begin with these words."""
        arguments = self._left.pop(0)
        assert tuple(arguments[: len(begins)]) == begins
        done = subprocess.run(
            [Path(sys.executable).parent / "refunds", *filled_in(arguments, placeholders)],
            cwd=self._folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
        )
        assert "Traceback" not in done.stderr
        assert done.returncode in (0, 1), done.stderr
        return Ran(done.returncode, done.stdout, done.stderr)

    def end(self) -> None:
        assert self._left == []


def test_5_an_outage(flow: Flow, tmp_path: Path) -> None:
    story = Commands(flow.stack, tmp_path, 5)
    assert "flow" in story.run("status").out
    try:
        assert story.run("pause").status == 0
        body = flow.request(flow.payment(), 100)
        flow.send(body)
    finally:
        resumed = story.run("resume")
    assert resumed.status == 0
    flow.refund(body, "SUCCEEDED")
    story.end()


def test_10_a_restore(flow: Flow, tmp_path: Path) -> None:
    body = flow.request(flow.payment(), 100)
    flow.send(body)
    refund = flow.refund(body, "SUCCEEDED")
    flow.entries(refund)
    flow.invoke("BackupRefunds")
    refund_id = refund["refund_id"]
    flow.stack.dynamodb.delete_item(
        TableName=flow.stack["RefundsTableName"], Key={"refund_id": {"S": refund_id}}
    )
    flow.entries(refund | {"version": refund["version"] + 1})  # of the deletion

    story = Commands(flow.stack, tmp_path, 10)
    lost = story.run("verify")
    assert (lost.status, refund_id in lost.out) == (1, True)
    assert story.run("backup", "list").status == 0
    assert story.run("backup", "verify").status == 0
    assert story.run("pause").status == 0
    try:
        assert story.run("backup", "restore").status == 0
        assert refund_id not in story.run("verify").out
    finally:
        story.run("resume")
    story.end()
    restored = flow.refund(body, "SUCCEEDED")
    assert restored["restored"]["why"] == "restore, TICKET-10"
    same = ("transaction_id", "amount_minor", "gateway_refund_id", "created_at", "fingerprint")
    assert [restored[name] for name in same] == [refund[name] for name in same]


def test_13_failed_audit_records(flow: Flow, tmp_path: Path) -> None:
    body = flow.request(flow.payment(), 100)
    flow.send(body)
    refund = flow.refund(body, "SUCCEEDED")
    _, last = flow.entries(refund)
    entry = {name: {"S": last[name]} for name in ("transaction_id", "entry_id")}
    s3, bucket = flow.stack.s3, flow.stack["FailuresBucketName"]
    key = f"audit/2026/01/01/{refund['refund_id']}.json"
    # A record that nobody can read, and an entry that is gone.
    s3.put_object(Bucket=bucket, Key=key, Body=json.dumps({"records": []}).encode())
    flow.stack.dynamodb.delete_item(TableName=flow.stack["AuditTableName"], Key=entry)

    story = Commands(flow.stack, tmp_path, 13)
    found = story.run("verify")
    assert found.status == 1
    assert refund["refund_id"] in found.out
    assert key in found.out
    assert key in story.run("audit", "replay", "--dry-run").out
    assert story.run("audit", "replay").status == 1  # it is left for a person
    assert refund["refund_id"] in story.run("audit", "rebuild").out
    assert story.run("audit", "close", KEY=key).status == 0
    story.end()


def test_16_an_alarm(flow: Flow, tmp_path: Path) -> None:
    story = Commands(flow.stack, tmp_path, 16)
    assert "breaker" in story.run("status").out
    assert "✓ the gateway flair answers and accepts the key" in story.run("doctor").out
    for name in (("open",), ("dead-letters", "list")):
        assert story.run(*name).out
    story.end()
