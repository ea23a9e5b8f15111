"""One backup run: export the tables to S3, then publish the backup with a signed digest.

A run that needs more than one invocation stores its progress and invokes the function again.
Objects of a run that stops early are in no digest, so they are not a backup. docs/backup.md
describes the layout and the guarantees.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from refunds.backup.digest import Digest, Export, Previous, sha256_hex
from refunds.backup.digest_chain import DigestChain
from refunds.backup.export_format import (
    SUFFIXES,
    DataFileWriter,
    ExportSummary,
    ManifestWriter,
    milliseconds,
    new_export_id,
)
from refunds.backup.native_export import NativeExport
from refunds.backup.run_progress import (
    RUNS_PREFIX,
    RunProgress,
    Segment,
    TableProgress,
    is_progress_key,
)
from refunds.backup.table_scan import PageReader, Source
from refunds.backup.write_once import put_new, read
from refunds.domain.clock import Clock, Deadline, rfc3339

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_s3 import S3Client

SEGMENTS = 4
ONE_SEGMENT_ITEMS = 10_000
"""A smaller table is scanned as one segment, into one file."""

RESERVED_SECONDS = 60.0
"""Reserved at the end of an invocation, to upload a data file for each segment and to continue."""
MAX_STEPS = 60
"""The most invocations of one run: fifteen hours at fifteen minutes each."""
MAX_RUNS_A_DAY = 100
"""Together with ``MAX_STEPS``, limits what a fault or a caller in a loop can cost in a day."""
MAX_NAME_TRIES = 60


class BackupIncompleteError(Exception):
    """The run stopped before everything was stored. What it stored is not a backup."""


class BackupRun:
    def __init__(  # noqa: PLR0913 - its parts, each by keyword
        self,
        *,
        dynamodb: DynamoDBClient,
        s3: S3Client,
        bucket: str,
        key_arn: str | None,
        reader: PageReader,
        native: NativeExport,
        chain: DigestChain,
        tables: tuple[Source, ...],
        clock: Clock,
        new_token: Callable[[], str],
        invoke_again: Callable[[dict[str, Any]], None],
        compression: str = "gzip",
        native_above_bytes: int = 0,
        max_runs_a_day: int = MAX_RUNS_A_DAY,
    ) -> None:
        """``invoke_again`` invokes the function asynchronously with the event it is given.

        From ``native_above_bytes`` on, DynamoDB itself exports Refunds; 0 turns that off.
        """
        self._dynamodb = dynamodb
        self._s3 = s3
        self._bucket = bucket
        self._key_arn = key_arn
        self._reader = reader
        self._native = native
        self._chain = chain
        self._tables = tables
        self._clock = clock
        self._new_token = new_token
        self._invoke_again = invoke_again
        self._compression = compression
        self._native_above_bytes = native_above_bytes
        self._max_runs_a_day = max_runs_a_day
        self._manifests = ManifestWriter(s3, bucket)

    def run(self, event: dict[str, Any], deadline: Deadline) -> dict[str, Any]:
        """Make a whole backup, or continue the run that a ``continue`` event names.

        Returns what was published; ``continued`` when another invocation does the rest;
        ``skipped`` when another invocation has this step already.
        Raises ``BackupIncompleteError`` and whatever AWS raises: then nothing is published.
        """
        # Reserve the time that a step needs at its end, but never most of the step.
        until = deadline.within(
            deadline.left_seconds(),
            reserve_seconds=min(RESERVED_SECONDS, deadline.left_seconds() / 3),
        )
        if "continue" in event:
            run = self._continued_run(event["continue"])
            if not self._claim(run):
                return {"skipped": True, "prefix": run.prefix, "step": run.step}
        else:
            run = self._begin()
        if not self._store_tables(run, until):
            return self._continue_later(run)
        return _summary(self._publish(run))

    def _begin(self) -> RunProgress:
        """A new run, named after the second in which it starts, or the next free one."""
        started = self._clock.now()
        self._check_run_limit(f"{started - timedelta(days=1):%Y%m%dT%H%M%SZ}")
        for seconds in range(MAX_NAME_TRIES):
            name = f"{started + timedelta(seconds=seconds):%Y%m%dT%H%M%SZ}"
            run = RunProgress(name, rfc3339(started))
            if self._claim(run):
                return run
        raise BackupIncompleteError(f"{MAX_NAME_TRIES} other runs began within a minute")

    def _check_run_limit(self, since: str) -> None:
        pages = self._s3.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=RUNS_PREFIX, StartAfter=f"{RUNS_PREFIX}{since}"
        )
        names = {entry["Key"].split("/")[2] for page in pages for entry in page.get("Contents", [])}
        if len(names) >= self._max_runs_a_day:
            raise BackupIncompleteError(
                f"{len(names)} runs began within a day, which is the limit: "
                "find out who starts them before you start another"
            )

    def _continued_run(self, event: Any) -> RunProgress:
        """The run that a ``continue`` event names, checked before anything is done for it.

        Its digest will be signed, so neither the event nor the progress may name other objects.
        """
        if not (isinstance(event, Mapping) and is_progress_key(key := event.get("key"))):
            raise BackupIncompleteError("the event names no progress of a run")
        content = read(self._s3, self._bucket, key)
        if content is None or sha256_hex(content) != event.get("sha256"):
            raise BackupIncompleteError(f"{key} is not the progress that was stored there")
        try:
            run = RunProgress.from_bytes(content)
        except (ValueError, KeyError, TypeError) as exc:
            raise BackupIncompleteError(f"{key} is not the progress of a run") from exc
        keys = [file.key for table in run.tables for file in (*table.files, *table.manifests)] + [
            f"{table.root}/" for table in run.tables
        ]
        if run.progress_key != key or not all(each.startswith(f"{run.prefix}/") for each in keys):
            raise BackupIncompleteError(f"{key} is the progress of another run")
        return run

    def _claim(self, run: RunProgress) -> bool:
        """Take the run's step. False when another invocation has taken it.

        Lambda delivers an event again after a failure, and sometimes without one. It is unknown
        what the first invocation stored, so the run can't be continued. The first invocation either
        succeeded or has raised the alarm, so no new run starts in its place.
        """
        return put_new(
            self._s3,
            self._bucket,
            run.claim_key,
            json.dumps({"began_at": rfc3339(self._clock.now()), "by": self._new_token()}).encode(),
        )

    def _store_tables(self, run: RunProgress, until: Deadline) -> bool:
        """Export all tables. Returns False when the time is up before that."""
        for number, source in enumerate(self._tables):
            if number == len(run.tables):
                run.tables.append(self._start(run, source))
            table = run.tables[number]
            if table.native_arn or table.finished:
                continue
            self._scan(table, source, until)
            if not all(segment.done for segment in table.segments):
                return False
            self._finish_scan(table, run)
        # DynamoDB's own export ran at the same time; it shows the table as of its start.
        return all(self._finish_native(table, until) for table in run.tables if not table.finished)

    def _start(self, run: RunProgress, source: Source) -> TableProgress:
        started = self._clock.now()
        described = self._dynamodb.describe_table(TableName=source.table)["Table"]
        prefix = f"{run.prefix}/{source.name}"
        export_id = new_export_id(started, self._new_token())
        native_arn = None
        if source.name == "refunds" and 0 < self._native_above_bytes <= described.get(
            "TableSizeBytes", 0
        ):
            native_arn = self._native.start(
                described["TableArn"], prefix, f"{run.name}-{self._new_token()}"
            )
            export_id = native_arn.rpartition("/")[2]
        # DynamoDB updates TableSizeBytes and ItemCount every six hours. That is good enough here.
        segments = SEGMENTS if described.get("ItemCount", 0) > ONE_SEGMENT_ITEMS else 1
        table = TableProgress(
            source=source.name,
            table_arn=described["TableArn"],
            table_id=described.get("TableId"),
            export_id=export_id,
            root=f"{prefix}/AWSDynamoDB/{export_id}",
            started_at=milliseconds(started),
            segments=[] if native_arn else [Segment(number) for number in range(segments)],
            native_arn=native_arn,
        )
        if not native_arn:
            table.manifests.append(self._manifests.begin(table.root))
        return table

    def _scan(self, table: TableProgress, source: Source, until: Deadline) -> None:
        failed = threading.Event()
        lock = threading.Lock()

        def read_segment(segment: Segment) -> None:
            try:
                while not (segment.done or until.left_seconds() == 0 or failed.is_set()):
                    self._store_file(table, source, segment, until=until, failed=failed, lock=lock)
            except BaseException:
                failed.set()
                raise

        with ThreadPoolExecutor(len(table.segments)) as pool:
            for result in [pool.submit(read_segment, each) for each in table.segments]:
                result.result()

    def _store_file(  # noqa: PLR0913 - one file's facts
        self,
        table: TableProgress,
        source: Source,
        segment: Segment,
        *,
        until: Deadline,
        failed: threading.Event,
        lock: threading.Lock,
    ) -> None:
        """Read the segment until one data file is full, the segment ends or the time is up."""
        last_key, done = segment.last_key, False
        with self._new_file(source.name) as file:
            while not (done or file.full or until.left_seconds() == 0 or failed.is_set()):
                page = self._reader.read(source, segment.number, len(table.segments), last_key)
                file.write(page.lines, page.count)
                last_key, done = page.last_key, page.last_key is None
            if file.item_count and not failed.is_set():
                self._upload(table, file, lock)
        segment.last_key, segment.done = last_key, done

    def _new_file(self, source_name: str) -> DataFileWriter:
        return DataFileWriter(self._compression, with_merkle_root=source_name == "audit")

    def _upload(self, table: TableProgress, file: DataFileWriter, lock: threading.Lock) -> None:
        name = f"{self._new_token()}{SUFFIXES[self._compression]}"
        stored, manifest_line = file.upload(self._s3, self._bucket, f"{table.root}/data/{name}")
        with lock:
            table.files.append(stored)
            table.manifest_lines.append(manifest_line)
            table.plain_size += file.plain_size

    def _finish_scan(self, table: TableProgress, run: RunProgress) -> None:
        if not table.files:
            # ImportTable refuses a prefix without any object.
            with self._new_file(table.source) as empty:
                self._upload(table, empty, threading.Lock())
        summary = ExportSummary(
            table_arn=table.table_arn,
            table_id=table.table_id,
            export_id=table.export_id,
            root=table.root,
            bucket=self._bucket,
            prefix=f"{run.prefix}/{table.source}",
            key_arn=self._key_arn,
            start_time=table.started_at,
            end_time=milliseconds(self._clock.now()),
            plain_size=table.plain_size,
        )
        table.manifests += self._manifests.finish(summary, table.manifest_lines)
        table.manifest_lines.clear()
        table.finished = True

    def _finish_native(self, table: TableProgress, until: Deadline) -> bool:
        """Wait for DynamoDB's export and hash its files. False when the time is up before that."""
        assert table.native_arn is not None
        if not self._native.wait(table.native_arn, until):
            return False
        manifest = self._native.manifest(table.root)
        for listed in manifest.files[len(table.files) :]:
            if until.left_seconds() == 0:
                return False
            table.files.append(self._native.check(listed))
        table.started_at = manifest.summary["exportTime"]
        table.manifests = list(manifest.stored)
        table.finished = True
        return True

    def _continue_later(self, run: RunProgress) -> dict[str, Any]:
        """Store the progress, which can be larger than an event, and invoke with its key."""
        run.step += 1
        if run.step >= MAX_STEPS:
            raise BackupIncompleteError(f"not finished after {MAX_STEPS} invocations")
        content = run.to_bytes()
        if not put_new(self._s3, self._bucket, run.progress_key, content):
            raise BackupIncompleteError(f"{run.progress_key} exists already")
        self._invoke_again({"continue": {"key": run.progress_key, "sha256": sha256_hex(content)}})
        return {
            "continued": True,
            "bucket": self._bucket,
            "prefix": run.prefix,
            "step": run.step,
            "items_so_far": sum(table.item_count for table in run.tables),
        }

    def _publish(self, run: RunProgress) -> Digest:
        exports = tuple(
            Export(
                table=table.source,
                table_arn=table.table_arn,
                root=table.root,
                export_time=table.started_at,
                item_count=table.item_count,
                manifests=tuple(table.manifests),
                files=tuple(table.files),
            )
            for table in run.tables
        )

        def build(sequence: int, fingerprint: str, previous: Previous | None) -> Digest:
            return Digest(
                sequence=sequence,
                bucket=self._bucket,
                start_time=run.started_at,
                end_time=rfc3339(self._clock.now()),
                backup_prefix=run.prefix,
                exports=exports,
                fingerprint=fingerprint,
                previous=previous,
            )

        return self._chain.publish(build)


def _summary(digest: Digest) -> dict[str, Any]:
    return {
        "bucket": digest.bucket,
        "prefix": digest.backup_prefix,
        "started_at": digest.start_time,
        "finished_at": digest.end_time,
        "tables": {
            export.table: {
                "prefix": export.root,
                "item_count": export.item_count,
                "files": len(export.files),
            }
            for export in digest.exports
        },
        "digest": {
            "sequence": digest.sequence,
            "key": digest.key,
            "sha256": sha256_hex(digest.to_bytes()),
        },
    }
