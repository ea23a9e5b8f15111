"""`refunds backup restore`: tables put back, and made ready for the queue."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape

from refunds.control import Control
from refunds.digests import Digest, Export
from refunds.dynamo import item_from_wire
from refunds.gateway import GatewayUnavailableError
from refunds.ledger_table import LedgerTable
from refunds.refund import Refund
from refunds.refunds_table import RefundsTable
from refunds.routing import Gateways
from refunds.settings import GatewaySettings
from refunds.switching import RUNNING
from refunds.table_scan import Source
from refunds.times import SystemClock
from refunds_ops.audit import sources as stack_sources
from refunds_ops.backup.options import (
    FROM,
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
from refunds_ops.backup.places import AbsentError, Place
from refunds_ops.backup.reading import DamagedError
from refunds_ops.backup.rebuilding import LOOK_UP_FIRST_FOR, LedgerRebuild, Rebuilt, open_unfinished
from refunds_ops.backup.restoring import (
    Progress,
    RestoreError,
    RowRestore,
    Rows,
    Tell,
    create_table,
    import_table,
)
from refunds_ops.backup.writing import TABLES
from refunds_ops.errors import REFUSED, NotReadyError, RefusedError
from refunds_ops.stack import Stack, find_stack

WRITES_AT_ONCE = 10
"""As many as boto3 keeps connections."""


@click.command()
@FROM
@KEY
@NUMBER
@click.option(
    "--suffix",
    default="",
    help="Restore into new tables, the stack's names with this at their end, by ImportTable. "
    "Without it: row by row into the stack's own tables, where newer rows stay.",
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
@JSON
@click.pass_obj
def restore(
    stack_name: str | None,
    folder: Path | None,
    key_files: tuple[Path, ...],
    number: int | None,
    suffix: str,
    chosen: tuple[str, ...],
    without_gateway: bool,
    as_json: bool,
) -> None:
    """Restore a backup, whole and verified, and make the tables ready for the queue.

    Requests must not flow meanwhile: refunds pause. Stopped, it goes on where it was when it is
    called again. Exit status 1 when rows differ from the backup's.
    """
    stack = find_stack(stack_name)
    place = place_of(stack, folder)
    digest = digest_of(place, number, keys_of(stack, key_files))
    if not suffix:
        _must_not_flow(stack)
    elif folder is not None:
        raise click.UsageError("ImportTable reads from the bucket: --suffix goes without --from.")
    done = Progress.load(WORK / f"restore-{digest.sequence}{suffix}.json")
    tables = _Restore(stack, place, digest, suffix, done)
    with progress_bar() as tell:
        rows = tables.restore(chosen or TABLES, tell)
        rebuilt, opened = (None, 0) if chosen else tables.make_ready(tell, not without_gateway)
    done.end()
    different = [key for each in rows.values() for key in each.different]
    told = {
        "number": digest.sequence,
        "started_at": digest.start_time,
        "tables": {name: dict(each.counts) for name, each in rows.items()},
        "different": different,
        "opened": opened,
        "ledger": rebuilt and asdict(rebuilt),
    }
    if as_json:
        click.echo(json.dumps(told, indent=2))
    else:
        _show_restore(told)
    if different or (rebuilt and (rebuilt.over_refunded or rebuilt.unknown)):
        raise click.exceptions.Exit(REFUSED)


class _Restore:
    """One restore: which backup into which tables."""

    def __init__(
        self, stack: Stack, place: Place, digest: Digest, suffix: str, done: Progress
    ) -> None:
        self._stack = stack
        self._place = place
        self._exports = {export.table: export for export in digest.exports}
        self._bucket = stack["BackupBucketName"]
        self._key_arn = stack.outputs.get("DataKeyArn")
        self._suffix = suffix
        self._done = done
        self._clock = SystemClock()

    def restore(self, chosen: tuple[str, ...], tell: Tell) -> dict[str, Rows]:
        """The audit trail first: whoever claims a refund looks there for its highest version."""
        if not self._suffix and set(chosen) == set(TABLES):
            # At once: whatever stops the restore, no claim is to trust half-restored tables.
            create_table(self._stack.dynamodb, "ledger", self._name("ledger"), self._key_arn)
            self._look_up_first()
        try:
            return {
                name: self._table(self._exports[name], tell)
                for name in ("audit", "refunds", "ledger")
                if name in chosen
            }
        except (RestoreError, DamagedError, AbsentError) as exc:
            raise RefusedError(f"Not restored: {exc}.", "refunds backup verify says more.") from exc

    def _table(self, export: Export, tell: Tell) -> Rows:
        dynamodb, table = self._stack.dynamodb, self._name(export.table)
        if self._suffix:
            import_table(
                dynamodb, self._bucket, export, table, self._done, tell, key_arn=self._key_arn
            )
            rows = Rows()
            rows.counts["restored"] = export.item_count
            return rows
        create_table(dynamodb, export.table, table, self._key_arn)
        with ThreadPoolExecutor(WRITES_AT_ONCE) as pool:
            return RowRestore(dynamodb, self._place, pool).restore(export, table, self._done, tell)

    def make_ready(self, tell: Tell, with_gateway: bool) -> tuple[Rebuilt | None, int]:
        """What the tables need before the queue opens; see docs/backup.md."""
        dynamodb = self._stack.dynamodb
        self._look_up_first()
        rebuilt = self._rebuild_ledger(tell) if with_gateway else None
        tell("open unfinished refunds", 0, 0)
        table = RefundsTable(dynamodb, self._name("refunds"))
        return rebuilt, open_unfinished(table, self._refunds(), self._clock)

    def _look_up_first(self) -> None:
        until = self._clock.now() + LOOK_UP_FIRST_FOR
        Control(self._stack.dynamodb, self._name("ledger")).set_look_up_first(until)

    def _rebuild_ledger(self, tell: Tell) -> Rebuilt:
        gateways = _gateways(self._stack)
        try:
            with ThreadPoolExecutor(WRITES_AT_ONCE) as pool:
                return LedgerRebuild(
                    ledger=LedgerTable(self._stack.dynamodb, self._name("ledger")),
                    gateway_of=gateways.for_new,
                    clock=self._clock,
                    pool=pool,
                    sleep=time.sleep,
                ).run(self._refunds(), self._done, tell)
        except GatewayUnavailableError as exc:
            raise NotReadyError(
                f"The gateway did not answer: {exc}.",
                "What is done stays done. Call the same command again when it answers.",
            ) from exc

    def _refunds(self) -> Iterator[Refund]:
        reader = reader_of(self._stack)
        for wire in reader.items(Source("refunds", self._name("refunds"))):
            yield Refund.from_item(item_from_wire(wire))

    def _name(self, table: str) -> str:
        return own_tables(self._stack)[table] + self._suffix


def _must_not_flow(stack: Stack) -> None:
    mapping = stack.functions.get_event_source_mapping(UUID=stack["RefundRequestsMappingId"])
    if mapping["State"] in RUNNING:
        raise RefusedError(
            "Refund requests flow: a restore under them would be overtaken.",
            "refunds pause --why 'restore'",
            "Or restore into new tables beside them: --suffix -restored",
        )


def _show_restore(told: dict[str, Any]) -> None:
    console = Console(highlight=False, soft_wrap=True)
    for table, counts in told["tables"].items():
        shown = ", ".join(f"{count:,} {name}" for name, count in sorted(counts.items()))
        console.print(f"{table}: {shown or 'nothing'}")
    for key in told["different"][:MAX_SHOWN]:
        console.print(f"[red]✗ different[/] {escape(key)}: the row there stayed as it is")
    if len(told["different"]) > MAX_SHOWN:
        console.print(f"… and {len(told['different']) - MAX_SHOWN} more: --json")
    if ledger := told["ledger"]:
        console.print(f"ledger: {ledger['transactions']:,} transactions rebuilt with the gateway")
        for name in ("over_refunded", "unknown"):
            for key in ledger[name][:MAX_SHOWN]:
                what = "more refunded than captured" if name == "over_refunded" else "unknown there"
                console.print(f"[red]✗ {escape(key)}[/]: {what}")
    console.print(f"{told['opened']:,} unfinished refunds opened for the reconciler")
    console.print(f"[green]✓[/] backup {told['number']} of {told['started_at']} restored")


def _gateways(stack: Stack) -> Gateways:
    """The gateways that the functions use, and their routes."""
    configured = stack_sources.gateways(stack)  # with the functions' environment
    return Gateways(configured, GatewaySettings.from_environment().routes)
