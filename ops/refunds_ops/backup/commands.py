"""`refunds backup`: backups made, listed, verified, restored, rehearsed and read."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from refunds.control import Control
from refunds.digests import Digest, DigestError, Export
from refunds.dynamo import item_from_wire
from refunds.gateway import GatewayUnavailableError
from refunds.ledger_table import LedgerTable
from refunds.refund import Refund
from refunds.refunds_table import RefundsTable
from refunds.routing import Gateways
from refunds.settings import GatewaySettings
from refunds.switching import RUNNING
from refunds.table_scan import ReadLimit, Source, sources
from refunds.times import SystemClock
from refunds_ops.audit import sources as stack_sources
from refunds_ops.backup.drilling import Drill, Driller
from refunds_ops.backup.places import AbsentError, Bucket, Folder, Place
from refunds_ops.backup.reading import DamagedError
from refunds_ops.backup.rebuilding import LOOK_UP_FIRST_FOR, LedgerRebuild, Rebuilt, open_unfinished
from refunds_ops.backup.restoring import (
    Progress as Done,
)
from refunds_ops.backup.restoring import (
    RestoreError,
    RowRestore,
    Rows,
    Tell,
    create_table,
    import_table,
)
from refunds_ops.backup.signatures import PublicKey
from refunds_ops.backup.tables import TableReader
from refunds_ops.backup.verifying import Report, Verification, load, published
from refunds_ops.backup.writing import FORMATS, TABLES, write
from refunds_ops.errors import REFUSED, NotReadyError, RefusedError
from refunds_ops.stack import Stack, find_stack

WRITES_AT_ONCE = 10
"""As many as boto3 keeps connections."""
WAIT_SECONDS = 16 * 3600.0
POLL_SECONDS = 2.0
WORK = Path(".local")
MAX_SHOWN = 20

_FROM = click.option(
    "--from",
    "folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A folder with downloaded backups (aws s3 sync) instead of the stack's bucket.",
)
_KEY = click.option(
    "--public-key",
    "key_files",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    multiple=True,
    help="The signing key's public half, in PEM. Asked of KMS when left out.",
)
_NUMBER = click.option(
    "--backup",
    "number",
    type=click.IntRange(min=1),
    help="The backup by its digest's number; the newest when left out.",
)
_JSON = click.option("--json", "as_json", is_flag=True, help="As JSON.")


@click.group()
def backup() -> None:
    """Back refunds, ledger and audit trail up; verify, restore and read backups."""


# --- Making and listing ---------------------------------------------------------------------------


@backup.command("run")
@_JSON
@click.pass_obj
def run_(stack_name: str | None, as_json: bool) -> None:
    """Make a backup now, and wait until it is published."""
    stack = find_stack(stack_name)
    with _progress() as tell:
        tell("back up", 0, 0)
        told = _invoke(stack)
        deadline = time.monotonic() + WAIT_SECONDS
        place, prefix = _place(stack, None), told["prefix"]
        while (digest := _published_as(place, prefix)) is None:
            if time.monotonic() > deadline:
                raise NotReadyError(f"{prefix} is still not published.", "See the function's log.")
            tell(f"goes on in another invocation: {prefix}", 0, 0)
            time.sleep(POLL_SECONDS)
    if as_json:
        click.echo(json.dumps(_summary(digest), indent=2))
    else:
        Console().print(_digests_table([digest]))


def _invoke(stack: Stack) -> dict[str, Any]:
    answer = stack.functions.invoke(FunctionName=stack["BackupRefundsFunctionName"], Payload=b"{}")
    told: dict[str, Any] = json.loads(answer["Payload"].read() or b"{}")
    if answer.get("FunctionError"):
        raise RefusedError(
            f"The backup failed: {told.get('errorType', 'no reason given')}.",
            "Nothing was published. The function's log says where it happened.",
        )
    return told


def _published_as(place: Place, prefix: str) -> Digest | None:
    for sequence in reversed(published(place)[-20:]):
        digest = load(place, sequence).digest
        if digest.backup_prefix == prefix:
            return digest
    return None


@backup.command("list")
@_FROM
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True)
@_JSON
@click.pass_obj
def list_(stack_name: str | None, folder: Path | None, limit: int, as_json: bool) -> None:
    """List the newest published backups and what each holds."""
    place = _place(_stack(stack_name, folder), folder)
    digests = [load(place, each).digest for each in reversed(published(place)[-limit:])]
    if as_json:
        click.echo(json.dumps([_summary(digest) for digest in digests], indent=2))
    elif digests:
        Console().print(_digests_table(digests))
    else:
        raise RefusedError("There is no backup yet.", "Make one: refunds backup run")


def _summary(digest: Digest) -> dict[str, Any]:
    return {
        "number": digest.sequence,
        "started_at": digest.start_time,
        "published_at": digest.end_time,
        "prefix": digest.backup_prefix,
        "bucket": digest.bucket,
        "items": {export.table: export.item_count for export in digest.exports},
        "bytes": sum(file.size for export in digest.exports for file in export.files),
        "data": {export.table: export.data_prefix for export in digest.exports},
    }


def _digests_table(digests: list[Digest]) -> Table:
    table = Table()
    for name in ("number", "begun (UTC)", *TABLES, "bytes"):
        table.add_column(name, justify="left" if name == "begun (UTC)" else "right", no_wrap=True)
    table.add_column("where", overflow="fold", style="dim")
    for digest in digests:
        told = _summary(digest)
        table.add_row(
            str(digest.sequence),
            digest.start_time[:19].replace("T", " "),
            *(f"{told['items'].get(name, 0):,}" for name in TABLES),
            f"{told['bytes']:,}",
            digest.backup_prefix,
        )
    return table


@backup.command("public-key")
@click.pass_obj
def public_key(stack_name: str | None) -> None:
    """Print the signing key's public half in PEM: keep a copy of it outside of the account."""
    click.echo(_keys(find_stack(stack_name), ())[0].pem.decode(), nl=False)


# --- Verifying ------------------------------------------------------------------------------------


@backup.command("verify")
@_FROM
@_KEY
@click.option("--latest", is_flag=True, help="Only the newest backup's files; the whole chain.")
@click.option(
    "--since",
    metavar="YYYY-MM-DD",
    default="",
    help="Only files of backups from that day on; the whole chain.",
)
@click.option(
    "--at-least",
    type=click.IntRange(min=0),
    default=0,
    help="The highest number known to be published: tells a chain that was cut off at its end.",
)
@_JSON
@click.pass_obj
def verify_(
    stack_name: str | None,
    folder: Path | None,
    key_files: tuple[Path, ...],
    latest: bool,
    since: str,
    at_least: int,
    as_json: bool,
) -> None:
    """Verify that no backup is missing or changed.

    Works offline with --from and --public-key. Exit status 1 with findings.
    """
    stack = _stack(stack_name, folder if key_files else None)
    place = _place(stack, folder)
    newest = (published(place) or [0])[-1]
    with _progress() as tell:
        report = Verification(place, _keys(stack, key_files), tell=tell).run(
            at_least=at_least,
            data_of=lambda digest: (
                digest.start_time >= since and (not latest or digest.sequence == newest)
            ),
        )
    if as_json:
        click.echo(json.dumps(asdict(report), indent=2))
    else:
        _show_report(report)
    if report.findings:
        raise click.exceptions.Exit(REFUSED)


def _show_report(report: Report) -> None:
    console = Console(highlight=False, soft_wrap=True)
    for finding in report.findings:
        console.print(f"[red]✗ {finding.kind}[/] {escape(finding.key)}: {escape(finding.what)}")
    for note in report.notes:
        console.print(f"[dim]· {escape(note)}[/]")
    checked = f"{report.digests:,} digests, {report.files:,} files, {report.items:,} items checked"
    if report.findings:
        console.print(f"[red]✗ {len(report.findings)} findings[/]; {checked}")
    else:
        console.print(f"[green]✓ whole[/]: {checked}")


# --- Restoring ------------------------------------------------------------------------------------


@backup.command("restore")
@_FROM
@_KEY
@_NUMBER
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
@_JSON
@click.pass_obj
def restore_(
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
    place = _place(stack, folder)
    digest = _digest(place, number, _keys(stack, key_files))
    if not suffix:
        _must_not_flow(stack)
    elif folder is not None:
        raise click.UsageError("ImportTable reads from the bucket: --suffix goes without --from.")
    done = Done.load(WORK / f"restore-{digest.sequence}{suffix}.json")
    restore = _Restore(stack, place, digest, suffix, done)
    with _progress() as tell:
        rows = restore.tables(chosen or TABLES, tell)
        rebuilt, opened = (None, 0) if chosen else restore.make_ready(tell, not without_gateway)
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

    def __init__(self, stack: Stack, place: Place, digest: Digest, suffix: str, done: Done) -> None:
        self._stack = stack
        self._place = place
        self._exports = {export.table: export for export in digest.exports}
        self._bucket = stack["BackupBucketName"]
        self._key_arn = stack.outputs.get("DataKeyArn")
        self._suffix = suffix
        self._done = done
        self._clock = SystemClock()

    def tables(self, chosen: tuple[str, ...], tell: Tell) -> dict[str, Rows]:
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
        reader = _reader(self._stack)
        for wire in reader.items(Source("refunds", self._name("refunds"))):
            yield Refund.from_item(item_from_wire(wire))

    def _name(self, table: str) -> str:
        return _own_tables(self._stack)[table] + self._suffix


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


# --- The drill ------------------------------------------------------------------------------------


@backup.command("drill")
@_KEY
@_NUMBER
@click.option("--no-metric", is_flag=True, help="Don't tell CloudWatch how it went.")
@_JSON
@click.pass_obj
def drill_(
    stack_name: str | None,
    key_files: tuple[Path, ...],
    number: int | None,
    no_metric: bool,
    as_json: bool,
) -> None:
    """Restore the newest backup into tables of its own, compare, and remove them again.

    Compares every row with the backup and with the live tables. Exit status 1 when it failed. The
    metric BackupDrillFailed raises an alarm.
    """
    stack = find_stack(stack_name)
    began = time.monotonic()
    drill, why = None, ""
    try:
        place = _place(stack, None)
        digest = _digest(place, number, _keys(stack, key_files))
        driller = Driller(
            dynamodb=stack.dynamodb,
            place=place,
            reader=_reader(stack),
            sources=sources(*_own_tables(stack).values()),
            bucket=stack["BackupBucketName"],
            work=WORK,
        )
        with _progress() as tell:
            drill = driller.run(digest, secrets.token_hex(4), tell)
    except (RestoreError, DamagedError, AbsentError, RefusedError) as exc:
        why = str(exc)
    seconds = time.monotonic() - began
    passed = drill is not None and drill.passed
    if not no_metric:
        _tell_cloudwatch(stack, passed, seconds)
    told = _drill_json(drill, passed, seconds, why)
    if as_json:
        click.echo(json.dumps(told, indent=2))
    else:
        _show_drill(told)
    if not passed:
        raise click.exceptions.Exit(REFUSED)


def _drill_json(drill: Drill | None, passed: bool, seconds: float, why: str) -> dict[str, Any]:
    return {
        "passed": passed,
        "why": why,
        "seconds": round(seconds, 1),
        "number": drill and drill.digest.sequence,
        "started_at": drill and drill.digest.start_time,
        "tables": [asdict(table) for table in drill.tables] if drill else [],
    }


def _show_drill(told: dict[str, Any]) -> None:
    console = Console(highlight=False, soft_wrap=True)
    for table in told["tables"]:
        backup_, source = table["against_backup"], table["against_source"]
        console.print(
            f"{table['table']}: {backup_['rows']:,} rows restored in {table['import_seconds']:.1f}"
            f" s, compared in {table['compare_seconds']:.1f} s; {source['since']:,} changed since"
        )
        for against, found in (("the backup", backup_), ("the live table", source)):
            for kind in ("lacking", "unexpected", "different"):
                for key in found[kind][:MAX_SHOWN]:
                    console.print(f"[red]✗ {kind}[/] against {against}: {escape(key)}")
    if told["passed"]:
        console.print(f"[green]✓ drill passed[/]: backup {told['number']}, {told['seconds']} s")
    else:
        console.print(f"[red]✗ drill failed[/] {escape(told['why'])}")


def _tell_cloudwatch(stack: Stack, passed: bool, seconds: float) -> None:
    # The dimension that the functions' own metrics have, which the alarm looks at.
    function = stack.functions.get_function_configuration(
        FunctionName=stack["BackupRefundsFunctionName"]
    )
    service = function["Environment"]["Variables"]["POWERTOOLS_SERVICE_NAME"]
    dimensions = [{"Name": "service", "Value": service}]
    stack.new_client("cloudwatch").put_metric_data(
        Namespace="Refunds",
        MetricData=[
            {
                "MetricName": "BackupDrillFailed",
                "Dimensions": dimensions,
                "Value": int(not passed),
                "Unit": "Count",
            },
            {
                "MetricName": "BackupDrillSeconds",
                "Dimensions": dimensions,
                "Value": seconds,
                "Unit": "Seconds",
            },
        ],
    )


# --- Reading --------------------------------------------------------------------------------------


@backup.command("cat")
@_FROM
@_NUMBER
@click.option("--table", type=click.Choice(TABLES), default="refunds", show_default=True)
@click.pass_obj
def cat(stack_name: str | None, folder: Path | None, number: int | None, table: str) -> None:
    """Print a backup's rows as plain JSON, a line each."""
    place = _place(_stack(stack_name, folder), folder)
    _write(place, number, table, "jsonl", None)


@backup.command("export")
@_FROM
@_NUMBER
@click.option("--table", type=click.Choice(TABLES), default="refunds", show_default=True)
@click.option("--format", "format_", type=click.Choice(FORMATS), default="csv", show_default=True)
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.pass_obj
def export_(
    stack_name: str | None,
    folder: Path | None,
    number: int | None,
    table: str,
    format_: str,
    file: Path,
) -> None:
    """Write a backup's rows to FILE as CSV, JSON lines or Parquet."""
    place = _place(_stack(stack_name, folder), folder)
    count = _write(place, number, table, format_, file)
    Console(highlight=False).print(f"[green]✓[/] {count:,} rows of {table} in {escape(str(file))}")


def _write(place: Place, number: int | None, table: str, format_: str, file: Path | None) -> int:
    digest = _digest(place, number, None)
    (found,) = [export for export in digest.exports if export.table == table]
    try:
        return write(place, found, format_, file)
    except (DamagedError, AbsentError) as exc:
        raise RefusedError(f"{exc}", "refunds backup verify says more.") from exc


# --- What they share ------------------------------------------------------------------------------


def _stack(name: str | None, folder: Path | None) -> Stack:
    """The stack; none is needed where everything is in a folder."""
    return Stack("this folder", {}) if folder else find_stack(name)


def _place(stack: Stack, folder: Path | None) -> Place:
    if folder is None:
        return Bucket(stack.s3, stack["BackupBucketName"])
    try:
        return Folder(folder)
    except NotADirectoryError as exc:
        raise NotReadyError(f"{exc}.", "aws s3 sync s3://BUCKET/refund-backups FOLDER") from exc


def _keys(stack: Stack, files: tuple[Path, ...]) -> list[PublicKey]:
    if files:
        return [stack_sources.read_public_key(file) for file in files]
    stack["BackupSigningKeyArn"]
    key = stack_sources.public_key(stack, None)
    assert key is not None
    return [key]


def _digest(place: Place, number: int | None, keys: list[PublicKey] | None) -> Digest:
    """The backup's digest. With ``keys``: signed by one of them; its files are checked as they are
    read. Raises ``RefusedError``."""
    there = published(place)
    if not there:
        raise RefusedError("There is no backup yet.", "Make one: refunds backup run")
    try:
        stored = load(place, number or there[-1])
    except (AbsentError, DigestError) as exc:
        raise RefusedError(f"There is no backup {number or there[-1]}: {exc}.") from exc
    if keys is not None:
        signature = stored.signature or bytes.fromhex(place.signature(stored.digest.key) or "")
        if not any(key.verifies(stored.content, signature) for key in keys):
            raise RefusedError(
                f"The digest of backup {stored.digest.sequence} is not signed by the key.",
                "refunds backup verify says more.",
            )
    return stored.digest


def _own_tables(stack: Stack) -> dict[str, str]:
    return {
        "refunds": stack["RefundsTableName"],
        "ledger": stack["LedgerTableName"],
        "audit": stack["AuditTableName"],
    }


def _gateways(stack: Stack) -> Gateways:
    """The gateways that the functions use, and their routes."""
    configured = stack_sources.gateways(stack)  # with the functions' environment
    return Gateways(configured, GatewaySettings.from_environment().routes)


def _reader(stack: Stack) -> TableReader:
    return TableReader(stack.new_client("dynamodb"), ReadLimit(0))


@contextmanager
def _progress() -> Iterator[Tell]:
    """A bar on stderr, so that what goes to stdout can go on into a pipe."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        task = progress.add_task("", total=None)

        def tell(what: str, done: int, total: int) -> None:
            progress.update(
                task, description=escape(what[-60:]), completed=done, total=total or None
            )

        yield tell
