"""A round trip of many rows of every attribute type on engines that are not ours: backed up,
verified, restored, and equal in every row.

5,000 rows on dynoxide, 50,000 on dynalite; a million there with FULL=1 (`make backup-proof`).
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
from tests.support.backup_parts import BackedUp, latest
from tests.support.moto_stack import create_tables

from refunds.backup.table_scan import ReadLimit, Source
from refunds.domain.clock import Deadline
from refunds_ops.backup.data_files import items
from refunds_ops.backup.progress import Progress
from refunds_ops.backup.restore import RowRestore
from refunds_ops.backup.storage import Bucket
from refunds_ops.backup.tables import TableReader, compare

ROWS = {"dynoxide": 5_000, "dynalite": 1_000_000 if os.environ.get("FULL") else 50_000}


@pytest.mark.usefixtures("credentials")
@pytest.mark.parametrize("engine", ROWS)
def test_a_round_trip_of_every_attribute_type(
    engine: str,
    request: pytest.FixtureRequest,
    ministack: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    url, rows = request.getfixturevalue(engine), ROWS[engine]
    audit_rows = rows // 10
    stack = BackedUp.create(ministack, dynamodb_url=url)
    with capsys.disabled():
        timed = Timed()
        fill(url, stack.refunds, every_type, rows)
        fill(url, stack.audit, entry, audit_rows)
        timed.step("written, to begin with", rows + audit_rows)
        steps, event = 0, dict[str, Any]()
        while True:
            # A minute for each invocation: the run goes on from step to step.
            steps += 1
            told = stack.make_run().run(event, Deadline.after(stack.clock, 60))
            if "continued" not in told:
                break
            event = json.loads(json.dumps(stack.continuations.pop()))
        timed.step(f"backed up, {steps} invocations", rows + audit_rows)
        assert not stack.verify().findings
        timed.step("verified", rows + audit_rows)
        tables = ("Refunds-restored", "Ledger-restored", "Audit-restored")
        create_tables(stack.dynamodb, *tables)
        storage, exports = Bucket(stack.s3, stack.bucket), latest(stack).exports
        # The lines as they are, by no code of ours.
        load(url, tables[0], items(storage, exports[0]))
        timed.step("refunds restored", rows)
        with ThreadPoolExecutor(8) as pool:
            progress = Progress(tmp_path / "restore.json")
            RowRestore(stack.dynamodb, storage, pool).restore(
                exports[2], tables[2], progress, quiet
            )
        assert progress.rows["audit"].counts == {"restored": audit_rows}
        timed.step("audit restored, row by row", audit_rows)
        reader = TableReader(boto3.client("dynamodb", endpoint_url=url), ReadLimit(0))
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
        print(f"\n{engine}\n{timed.show()}")
    assert exports[0].item_count == rows


def quiet(what: str, done: int, total: int) -> None:
    """Tells nobody."""
