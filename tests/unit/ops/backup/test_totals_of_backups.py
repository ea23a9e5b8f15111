"""`refunds totals --from-backup`: what a backup says, of the time that was asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.support.backup_commands import Run, download
from tests.support.backup_parts import BackedUp, refund
from tests.support.builders import NOW

from refunds.domain.clock import rfc3339
from refunds.domain.refund import Status
from refunds_ops import cli
from refunds_ops.terminal import run_command

ALL = ("--since", "2020-01-01", "--until", "2030-01-01")


@pytest.fixture
def totals(refunds: Run, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: str) -> tuple[int, str, str]:
        line = ["totals", *arguments, "--json"]
        status = run_command(lambda: cli.cli(line, standalone_mode=False, prog_name="refunds"))
        shown = capsys.readouterr()
        return status, shown.out, shown.err

    return run


def sums(out: str) -> dict[str, Any]:
    rows = [json.loads(line) for line in out.splitlines()]
    return {f"{row['currency']} {row['status']}": row["amount_minor"] for row in rows}


def test_totals_of_the_newest_backup_are_its_own_and_say_as_of_when(
    stack: BackedUp, totals: Run
) -> None:
    stack.add(refund(1, amount_minor=1000), refund(2, amount_minor=5, currency="JPY"))
    stack.add(refund(3, amount_minor=70, status=Status.FAILED))
    stack.back_up()
    stack.add(refund(4, amount_minor=99_999))  # later than the backup

    status, out, err = totals("--from-backup", *ALL)
    assert status == 0
    assert sums(out) == {"EUR paid out": 1000, "EUR failed": 70, "JPY paid out": 5}
    assert "from backup 1" in err


def test_an_older_backup_is_chosen_by_its_number(stack: BackedUp, totals: Run) -> None:
    stack.add(refund(1, amount_minor=1000))
    stack.back_up()
    stack.add(refund(2, amount_minor=500))
    stack.back_up()

    assert sums(totals("--from-backup", *ALL)[1]) == {"EUR paid out": 1500}
    assert sums(totals("--backup", "1", *ALL)[1]) == {"EUR paid out": 1000}
    status, _, err = totals("--backup", "9", *ALL)
    assert (status, "9" in err) == (1, True)


def test_only_refunds_of_the_time_span_count(stack: BackedUp, totals: Run) -> None:
    stack.add(refund(1, amount_minor=1000), refund(2, created_at="2020-02-02T00:00:00.000000Z"))
    stack.back_up()

    found = sums(totals("--from-backup", "--day", "2020-02-02")[1])
    assert found == {"EUR paid out": 102}
    assert sums(totals("--from-backup", "--since", rfc3339(NOW), *ALL[2:])[1]) == {
        "EUR paid out": 1000
    }


def test_a_downloaded_backup_needs_no_stack(
    stack: BackedUp, totals: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack.add(refund(1, amount_minor=1000))
    stack.back_up()
    download(stack, tmp_path / "kept")
    for name in ("RefundsTableName", "RefundQueueUrl", "BackupBucketName"):
        monkeypatch.delenv(name)

    status, out, err = totals("--backup-folder", str(tmp_path / "kept"), *ALL)
    assert status == 0, err
    assert sums(out) == {"EUR paid out": 1000}


def test_a_damaged_backup_gives_no_sum(stack: BackedUp, totals: Run) -> None:
    stack.add(refund(1))
    stack.back_up()
    key = next(key for key in stack.listed() if "/refunds/" in key and "/data/" in key)
    stack.s3.put_object(Bucket=stack.bucket, Key=key, Body=b"something else")

    status, out, err = totals("--from-backup", *ALL)
    assert status == 1
    assert out == ""
    assert err


def test_without_a_backup_it_says_how_to_make_one(totals: Run) -> None:
    status, _, err = totals("--from-backup", *ALL)
    assert (status, "refunds backup run" in err) == (1, True)
