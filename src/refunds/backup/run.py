"""One backup run: the tables exported to S3, then the signed digest that publishes it.

A run that can't end within one invocation hands its progress on to the next. A run that dies
leaves objects that no digest names: not a backup. docs/backup.md has the layout and the
guarantees.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from refunds.backup.digest import PREFIX, DataFile, Digest, Export, Previous, StoredFile, sha256_hex
from refunds.backup.digest_chain import DigestChain
from refunds.backup.export_format import (
    SUFFIXES,
    DataFileWriter,
    Described,
    ManifestWriter,
    milliseconds,
    new_export_id,
)
from refunds.backup.native_export import NativeExport
from refunds.backup.table_scan import PageReader, Source
from refunds.backup.write_once import put_new, read
from refunds.domain.clock import Clock, Deadline, rfc3339
from refunds.tables.wire import Wire

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_s3 import S3Client

SEGMENTS = 4
ONE_SEGMENT_ITEMS = 10_000
"""Smaller tables are scanned in one go, into one file."""

HAND_ON_SECONDS = 60.0
"""Kept for ending and uploading a data file for each segment, and for the next invocation."""
MAX_STEPS = 60
"""Invocations of one run: fifteen hours at fifteen minutes each."""
MAX_NAME_TRIES = 60


class BackupIncompleteError(Exception):
    """The run ended before all was stored; what it stored is not a backup."""


@dataclass
class Segment:
    """How far a parallel scan's segment is: the last key that is in an uploaded file."""

    number: int
    last_key: Wire | None = None
    done: bool = False


@dataclass
class TableProgress:
    """One table's export: what is stored of it."""

    source: str
    table_arn: str
    table_id: str | None
    export_id: str
    root: str
    started_at: str
    """As ``milliseconds`` writes it."""
    plain_size: int = 0
    segments: list[Segment] = field(default_factory=list)
    files: list[DataFile] = field(default_factory=list)
    listed: list[dict[str, Any]] = field(default_factory=list)
    """The files' lines in the manifest."""
    manifests: list[StoredFile] = field(default_factory=list)
    native_arn: str | None = None
    finished: bool = False


@dataclass
class RunProgress:
    """A run between two invocations, kept beside its claims."""

    name: str
    """``YYYYMMDDTHHMMSSZ``"""
    started_at: str
    step: int = 0
    tables: list[TableProgress] = field(default_factory=list)

    @property
    def prefix(self) -> str:
        day = f"{self.name[:4]}/{self.name[4:6]}/{self.name[6:8]}"
        return f"{PREFIX}/{day}/{self.name}"

    @property
    def claim_key(self) -> str:
        return f"{PREFIX}/runs/{self.name}/{self.step:04d}.json"

    @property
    def progress_key(self) -> str:
        return f"{PREFIX}/runs/{self.name}/{self.step:04d}-progress.json"

    def to_bytes(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> RunProgress:
        told = json.loads(content)
        tables = [
            TableProgress(
                **table
                | {
                    "segments": [Segment(**each) for each in table["segments"]],
                    "files": [DataFile(**each) for each in table["files"]],
                    "manifests": [StoredFile(**each) for each in table["manifests"]],
                }
            )
            for table in told["tables"]
        ]
        return cls(**told | {"tables": tables})


class BackupRun:
    def __init__(
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
        hand_on: Callable[[dict[str, Any]], None],
        compression: str = "gzip",
        native_above_bytes: int = 0,
    ) -> None:
        """``hand_on`` invokes the function again, asynchronously, with the event it is given.

        ``native_above_bytes``: from this table size on, Refunds is exported by DynamoDB itself;
        0 is never.
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
        self._hand_on = hand_on
        self._compression = compression
        self._native_above_bytes = native_above_bytes
        self._manifests = ManifestWriter(s3, bucket)

    def run(self, event: dict[str, Any], deadline: Deadline) -> dict[str, Any]:
        """A whole run, or the next step of the one that the event continues.

        Returns what was published, or ``continued`` when the rest is left to the next step.
        Raises ``BackupIncompleteError`` and whatever AWS raises: nothing is published then.
        """
        # What a step needs at its end, but never most of what it has.
        until = deadline.within(
            deadline.left_seconds(),
            reserve_seconds=min(HAND_ON_SECONDS, deadline.left_seconds() / 3),
        )
        run = self._resumed(event) or self._begin()
        if not self._store_tables(run, until):
            return self._continue_later(run)
        return _told(self._publish(run))

    def _begin(self) -> RunProgress:
        """A new run under a name, the second it starts in, that no other run has."""
        started = self._clock.now()
        for seconds in range(MAX_NAME_TRIES):
            name = f"{started + timedelta(seconds=seconds):%Y%m%dT%H%M%SZ}"
            run = RunProgress(name, rfc3339(started))
            if self._claim(run):
                return run
        raise BackupIncompleteError(f"{MAX_NAME_TRIES} other runs have begun within a minute")

    def _resumed(self, event: dict[str, Any]) -> RunProgress | None:
        """The run that the event continues; None for any other event.

        Also None when the step has been begun before: Lambda delivers an event again after a
        crash, and sometimes without one. What the first try stored is not known, so the run it
        belongs to can't go on; a new one can.
        """
        kept = event.get("continue", {})
        if "key" not in kept:  # in the event itself, an older version had it all
            return None
        content = read(self._s3, self._bucket, kept["key"])
        if content is None or sha256_hex(content) != kept["sha256"]:
            raise BackupIncompleteError(f"{kept['key']} is not the progress that was kept there")
        run = RunProgress.from_bytes(content)
        return run if self._claim(run) else None

    def _claim(self, run: RunProgress) -> bool:
        return put_new(
            self._s3,
            self._bucket,
            run.claim_key,
            json.dumps({"began_at": rfc3339(self._clock.now()), "by": self._new_token()}).encode(),
        )

    def _store_tables(self, run: RunProgress, until: Deadline) -> bool:
        """Whether all tables are stored; False when the time was up first."""
        for place, source in enumerate(self._tables):
            if place == len(run.tables):
                run.tables.append(self._start(run, source))
            table = run.tables[place]
            if table.native_arn or table.finished:
                continue
            self._scan(table, source, until)
            if not all(segment.done for segment in table.segments):
                return False
            self._finish_scan(table, run)
        # DynamoDB's own export ran meanwhile; it shows the table as of its start.
        return all(self._follow(table, until) for table in run.tables if not table.finished)

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
        # Both numbers are up to six hours old: good enough to choose how to read.
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
                    self._store_file(table, source, segment, until, failed, lock)
            except BaseException:
                failed.set()
                raise

        with ThreadPoolExecutor(len(table.segments)) as pool:
            for result in [pool.submit(read_segment, each) for each in table.segments]:
                result.result()

    def _store_file(
        self,
        table: TableProgress,
        source: Source,
        segment: Segment,
        until: Deadline,
        failed: threading.Event,
        lock: threading.Lock,
    ) -> None:
        """Read on from the segment's place, as far as one data file or the time goes."""
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
        stored, listed = file.upload(self._s3, self._bucket, f"{table.root}/data/{name}")
        with lock:
            table.files.append(stored)
            table.listed.append(listed)
            table.plain_size += file.plain_size

    def _finish_scan(self, table: TableProgress, run: RunProgress) -> None:
        if not table.files:
            # ImportTable refuses a prefix without any object.
            with self._new_file(table.source) as empty:
                self._upload(table, empty, threading.Lock())
        described = Described(
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
        table.manifests += self._manifests.finish(described, table.listed)
        table.listed.clear()
        table.finished = True

    def _follow(self, table: TableProgress, until: Deadline) -> bool:
        """Whether DynamoDB's export has ended and all its files are read and hashed."""
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
        """The progress first, which no event is large enough for; then the event that names it."""
        run.step += 1
        if run.step >= MAX_STEPS:
            raise BackupIncompleteError(f"not done after {MAX_STEPS} invocations")
        content = run.to_bytes()
        if not put_new(self._s3, self._bucket, run.progress_key, content):
            raise BackupIncompleteError(f"{run.progress_key} is there already")
        self._hand_on({"continue": {"key": run.progress_key, "sha256": sha256_hex(content)}})
        return {
            "continued": True,
            "bucket": self._bucket,
            "prefix": run.prefix,
            "step": run.step,
            "items_so_far": sum(file.item_count for table in run.tables for file in table.files),
        }

    def _publish(self, run: RunProgress) -> Digest:
        exports = tuple(
            Export(
                table=table.source,
                table_arn=table.table_arn,
                root=table.root,
                export_time=table.started_at,
                item_count=sum(file.item_count for file in table.files),
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


def _told(digest: Digest) -> dict[str, Any]:
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
