"""`refunds verify`: is everything that is stored of refunds as it must be?"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from refunds.backup.digest import DIGESTS_PREFIX
from refunds.domain.clock import SystemClock
from refunds_ops.audit import sources
from refunds_ops.audit.findings import Finding
from refunds_ops.audit.latest_backup import BackupReader, digests_are_gone
from refunds_ops.audit.timeline import visible
from refunds_ops.audit.verify import Report, Verification
from refunds_ops.backup.places import Place
from refunds_ops.backup.signatures import PublicKey
from refunds_ops.errors import REFUSED, RefusedError
from refunds_ops.stack.stack import find_stack


@click.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON, for machines.")
@click.option("--gateway", "with_gateway", is_flag=True, help="Also ask the gateway for its list.")
@click.option("--no-backup", is_flag=True, help="Leave the backup out.")
@click.option(
    "--backup",
    "sequence",
    type=click.IntRange(1),
    metavar="NUMBER",
    help="Hold against the backup of this digest instead of the newest: an older one catches what "
    "was rewritten before the newest was made.",
)
@click.option(
    "--backup-folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Backups that were downloaded, instead of the bucket's.",
)
@click.option(
    "--public-key",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="PEM",
    help="Check the backup's signature with this key instead of what KMS says it is.",
)
@click.option("--max-findings", type=click.IntRange(1, 100_000), default=1000, show_default=True)
@click.option(
    "--read-units",
    type=click.IntRange(0),
    default=0,
    metavar="NUMBER",
    help="Read at most so many units a second; 0 is no limit.",
)
@click.pass_obj
def verify(
    stack_name: str | None,
    as_json: bool,
    with_gateway: bool,
    no_backup: bool,
    sequence: int | None,
    backup_folder: Path | None,
    public_key: Path | None,
    max_findings: int,
    read_units: int,
) -> None:
    """Recompute every chain of the audit trail, and hold Refunds, ledger, trail, the newest backup
    and (with --gateway) the gateway against each other.

    Changes nothing. Exit status 0 when all is well, 1 with a list of what is not, 3 when it could
    not be found out.
    """
    stack = find_stack(stack_name)
    backup, damage = None, None
    if not no_backup:
        place, key = sources.place(stack, backup_folder), sources.public_key(stack, public_key)
        backup, damage = _backup(place, sequence, key)
    gateways = list(sources.gateways(stack)) if with_gateway else []
    console = Console(stderr=True)
    with _Bars(console, quiet=as_json and not console.is_terminal) as bars:
        report = Verification(
            sources.tables(stack, read_units),
            clock=SystemClock(),
            progress=bars.over,
            backup=backup,
            failures=sources.failures(stack),
            gateway=sources.gateway_refunds(gateways) if with_gateway else None,
            ask=sources.ask_again(gateways),
            captured=sources.captured_by(gateways) if with_gateway else None,
            max_findings=max_findings,
        ).run()
    if damage is not None:
        report.findings.append(damage)
    elif backup is None and not no_backup:
        report.notes.append("There is no backup yet to hold anything against.")
    if as_json:
        click.echo(json.dumps(report.as_json(), indent=2))
    else:
        tell(report, Console())
    if not report.clean:
        raise click.exceptions.Exit(REFUSED)


def _backup(
    place: Place, sequence: int | None, key: PublicKey | None
) -> tuple[BackupReader | None, Finding | None]:
    """The backup to hold against, or why there is none that ought to be there: the tables are
    verified all the same."""
    try:
        backup = sources.backup(place, sequence, key)
    except RefusedError as exc:
        if sequence is not None:
            raise
        return None, Finding(kind="backup_damaged", what=exc.what)
    if backup is None and digests_are_gone(place, SystemClock().now()):
        what = "backups were made, and their digests are gone"
        return None, Finding(kind="backup_damaged", what=what, where=DIGESTS_PREFIX)
    return backup, None


def tell(report: Report, console: Console) -> None:
    """The report for people."""
    looked = ", ".join(
        f"{count:,} {name.replace('_', ' ')}" for name, count in report.checked.items()
    )
    console.print(f"[dim]Looked at {looked}.[/]", highlight=False)
    for note in report.notes:
        console.print(Text(visible(note), style="dim"))
    if report.clean:
        console.print("[bold green]✓ Everything is as it must be.[/]")
        return
    console.print(findings_table(report.findings))
    more = " and more" if report.more else ""
    console.print(f"[bold red]✗ {len(report.findings)}{more} found.[/]", highlight=False)


def findings_table(findings: Iterable[Finding]) -> Table:
    """What was found, and below the table's lines what to do about each kind of it."""
    table = Table(show_lines=False, pad_edge=False, box=None, padding=(0, 2, 1, 0))
    table.add_column("found", no_wrap=True, style="bold red")
    table.add_column("where", overflow="fold", ratio=2)
    table.add_column("what", overflow="fold", ratio=3)
    told: set[str] = set()
    for finding in findings:
        what = Text(visible(finding.what))
        if finding.kind not in told:
            told.add(finding.kind)
            what.append(f"\n{finding.to_do}", style="dim")
        table.add_row(finding.kind, _where(finding), what)
    return table


def _where(finding: Finding) -> Text:
    where = Text(visible(finding.refund_id or ""), style="bold")
    if finding.version is not None:
        where.append(f" v{finding.version}", style="not bold")
    for part in (finding.transaction_id and f"payment {finding.transaction_id}", finding.where):
        if part:
            where.append("\n" if where.plain else "")
            where.append(visible(part), style="dim not bold")
    return where


class _Bars:
    """A progress bar for each table; nothing where nobody looks."""

    def __init__(self, console: Console, *, quiet: bool) -> None:
        self._progress = Progress(
            TextColumn("{task.description:>9}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=quiet,
        )

    def __enter__(self) -> _Bars:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def over(self, name: str, pages: Iterable[list[Any]], about: int) -> Iterator[list[Any]]:
        """Pages as they come; ``about`` how many items there were some hours ago, or 0."""
        task = self._progress.add_task(name, total=about or None)
        done = 0
        for page in pages:
            yield page
            done += len(page)
            self._progress.update(task, completed=done, total=max(about, done) if about else None)
        self._progress.update(task, completed=done, total=done)
