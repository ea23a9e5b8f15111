"""`refunds backup`: backups made, listed, verified, restored, rehearsed and read."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import click
from rich.markup import escape

from refunds.backup.digest import Digest, DigestError, digest_key
from refunds_ops.backup.data_files import DamagedError
from refunds_ops.backup.export import FORMATS, TABLES, write
from refunds_ops.backup.storage import AbsentError, BackupStorage, backup_storage
from refunds_ops.backup.verification import BackupReport, BackupVerification, load, published
from refunds_ops.commands.backup_options import (
    BACKUP_FOLDER,
    KEY,
    NUMBER,
    digest_of,
    keys_of,
    progress_bar,
    stack_of,
)
from refunds_ops.commands.drill import drill
from refunds_ops.commands.restore import restore
from refunds_ops.errors import REFUSED, NotReadyError, RefusedError
from refunds_ops.json_output import json_option
from refunds_ops.layout import Column, print_table
from refunds_ops.lazy import CommandGroup
from refunds_ops.stack.stack import Stack, find_stack
from refunds_ops.terminal import console, print_json, print_json_lines, print_line, print_note

WAIT_SECONDS = 16 * 3600.0
POLL_SECONDS = 2.0


SUMMARY_FIELDS = {
    "number": "of the digest",
    "started_at": "RFC 3339, UTC",
    "published_at": "RFC 3339, UTC",
    "prefix": "of its objects in the bucket",
    "bucket": "",
    "items": "rows by table",
    "bytes": "of all data files",
    "data": "prefix of the data files by table",
}


@click.group(cls=CommandGroup)
def backup() -> None:
    """Make, verify, restore and read backups."""


backup.add_command(restore)
backup.add_command(drill)


# --- Making and listing ---------------------------------------------------------------------------


@backup.command("run")
@json_option(SUMMARY_FIELDS)
@click.pass_obj
def run_(stack_name: str | None, as_json: bool) -> None:
    """Make a backup now, and wait until it is published."""
    stack = find_stack(stack_name)
    with progress_bar() as on_progress:
        on_progress("back up", 0, 0)
        summary = _invoke(stack)
        deadline = time.monotonic() + WAIT_SECONDS
        storage, prefix = backup_storage(stack, None), summary["prefix"]
        while (digest := _published_since(storage, prefix)) is None:
            if time.monotonic() > deadline:
                raise NotReadyError(f"{prefix} is still not published.", "See the function's log.")
            on_progress(f"continues in another invocation: {prefix}", 0, 0)
            time.sleep(POLL_SECONDS)
    if as_json:
        print_json(_summary(digest))
    else:
        _print_digests([digest])


def _invoke(stack: Stack) -> dict[str, Any]:
    answer = stack.functions.invoke(FunctionName=stack["BackupRefundsFunctionName"], Payload=b"{}")
    summary: dict[str, Any] = json.loads(answer["Payload"].read() or b"{}")
    if answer.get("FunctionError"):
        raise RefusedError(
            f"The backup failed: {summary.get('errorType', 'no reason given')}.",
            "Nothing was published. The function's log says where it happened.",
        )
    return summary


def _published_since(storage: BackupStorage, prefix: str) -> Digest | None:
    """The digest of the run, or of one that began later. Prefixes are in the order of time."""
    digests = _readable(storage, published(storage)[-20:], [])
    return next((digest for digest in digests if digest.backup_prefix >= prefix), None)


@backup.command("list")
@BACKUP_FOLDER
@click.option(
    "--limit",
    type=click.IntRange(1, 10_000),
    default=20,
    show_default=True,
    help="At most this many.",
)
@json_option(SUMMARY_FIELDS, lines=True)
@click.pass_obj
def list_(stack_name: str | None, folder: Path | None, limit: int, as_json: bool) -> None:
    """List the newest published backups and what each holds."""
    storage = backup_storage(stack_of(stack_name, folder), folder)
    numbers = list(reversed(published(storage)))[:limit]
    if not numbers:
        print_note("There is no backup yet. Make one: refunds backup run")
    damaged: list[str] = []
    digests = list(_readable(storage, numbers, damaged))
    if as_json:
        print_json_lines(_summary(digest) for digest in digests)
    elif digests:
        _print_digests(digests)
    if damaged:
        raise RefusedError(f"Damaged: {', '.join(damaged)}.", "refunds backup verify says more.")


def _readable(storage: BackupStorage, numbers: list[int], damaged: list[str]) -> Iterator[Digest]:
    for number in numbers:
        try:
            yield load(storage, number).digest
        except DigestError:
            damaged.append(digest_key(number))


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


def _print_digests(digests: list[Digest]) -> None:
    columns = [
        Column("number", right=True),
        Column("begun (UTC)"),
        *(Column(name, right=True) for name in (*TABLES, "bytes")),
        Column("where"),
    ]
    rows = []
    for digest in digests:
        summary = _summary(digest)
        rows.append(
            (
                str(digest.sequence),
                digest.start_time[:19].replace("T", " "),
                *(f"{summary['items'].get(name, 0):,}" for name in TABLES),
                f"{summary['bytes']:,}",
                digest.backup_prefix,
            )
        )
    print_table(columns, rows)


@backup.command("public-key")
@click.pass_obj
def public_key(stack_name: str | None) -> None:
    """Print the signing key's public half in PEM. Keep a copy of it outside of the account."""
    print_line(keys_of(find_stack(stack_name), ())[0].pem.decode().rstrip("\n"))


# --- Verifying ------------------------------------------------------------------------------------


@backup.command("verify")
@BACKUP_FOLDER
@KEY
@click.option("--latest", is_flag=True, help="Only the newest backup's files; the whole chain.")
@click.option(
    "--since",
    type=click.DateTime(["%Y-%m-%d"]),
    metavar="YYYY-MM-DD",
    help="Only files of backups from that day on; the whole chain.",
)
@click.option(
    "--at-least",
    type=click.IntRange(min=0),
    default=0,
    help="The highest number known to be published: reveals a chain whose end was cut off.",
)
@json_option(
    {
        "findings": "for each: kind, key and what",
        "notes": "",
        "digests": "checked",
        "files": "checked",
        "items": "checked",
    }
)
@click.pass_obj
def verify_(  # noqa: PLR0913 - click passes the options
    stack_name: str | None,
    *,
    folder: Path | None,
    key_files: tuple[Path, ...],
    latest: bool,
    since: datetime | None,
    at_least: int,
    as_json: bool,
) -> None:
    """Verify that no backup is missing or changed.

    Works offline with --backup-folder and --public-key. Exit status 1 with findings.
    """
    stack = stack_of(stack_name, folder if key_files else None)
    storage = backup_storage(stack, folder)
    newest = (published(storage) or [0])[-1]
    first_day = f"{since:%Y-%m-%d}" if since else ""
    with progress_bar() as on_progress:
        report = BackupVerification(
            storage, keys_of(stack, key_files), on_progress=on_progress
        ).run(
            at_least=at_least,
            data_of=lambda digest: (
                digest.start_time >= first_day and (not latest or digest.sequence == newest)
            ),
        )
    if not report.findings and not report.files:
        raise RefusedError(
            "There is nothing to verify: the options choose no backup."
            if report.digests
            else "There is nothing to verify: there is no backup.",
            "refunds backup list",
        )
    if as_json:
        print_json(asdict(report))
    else:
        _show_report(report)
    if report.findings:
        raise click.exceptions.Exit(REFUSED)


def _show_report(report: BackupReport) -> None:
    out = console()
    for finding in report.findings:
        out.print(f"[red]✗ {finding.kind}[/] {escape(finding.key)}: {escape(finding.what)}")
    for note in report.notes:
        out.print(f"[dim]· {escape(note)}[/]")
    checked = f"{report.digests:,} digests, {report.files:,} files, {report.items:,} items checked"
    if report.findings:
        out.print(f"[red]✗ {len(report.findings)} findings[/]; {checked}")
    else:
        out.print(f"[green]✓ whole[/]: {checked}")


# --- Reading --------------------------------------------------------------------------------------


TABLE = click.option(
    "--table",
    type=click.Choice(TABLES),
    default="refunds",
    show_default=True,
    help="Which table.",
)


@backup.command("cat")
@BACKUP_FOLDER
@NUMBER
@TABLE
@click.pass_obj
def cat(stack_name: str | None, folder: Path | None, number: int | None, table: str) -> None:
    """Print a backup's rows as plain JSON, one per line."""
    storage = backup_storage(stack_of(stack_name, folder), folder)
    _write(storage, number, table, "jsonl", None)


@backup.command("export")
@BACKUP_FOLDER
@NUMBER
@TABLE
@click.option(
    "--format",
    "format_",
    type=click.Choice(FORMATS),
    default="csv",
    show_default=True,
    help="Of the file.",
)
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path, allow_dash=True))
@click.pass_obj
def export_(  # noqa: PLR0913 - click passes the options
    stack_name: str | None,
    *,
    folder: Path | None,
    number: int | None,
    table: str,
    format_: str,
    file: Path,
) -> None:
    """Write a backup's rows to FILE as CSV, JSON lines or Parquet; - is standard output."""
    storage = backup_storage(stack_of(stack_name, folder), folder)
    to_stdout = str(file) == "-"
    if to_stdout and format_ == "parquet":
        raise click.UsageError("Parquet needs a file: it is not written to standard output.")
    count = _write(storage, number, table, format_, None if to_stdout else file)
    print_note(f"✓ {count:,} rows of {table} {'on standard output' if to_stdout else f'in {file}'}")


def _write(
    storage: BackupStorage, number: int | None, table: str, format_: str, file: Path | None
) -> int:
    digest = digest_of(storage, number, None)
    (found,) = [export for export in digest.exports if export.table == table]
    try:
        return write(storage, found, format_, file)
    except (DamagedError, AbsentError) as exc:
        raise RefusedError(f"{exc}", "refunds backup verify says more.") from exc
    except BrokenPipeError:  # the reader has what it wanted
        raise
    except OSError as exc:
        raise NotReadyError(f"{file or 'stdout'} can't be written: {exc.strerror}.") from exc
