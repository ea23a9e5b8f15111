"""A drill restores the newest backup, compares, and leaves nothing behind."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from tests.support.backup_parts import BackedUp, latest, ledger_row, refund
from tests.support.builders import FakeClock
from tests.support.moto_stack import create_tables
from tests.support.restored_tables import NUMBERS, all_items, quiet, reader

from refunds.backup.table_scan import sources
from refunds.domain.clock import rfc3339
from refunds_ops.backup.data_files import DamagedError
from refunds_ops.backup.drill import Driller
from refunds_ops.backup.restore import RestoreError
from refunds_ops.backup.storage import Bucket
from refunds_ops.backup.tables import KEYS


def drill(stack: BackedUp, tmp_path: Path, sleep: Callable[[float], None] = time.sleep) -> Any:
    return Driller(
        dynamodb=stack.dynamodb,
        storage=Bucket(stack.s3, stack.bucket),
        reader=reader(),
        sources=sources(stack.refunds, stack.ledger, stack.audit),
        work=tmp_path,
        clock=stack.clock,
        key_arn="arn:of-the-data-key",
        sleep=sleep,
    ).run(latest(stack), f"t{next(NUMBERS)}", quiet)


def scratch_tables(stack: BackedUp) -> list[str]:
    return [name for name in all_tables(stack) if name.startswith("refunds-drill-")]


def all_tables(stack: BackedUp) -> list[str]:
    pages = stack.dynamodb.get_paginator("list_tables").paginate()
    return [name for page in pages for name in page["TableNames"]]


def test_a_drill_of_an_unchanged_stack_passes_and_leaves_nothing(
    backed_up: BackedUp, tmp_path: Path
) -> None:
    found = drill(backed_up, tmp_path)
    assert found.passed
    assert [table.against_backup.rows for table in found.tables] == [8, 8, 8]
    assert [table.against_source.since for table in found.tables] == [0, 0, 0]
    assert not scratch_tables(backed_up)
    assert not list(tmp_path.iterdir())


def test_a_drill_allows_for_what_was_written_since(backed_up: BackedUp, tmp_path: Path) -> None:
    later = rfc3339(backed_up.clock.now())
    backed_up.add(refund(50, updated_at=later))
    backed_up.put(backed_up.refunds, refund(1, version=2, updated_at=later).item())
    backed_up.put(backed_up.refunds, refund(2, open_shard="1", check_at=later).item())
    backed_up.put(backed_up.ledger, ledger_row([refund(1)], captured=5))
    found = drill(backed_up, tmp_path)
    assert found.passed
    assert [table.against_source.since for table in found.tables] == [2, 2, 1]


@pytest.mark.parametrize("table", ["refunds", "audit"])
def test_a_drill_notices_a_row_changed_behind_our_backs(
    backed_up: BackedUp, tmp_path: Path, table: str
) -> None:
    name = getattr(backed_up, table)
    changed = next(all_items(name))
    changed["user_id"] = {"S": "somebody else"}
    backed_up.dynamodb.put_item(TableName=name, Item=changed)
    found = drill(backed_up, tmp_path)
    assert not found.passed
    (differing,) = [each for each in found.tables if not each.passed]
    assert differing.table == table
    assert len(differing.against_source.different) == 1


@pytest.mark.parametrize("table", ["refunds", "ledger", "audit"])
def test_a_drill_notices_a_row_that_is_gone(
    backed_up: BackedUp, tmp_path: Path, table: str
) -> None:
    name = getattr(backed_up, table)
    gone = next(all_items(name))
    key = {part: gone[part] for part in KEYS[table]}
    backed_up.dynamodb.delete_item(TableName=name, Key=key)
    found = drill(backed_up, tmp_path)
    (differing,) = [each for each in found.tables if not each.passed]
    assert len(differing.against_source.unexpected + differing.against_source.lacking) == 1


def test_a_drill_that_fails_removes_its_tables_too(
    backed_up: BackedUp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        assert scratch_tables(backed_up)
        raise DamagedError("not what it was")

    monkeypatch.setattr("refunds_ops.backup.drill.compare", broken)
    with pytest.raises(DamagedError):
        drill(backed_up, tmp_path)
    assert not scratch_tables(backed_up)
    assert not list(tmp_path.iterdir())


class Importing:
    """DynamoDB refuses to remove a table for as long as it is imported into."""

    def __init__(self, stack: BackedUp, seconds: float) -> None:
        self.left = seconds
        events = stack.dynamodb.meta.events
        events.register("before-call.dynamodb.DescribeImport", self.interrupt)
        events.register("before-call.dynamodb.DeleteTable", self.refuse)

    def interrupt(self, **_: Any) -> None:
        raise KeyboardInterrupt

    def refuse(self, **_: Any) -> None:
        if self.left > 0:
            raise ClientError({"Error": {"Code": "ResourceInUseException"}}, "DeleteTable")

    def sleep(self, seconds: float) -> None:
        self.left -= seconds


def test_a_drill_that_is_interrupted_removes_its_table_when_its_import_has_ended(
    backed_up: BackedUp, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        drill(backed_up, tmp_path, Importing(backed_up, 300).sleep)
    assert not scratch_tables(backed_up)


def test_a_table_that_can_not_be_removed_is_named(backed_up: BackedUp, tmp_path: Path) -> None:
    with pytest.raises(RestoreError, match=r"refunds-drill-1-.*-refunds is left"):
        drill(backed_up, tmp_path, Importing(backed_up, 1e9).sleep)
    assert not list(tmp_path.iterdir())


def test_a_drill_removes_what_killed_ones_left(backed_up: BackedUp, tmp_path: Path) -> None:
    create_tables(
        backed_up.dynamodb, "refunds-drill-1-old-refunds", "refunds-drill-of-others", "others"
    )
    drill(backed_up, tmp_path)
    assert "refunds-drill-of-others" in scratch_tables(backed_up)  # theirs may be on
    backed_up.clock = FakeClock(backed_up.clock.now() + timedelta(days=1, minutes=1))
    drill(backed_up, tmp_path)
    assert not scratch_tables(backed_up)
    assert "others" in all_tables(backed_up)


def test_a_drills_tables_are_encrypted_as_the_stacks_are(
    backed_up: BackedUp, tmp_path: Path
) -> None:
    keys: list[str] = []
    backed_up.dynamodb.meta.events.register(
        "provide-client-params.dynamodb.ImportTable",
        lambda params, **_: keys.append(
            params["TableCreationParameters"]["SSESpecification"]["KMSMasterKeyId"]
        ),
    )
    drill(backed_up, tmp_path)
    assert keys == ["arn:of-the-data-key"] * 3
