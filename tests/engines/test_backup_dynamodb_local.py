"""A round trip of many rows of every attribute type on AWS's own DynamoDB Local: backed up,
verified, restored, and equal in every row.

50,000 rows; a million with FULL=1 (`make backup-proof`).
"""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import pytest
from tests.engines.rows import Timed, entry, every_type, fill, load
from tests.unit.backup.parts import BackedUp, create_tables
from tests.unit.backup.test_backup_run import latest

from refunds.table_scan import ReadLimit, Source
from refunds.times import Deadline
from refunds_ops.backup.places import Bucket
from refunds_ops.backup.reading import items
from refunds_ops.backup.restoring import Progress, RowRestore
from refunds_ops.backup.tables import TableReader, compare

ROWS = 1_000_000 if os.environ.get("FULL") else 50_000
AUDIT_ROWS = ROWS // 10


@pytest.mark.usefixtures("credentials")
def test_a_round_trip_of_every_attribute_type(
    dynamodb_local: str, ministack: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stack = BackedUp.create(ministack, dynamodb_url=dynamodb_local)
    with capsys.disabled():
        timed = Timed()
        fill(dynamodb_local, stack.refunds, every_type, ROWS)
        fill(dynamodb_local, stack.audit, entry, AUDIT_ROWS)
        timed.step("written, to begin with", ROWS + AUDIT_ROWS)
        steps, event = 0, dict[str, Any]()
        while True:
            # A minute for each invocation: the run goes on from step to step.
            steps += 1
            told = stack.make_run().run(event, Deadline.after(stack.clock, 60))
            if "continued" not in told:
                break
            event = json.loads(json.dumps(stack.handed_on.pop()))
        timed.step(f"backed up, {steps} invocations", ROWS + AUDIT_ROWS)
        assert not stack.verify().findings
        timed.step("verified", ROWS + AUDIT_ROWS)
        tables = ("Refunds-restored", "Ledger-restored", "Audit-restored")
        create_tables(stack.dynamodb, *tables)
        place, exports = Bucket(stack.s3, stack.bucket), latest(stack).exports
        # The lines as they are, by no code of ours: DynamoDB Local has no ImportTable.
        load(dynamodb_local, tables[0], items(place, exports[0]))
        timed.step("refunds restored", ROWS)
        with ThreadPoolExecutor(8) as pool:
            rows = RowRestore(stack.dynamodb, place, pool).restore(
                exports[2], tables[2], Progress(tmp_path / "restore.json"), quiet
            )
        assert rows.counts == {"restored": AUDIT_ROWS}
        timed.step("audit restored, row by row", AUDIT_ROWS)
        reader = TableReader(boto3.client("dynamodb", endpoint_url=dynamodb_local), ReadLimit(0))
        for export, source, table in (
            (exports[0], stack.refunds, tables[0]),
            (exports[2], stack.audit, tables[2]),
        ):
            found = compare(
                export.table,
                lambda source=source: reader.items(Source("any", source)),  # type: ignore[misc]
                lambda table=table: reader.items(Source("any", table)),  # type: ignore[misc]
            )
            assert found.none
            assert found.rows == export.item_count
            timed.step(f"{export.table} compared", 2 * export.item_count)
        print(f"\n{timed.show()}")
    assert exports[0].item_count == ROWS


def quiet(what: str, done: int, total: int) -> None:
    """Tells nobody."""
