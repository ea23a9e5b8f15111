"""The drill: restores a backup into temporary tables, compares every row, and deletes them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from refunds.backup.digest import Digest, Export
from refunds.backup.table_scan import Source
from refunds.domain.clock import CLOCK_SKEW, Clock, later
from refunds_ops.backup.data_files import items
from refunds_ops.backup.progress import Progress
from refunds_ops.backup.restore import OnProgress, RestoreError, import_table
from refunds_ops.backup.storage import BackupStorage
from refunds_ops.backup.tables import (
    Differences,
    TableReader,
    Wire,
    audited,
    compare,
    everything,
)

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

SCRATCH = "refunds-drill-"
LEFT_OVER = timedelta(days=1)
"""A temporary table of this age was left by a drill that was killed."""
MAX_TABLES = 10_000
REMOVE_SECONDS = 900.0
REMOVE_AGAIN_SECONDS = 5.0
_BUSY = frozenset({"ResourceInUseException", "LimitExceededException"})


@dataclass
class TableDrill:
    """One table's drill: its comparisons with the backup's files and with the live table."""

    table: str
    scratch: str
    against_backup: Differences
    against_source: Differences
    import_seconds: float
    compare_seconds: float

    @property
    def passed(self) -> bool:
        return self.against_backup.none and self.against_source.none


@dataclass
class Drill:
    digest: Digest
    tables: list[TableDrill] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return all(table.passed for table in self.tables)


class Driller:
    def __init__(  # noqa: PLR0913 - its parts, each by keyword
        self,
        *,
        dynamodb: DynamoDBClient,
        storage: BackupStorage,
        reader: TableReader,
        sources: tuple[Source, ...],
        work: Path,
        clock: Clock,
        key_arn: str | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """``work`` is a folder for the progress of imports, which is emptied at the end.
        ``key_arn`` encrypts the tables, as it does the stack's."""
        self._dynamodb = dynamodb
        self._storage = storage
        self._reader = reader
        self._sources = {source.name: source for source in sources}
        self._work = work
        self._clock = clock
        self._key_arn = key_arn
        self._sleep = sleep

    def run(self, digest: Digest, token: str, on_progress: OnProgress) -> Drill:
        """Restore, compare and remove each table. Raises ``RestoreError`` and ``DamagedError``."""
        self._sweep()
        drill = Drill(digest)
        for export in digest.exports:
            scratch = f"{SCRATCH}{digest.sequence}-{token}-{export.table}"
            progress = Progress(self._work / f"{scratch}.json")
            try:
                drill.tables.append(self._drill(digest, export, scratch, progress, on_progress))
            finally:
                progress.end()
                self._remove(scratch)
        return drill

    def _drill(
        self,
        digest: Digest,
        export: Export,
        scratch: str,
        progress: Progress,
        on_progress: OnProgress,
    ) -> TableDrill:
        began = time.monotonic()
        import_table(
            self._dynamodb,
            self._storage,
            export,
            scratch,
            progress,
            on_progress,
            key_arn=self._key_arn,
            sleep=self._sleep,
        )
        imported = time.monotonic()
        source = self._sources[export.table]

        def restored() -> Iterator[Wire]:
            return self._reader.items(Source(export.table, scratch))

        on_progress(f"compare {export.table} with the backup", 0, export.item_count)
        against_backup = compare(export.table, lambda: items(self._storage, export), restored)
        on_progress(f"compare {export.table} with the source", 0, export.item_count)
        against_source = compare(
            export.table,
            restored,
            lambda: self._reader.items(source),
            view=audited if export.table == "refunds" else everything,
            since=_written_since(export.table, digest.start_time),
        )
        return TableDrill(
            export.table,
            scratch,
            against_backup,
            against_source,
            imported - began,
            time.monotonic() - imported,
        )

    def _sweep(self) -> None:
        """Delete the tables that killed drills left."""
        pages = self._dynamodb.get_paginator("list_tables").paginate(
            PaginationConfig={"MaxItems": MAX_TABLES}
        )
        for table in [name for page in pages for name in page["TableNames"]]:
            if not table.startswith(SCRATCH):
                continue
            try:
                made = self._dynamodb.describe_table(TableName=table)["Table"]["CreationDateTime"]
            except self._dynamodb.exceptions.ResourceNotFoundException:
                continue
            if made < self._clock.now() - LEFT_OVER:
                self._remove(table)

    def _remove(self, table: str) -> None:
        """Remove a table once its import has ended: until then DynamoDB refuses.

        Raises ``RestoreError`` that names a table that stays.
        """
        waited = 0.0
        while True:
            try:
                self._dynamodb.delete_table(TableName=table)
                return
            except self._dynamodb.exceptions.ResourceNotFoundException:
                return  # the import did not get so far
            except ClientError as exc:
                busy = exc.response["Error"]["Code"] in _BUSY
                if not busy or waited >= REMOVE_SECONDS:
                    raise RestoreError(f"the table {table} is left; delete it yourself") from exc
            self._sleep(REMOVE_AGAIN_SECONDS)
            waited += REMOVE_AGAIN_SECONDS


def _written_since(table: str, start: str) -> Callable[[Wire], bool]:
    """Whether a row of the live table may have been written after the run began."""
    if table == "ledger":
        return lambda item: True  # ledger rows don't say when they were written
    written = "updated_at" if table == "refunds" else "recorded_at"
    since = later(start, -CLOCK_SKEW)
    return lambda item: item.get(written, {}).get("S", "") >= since
