"""`refunds backup restore`: tables put back, and made ready for the queue."""

from __future__ import annotations

import getpass
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.markup import escape

from refunds.backup.digest import Digest, Export, sha256_hex
from refunds.backup.table_scan import Source
from refunds.domain.clock import SystemClock, rfc3339
from refunds.domain.intake import paused
from refunds.domain.refund import Refund
from refunds.gateways.contract import GatewayUnavailableError
from refunds.gateways.routing import Gateways
from refunds.tables.ledger import LedgerTable
from refunds.tables.refunds import RefundsTable
from refunds.tables.state import Control
from refunds.tables.wire import item_from_wire
from refunds_ops.audit import sources as stack_sources
from refunds_ops.backup.data_files import DamagedError
from refunds_ops.backup.export import TABLES
from refunds_ops.backup.ledger_rebuild import LOOK_UP_FIRST_FOR, LedgerRebuild, open_unfinished
from refunds_ops.backup.places import AbsentError, Place
from refunds_ops.backup.progress import Progress, Rebuilt, Rows
from refunds_ops.backup.restore import (
    RestoreError,
    RowRestore,
    Tell,
    create_table,
    import_table,
    table_identity,
)
from refunds_ops.commands.backup_options import (
    BACKUP_FOLDER,
    JSON,
    KEY,
    MAX_SHOWN,
    NUMBER,
    WORK,
    digest_of,
    keys_of,
    own_tables,
    place_of,
    progress_bar,
    reader_of,
)
from refunds_ops.errors import REFUSED, NotReadyError, RefusedError
from refunds_ops.stack.stack import Stack, find_stack
from refunds_ops.terminal import console, print_json

WRITES_AT_ONCE = 10
"""As many as boto3 keeps connections."""


@click.command()
@BACKUP_FOLDER
@KEY
@NUMBER
@click.option(
    "--suffix",
    default="",
    help="Restore into new tables, the stack's names with this at their end, by ImportTable. "
    "Without it: row by row into the stack's own tables, where newer rows stay.",
)
@click.option(
    "--row-by-row",
    is_flag=True,
    help="With --suffix: put the rows one by one instead, from a folder too.",
)
@click.option(
    "--table",
    "chosen",
    type=click.Choice(TABLES),
    multiple=True,
    help="Only this table, as it was; nothing is rebuilt.",
)
@click.option(
    "--without-gateway",
    is_flag=True,
    help="Leave the ledger as it was in the backup, though the gateway may know of later refunds.",
)
@click.option("--again", is_flag=True, help="Begin anew where an earlier restore was stopped.")
@JSON
@click.pass_obj
def restore(
    stack_name: str | None,
    folder: Path | None,
    key_files: tuple[Path, ...],
    number: int | None,
    suffix: str,
    row_by_row: bool,
    chosen: tuple[str, ...],
    without_gateway: bool,
    again: bool,
    as_json: bool,
) -> None:
    """Restore a backup, whole and verified, and make the tables ready for the queue.

    Requests must not flow meanwhile: refunds pause. Stopped, it goes on where it was when it is
    called again within a day. Exit status 1 when rows differ from the backup's.
    """
    stack = find_stack(stack_name)
    place = place_of(stack, folder)
    by_rows = row_by_row or not suffix
    if folder is not None and not by_rows:
        raise click.UsageError(
            "ImportTable reads from the bucket: with --backup-folder, --suffix needs --row-by-row."
        )
    digest = digest_of(place, number, keys_of(stack, key_files))
    if not suffix:
        _must_not_flow(stack)
    done = _progress(stack, digest, suffix, by_rows, again)
    tables = _Restore(stack, place, digest, suffix, by_rows, done)
    with progress_bar() as tell:
        tables.restore(chosen or TABLES, tell)
        opened = 0 if chosen else tables.make_ready(tell, not without_gateway)
    done.end()
    rebuilt = None if chosen or without_gateway else done.ledger
    told = _told(digest, done, rebuilt, opened) | {"seconds": tables.seconds}
    if as_json:
        print_json(told)
    else:
        _show_restore(told)
    if told["different"] or (rebuilt and any(told["ledger"][finding] for finding in _WHAT)):
        raise click.exceptions.Exit(REFUSED)


def _progress(stack: Stack, digest: Digest, suffix: str, by_rows: bool, again: bool) -> Progress:
    """That of the same restore, if it was stopped within the last day."""
    path, now = WORK / f"restore-{digest.sequence}{suffix}.json", SystemClock().now()
    if again:
        path.unlink(missing_ok=True)
    how = "row by row" if by_rows else "by ImportTable"
    done = Progress.load(
        path,
        f"{sha256_hex(digest.to_bytes())} in {stack['BackupBucketName']}, {how}",
        now,
        lambda table: table_identity(stack.dynamodb, table),
    )
    if done.begun_at != rfc3339(now):
        console(stderr=True).print(
            f"Goes on where the restore begun at {done.begun_at} was stopped; --again begins anew."
        )
    return done


class _Restore:
    """One restore: which backup into which tables."""

    def __init__(
        self,
        stack: Stack,
        place: Place,
        digest: Digest,
        suffix: str,
        by_rows: bool,
        done: Progress,
    ) -> None:
        self._stack = stack
        self._place = place
        self._exports = {export.table: export for export in digest.exports}
        self._key_arn = stack.outputs.get("DataKeyArn")
        self._suffix = suffix
        self._by_rows = by_rows
        self._done = done
        self._clock = SystemClock()
        self.seconds: dict[str, float] = {}
        """How long each step took."""

    @contextmanager
    def _timed(self, step: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.seconds[step] = round(time.monotonic() - began, 1)

    def restore(self, chosen: tuple[str, ...], tell: Tell) -> None:
        """The audit trail first: whoever claims a refund looks there for its highest version."""
        if not self._suffix:
            self._make_ledger()
            if set(chosen) == set(TABLES):
                # At once: whatever stops the restore, no claim is to trust half-restored tables.
                self._look_up_first()
        try:
            for name in ("audit", "refunds", "ledger"):
                if name in chosen:
                    with self._timed(name):
                        self._table(self._exports[name], tell)
        except (RestoreError, DamagedError, AbsentError) as exc:
            raise RefusedError(f"Not restored: {exc}.", "refunds backup verify says more.") from exc

    def _make_ledger(self) -> None:
        """The stack's ledger table if it is lost; a new one must say that requests wait, and how
        they are claimed if they don't."""
        dynamodb, name = self._stack.dynamodb, self._name("ledger")
        if create_table(dynamodb, "ledger", name, self._key_arn):
            who, now = f"operator:{getpass.getuser()}", self._clock.now()
            Control(dynamodb, name).change_intake(
                lambda intake: paused(intake, who, "restore", now)
            )
            self._look_up_first()
            _must_not_flow(self._stack)

    def _table(self, export: Export, tell: Tell) -> None:
        dynamodb, table = self._stack.dynamodb, self._name(export.table)
        if not self._by_rows:
            import_table(
                dynamodb, self._place, export, table, self._done, tell, key_arn=self._key_arn
            )
            self._done.rows[export.table] = Rows({"restored": export.item_count})
            return
        create_table(dynamodb, export.table, table, self._key_arn)
        with ThreadPoolExecutor(WRITES_AT_ONCE) as pool:
            RowRestore(dynamodb, self._place, pool).restore(export, table, self._done, tell)

    def make_ready(self, tell: Tell, with_gateway: bool) -> int:
        """What the tables need before the queue opens (docs/backup.md); how many refunds were
        opened."""
        self._look_up_first()
        if with_gateway:
            with self._timed("rebuild the ledger"):
                self._rebuild_ledger(tell)
        tell("open unfinished refunds", 0, 0)
        table = RefundsTable(self._stack.dynamodb, self._name("refunds"))
        with self._timed("open unfinished refunds"):
            return open_unfinished(table, self._refunds(), self._clock)

    def _look_up_first(self) -> None:
        until = self._clock.now() + LOOK_UP_FIRST_FOR
        Control(self._stack.dynamodb, self._name("ledger")).set_look_up_first(until)

    def _rebuild_ledger(self, tell: Tell) -> None:
        try:
            with ThreadPoolExecutor(WRITES_AT_ONCE) as pool:
                LedgerRebuild(
                    ledger=LedgerTable(self._stack.dynamodb, self._name("ledger")),
                    gateways=_gateways(self._stack),
                    clock=self._clock,
                    pool=pool,
                    sleep=time.sleep,
                ).run(self._refunds(), self._done, tell)
        except GatewayUnavailableError as exc:
            raise NotReadyError(
                f"The gateway did not answer: {exc}.",
                "What is done stays done. Call the same command again when it answers.",
            ) from exc
        except RestoreError as exc:
            raise RefusedError(f"Not restored: {exc}", "refunds status") from exc

    def _refunds(self) -> Iterator[Refund]:
        reader = reader_of(self._stack)
        for wire in reader.items(Source("refunds", self._name("refunds"))):
            yield Refund.from_item(item_from_wire(wire))

    def _name(self, table: str) -> str:
        return own_tables(self._stack)[table] + self._suffix


def _must_not_flow(stack: Stack) -> None:
    """A mapping that is disabled is not enough: the reconciler enables it again, unless a person
    has paused. A stack whose ledger is lost can't say so: ``_make_ledger`` pauses."""
    try:
        held = Control(stack.dynamodb, stack["LedgerTableName"]).intake().paused
        how = "refunds pause --why 'restore'"
    except stack.dynamodb.exceptions.ResourceNotFoundException:
        held = True
        # There is nothing to keep a pause in, and the reconciler can't enable it without either.
        how = (
            "The ledger table is lost: aws lambda update-event-source-mapping --no-enabled --uuid "
            + stack["RefundRequestsMappingId"]
        )
    mapping = stack.functions.get_event_source_mapping(UUID=stack["RefundRequestsMappingId"])
    if not held or mapping["State"] != "Disabled":
        raise RefusedError(
            "Refund requests flow, or may at any time: a restore under them would be overtaken.",
            how,
            "Or restore into new tables beside them: --suffix -restored",
        )


def _told(digest: Digest, done: Progress, rebuilt: Rebuilt | None, opened: int) -> dict[str, Any]:
    return {
        "number": digest.sequence,
        "started_at": digest.start_time,
        "tables": {table: rows.counts for table, rows in done.rows.items()},
        "different": [
            key
            for table, rows in done.rows.items()
            # Ledger rows that differ were put right, whichever of the two was.
            if not (table == "ledger" and rebuilt)
            for key in rows.different
        ],
        "opened": opened,
        "ledger": rebuilt and asdict(rebuilt),
    }


_WHAT = {
    "over_refunded": "more refunded than captured",
    "unknown": "its refunds' gateway doesn't know it",
    "doubled": "two refunds at the gateway under one reference",
}


def _show_restore(told: dict[str, Any]) -> None:
    out = console()
    for table, counts in told["tables"].items():
        shown = ", ".join(f"{count:,} {name}" for name, count in sorted(counts.items()))
        out.print(f"{table}: {shown or 'nothing'}")
    for key in told["different"][:MAX_SHOWN]:
        out.print(f"[red]✗ different[/] {escape(key)}: the row there stayed as it is")
    if len(told["different"]) > MAX_SHOWN:
        out.print(f"… and {len(told['different']) - MAX_SHOWN} more: --json")
    if ledger := told["ledger"]:
        out.print(f"ledger: {ledger['transactions']:,} transactions rebuilt with the gateway")
        for finding, what in _WHAT.items():
            for key in ledger[finding][:MAX_SHOWN]:
                out.print(f"[red]✗ {escape(key)}[/]: {what}")
    out.print(f"{told['opened']:,} unfinished refunds opened for the reconciler")
    steps = ", ".join(f"{step} {seconds:,} s" for step, seconds in told["seconds"].items())
    out.print(f"[dim]{steps}[/]")
    out.print(f"[green]✓[/] backup {told['number']} of {told['started_at']} restored")


def _gateways(stack: Stack) -> Gateways:
    """The gateways that the functions use, and their routes."""
    return stack_sources.gateways(stack)
