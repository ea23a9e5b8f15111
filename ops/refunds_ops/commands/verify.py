"""`refunds verify`: compares everything that is stored about refunds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as ProgressBars
from rich.table import Table
from rich.text import Text

from refunds.backup.digest import DIGESTS_PREFIX
from refunds.domain.clock import SystemClock
from refunds_ops.audit import sources
from refunds_ops.audit.findings import Finding
from refunds_ops.audit.latest_backup import BackupReader, why_no_digest
from refunds_ops.audit.side_by_side import MAX_WORKERS
from refunds_ops.audit.verify import Progress, Report, Verification
from refunds_ops.backup.signatures import PublicKey
from refunds_ops.backup.storage import BackupStorage, backup_storage
from refunds_ops.errors import REFUSED, RefusedError
from refunds_ops.json_output import json_option
from refunds_ops.stack.stack import Stack, find_stack
from refunds_ops.terminal import console, print_json, safe_text

MAX_FINDINGS = 1000


@click.command()
@json_option(
    {
        "clean": "whether there are no findings",
        "checked": "how many items of each kind were checked",
        "findings": "kind, what, to_do, and where: refund_id, version, transaction_id, where",
        "more": "whether --max-findings cut the list short",
        "notes": "",
    }
)
@click.option(
    "--gateway", "with_gateway", is_flag=True, help="Also compare with the gateway's list."
)
@click.option("--no-backup", is_flag=True, help="Do not compare with a backup.")
@click.option(
    "--backup",
    "sequence",
    type=click.IntRange(1),
    metavar="NUMBER",
    help="Compare with the backup of this digest.  [default: the newest] An older one shows "
    "what was rewritten before the newest was made.",
)
@click.option(
    "--backup-folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Downloaded backups (aws s3 sync) instead of the stack's bucket.",
)
@click.option(
    "--public-key",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="PEM",
    help="Check the backup's signature with this key instead of the one that KMS returns.",
)
@click.option(
    "--max-findings",
    type=click.IntRange(1, 100_000),
    default=MAX_FINDINGS,
    show_default=True,
    help="Stop after this many.",
)
@click.option(
    "--read-units",
    type=click.IntRange(0),
    default=0,
    metavar="NUMBER",
    help="Read at most this many capacity units per second; 0 sets no limit.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, MAX_WORKERS),
    metavar="NUMBER",
    help="Check with this many processes.  [default: 1, or up to 4 for large tables]",
)
@click.pass_obj
def verify(  # noqa: PLR0913 - click passes the options
    stack_name: str | None,
    *,
    as_json: bool,
    with_gateway: bool,
    no_backup: bool,
    sequence: int | None,
    backup_folder: Path | None,
    public_key: Path | None,
    max_findings: int,
    read_units: int,
    workers: int | None,
) -> None:
    """Check that all stored data about refunds is intact.

    Recomputes every hash of the audit trail, and compares refunds, ledger, audit trail, the newest
    backup and (with --gateway) the gateway with each other. Changes nothing. Exit status 1 with a
    list of findings.
    """
    stack = find_stack(stack_name)
    out = console(stderr=True)
    with _Bars(out, quiet=not out.is_terminal) as bars:
        report = run_verification(
            stack,
            bars.over,
            with_gateway=with_gateway,
            with_backup=not no_backup,
            sequence=sequence,
            backup_folder=backup_folder,
            public_key=public_key,
            max_findings=max_findings,
            read_units=read_units,
            workers=workers,
        )
    if as_json:
        print_json(report.as_json())
    else:
        print_report(report, console())
    if not report.clean:
        raise click.exceptions.Exit(REFUSED)


def run_verification(  # noqa: PLR0913 - the command's options
    stack: Stack,
    progress: Progress,
    *,
    with_gateway: bool = False,
    with_backup: bool = True,
    sequence: int | None = None,
    backup_folder: Path | None = None,
    public_key: Path | None = None,
    max_findings: int = MAX_FINDINGS,
    read_units: int = 0,
    workers: int | None = None,
) -> Report:
    """Compare everything that is stored. ``progress`` shows how far it is. ``workers`` None: chosen
    by the size of the tables and the machine."""
    backup, damage = None, None
    if with_backup:
        storage, key = backup_storage(stack, backup_folder), sources.public_key(stack, public_key)
        backup, damage = _backup(storage, sequence, key)
    gateways = list(sources.gateways(stack)) if with_gateway else []
    accounts = sources.configured_accounts(stack)
    report = Verification(
        sources.tables(stack, read_units),
        clock=SystemClock(),
        progress=progress,
        backup=backup,
        failures=sources.failures(stack),
        gateway=sources.gateway_refunds(gateways) if with_gateway else None,
        ask=sources.ask_again(gateways),
        captured=sources.captured_by(gateways) if with_gateway else None,
        accounts=accounts,
        max_findings=max_findings,
        workers=workers,
    ).run()
    if damage is not None:
        report.findings.append(damage)
    elif backup is None and with_backup:
        report.notes.append("There is no backup yet to compare with.")
    return report


def _backup(
    storage: BackupStorage, sequence: int | None, key: PublicKey | None
) -> tuple[BackupReader | None, Finding | None]:
    """The backup to compare with, or a finding when it is damaged or gone. The tables are verified
    in either case."""
    try:
        backup = sources.backup(storage, sequence, key)
    except RefusedError as exc:
        if sequence is not None:
            raise
        return None, Finding(kind="backup_damaged", what=exc.what)
    if backup is None and (what := why_no_digest(storage, SystemClock().now())):
        return None, Finding(kind="backup_damaged", what=what, where=DIGESTS_PREFIX)
    return backup, None


def print_report(report: Report, out: Console) -> None:
    """The report for people."""
    looked = ", ".join(
        f"{count:,} {name.replace('_', ' ')}" for name, count in report.checked.items()
    )
    out.print(f"[dim]Looked at {looked}.[/]", highlight=False)
    for note in report.notes:
        out.print(Text(safe_text(note), style="dim"))
    if report.clean:
        out.print("[bold green]✓ Everything is intact.[/]")
        return
    out.print(findings_table(report.findings))
    more = " and more" if report.more else ""
    out.print(f"[bold red]✗ {len(report.findings)}{more} found.[/]", highlight=False)


def findings_table(findings: Iterable[Finding]) -> Table:
    """The findings, and below the first of each kind what to do about it."""
    table = Table(show_lines=False, pad_edge=False, box=None, padding=(0, 2, 1, 0))
    table.add_column("found", no_wrap=True, style="bold red")
    table.add_column("where", overflow="fold", ratio=2)
    table.add_column("what", overflow="fold", ratio=3)
    explained: set[str] = set()
    for finding in findings:
        what = Text(safe_text(finding.what))
        if finding.kind not in explained:
            explained.add(finding.kind)
            what.append(f"\n{finding.to_do}", style="dim")
        table.add_row(finding.kind, _where(finding), what)
    return table


def _where(finding: Finding) -> Text:
    where = Text(safe_text(finding.refund_id or ""), style="bold")
    if finding.version is not None:
        where.append(f" v{finding.version}", style="not bold")
    for part in (finding.transaction_id and f"payment {finding.transaction_id}", finding.where):
        if part:
            where.append("\n" if where.plain else "")
            where.append(safe_text(part), style="dim not bold")
    return where


class _Bars:
    """A progress bar for each table, on a terminal."""

    def __init__(self, out: Console, *, quiet: bool) -> None:
        self._progress = ProgressBars(
            TextColumn("{task.description:>9}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=out,
            transient=True,
            disable=quiet,
        )

    def __enter__(self) -> _Bars:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def over(self, name: str, pages: Iterable[Any], about: int) -> Iterator[Any]:
        """Counts the items of the pages. ``about``: how many items the backup had, or 0 when
        unknown."""
        task = self._progress.add_task(name, total=about or None)
        done = 0
        for page in pages:
            yield page
            done += len(page)
            self._progress.update(task, completed=done, total=max(about, done) if about else None)
        self._progress.update(task, completed=done, total=done)
