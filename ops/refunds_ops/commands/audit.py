"""`refunds audit …`: the trail shown, repaired where it can be, and given to others."""

from __future__ import annotations

import getpass
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import click
from botocore.exceptions import ClientError
from rich.console import Console
from rich.table import Table
from rich.text import Text

from refunds.audit.outcome_events import OutcomeBus, PublishError
from refunds.audit.writer import NOT_AN_IMAGE
from refunds.domain.clock import SystemClock, rfc3339
from refunds.domain.redaction import describe
from refunds.domain.refund import Item
from refunds.tables.wire import item_from_wire
from refunds_ops.audit import sources
from refunds_ops.audit.failures import CLOSED
from refunds_ops.audit.rebuild import (
    Key,
    Outcome,
    Rebuilder,
    backed_up,
    candidates_in,
    lost,
    payments_in,
)
from refunds_ops.audit.receipts import (
    MAX_RECEIPT_BYTES,
    Checked,
    check_receipt,
    make_receipt,
    missing_in,
    receipt_problems,
    versions_told,
)
from refunds_ops.audit.replay import Replayed, Replayer
from refunds_ops.audit.rows import EntryRow, entry_row
from refunds_ops.audit.tables import Read, Tables
from refunds_ops.audit.timeline import broken_links, payment_story, refund_story, visible
from refunds_ops.audit.verify import Verification
from refunds_ops.backup.data_files import DamagedError
from refunds_ops.backup.places import AbsentError
from refunds_ops.errors import REFUSED, RefusedError
from refunds_ops.stack.stack import Stack, find_stack

_KEY_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
_ABSENT = ("NoSuchKey", "404")
_ID = re.compile(r"[A-Za-z0-9_-]{1,128}", re.ASCII)


@click.group()
def audit() -> None:
    """Show the audit trail, make lost entries again, and prove what became of a refund."""


# --- Showing --------------------------------------------------------------------------------------


@audit.command()
@click.argument("refund_id", required=False)
@click.option("--transaction", "transaction_id", metavar="ID", help="All refunds of a payment.")
@click.option("--json", "as_json", is_flag=True, help="The entries as JSON.")
@click.pass_obj
def show(
    stack_name: str | None, refund_id: str | None, transaction_id: str | None, as_json: bool
) -> None:
    """Show what became of a refund, or of all refunds of a payment: who, what, when, outcome.

    Every entry's hash is recomputed. Exit status 1 when one doesn't follow from the one before.
    """
    if (refund_id is None) == (transaction_id is None):
        raise click.UsageError("Give a refund's id or --transaction ID.")
    stack = find_stack(stack_name)
    tables = sources.tables(stack)
    entries = _entries(tables, refund_id, transaction_id)
    if as_json:
        click.echo(json.dumps(entries, indent=2))
        return
    console = Console()
    try:
        if transaction_id is not None:
            ledger, held = tables.ledger_of(transaction_id) or (None, {})
            console.print(payment_story(transaction_id, entries, ledger, held))
        else:
            console.print(refund_story(entries))
        broken = any(broken_links(story) for story in _by_refund(entries))
    except NOT_AN_IMAGE as exc:
        raise RefusedError("An entry can't be read.", "refunds verify tells which.") from exc
    if broken:  # it is told where it is; here it only makes the exit status
        console.print("[bold red]✗ refunds verify tells what is wrong.[/]")
        raise click.exceptions.Exit(REFUSED)


def _entries(tables: Tables, refund_id: str | None, transaction_id: str | None) -> list[Item]:
    """The entries of a refund or of a payment's refunds. Raises ``RefusedError``."""
    if not all(_ID.fullmatch(each) for each in (refund_id, transaction_id) if each is not None):
        raise RefusedError("That is no id: 1 to 128 of A-Z, a-z, 0-9, _ and -.")
    if transaction_id is None:
        assert refund_id is not None
        transaction_id = _payment_of(tables, refund_id)
    try:
        entries = [
            item_from_wire(wire)
            for wire in tables.entries_of(transaction_id, refund_id)
            if isinstance(entry_row(wire), EntryRow)
        ]
    except ValueError as exc:
        raise RefusedError("An entry can't be read.", "refunds verify tells which.") from exc
    if not entries:
        raise RefusedError(
            f"The trail has nothing of {refund_id or transaction_id}.",
            "Just requested? The trail is a second or two behind.",
            "refunds verify tells whether something is missing.",
        )
    return entries


def _payment_of(tables: Tables, refund_id: str) -> str:
    refund = tables.refund(refund_id)
    transaction_id = (refund or {}).get("transaction_id", {}).get("S")
    if transaction_id is None:
        raise RefusedError(
            f"There is no refund {refund_id}.",
            "Was it removed? Its trail is still there: --transaction PAYMENT",
        )
    return str(transaction_id)


def _by_refund(entries: list[Item]) -> Iterator[list[Item]]:
    for refund_id in dict.fromkeys(entry["refund_id"] for entry in entries):
        yield [entry for entry in entries if entry["refund_id"] == refund_id]


# --- Repairing ------------------------------------------------------------------------------------


@audit.command()
@click.argument("refund_ids", nargs=-1)
@click.option("--all", "everywhere", is_flag=True, help="Look for lost entries in the whole trail.")
@click.option("--no-backup", is_flag=True, help="Don't ask the newest backup for its word.")
@click.option("--public-key", type=_KEY_FILE, metavar="PEM", help="Instead of what KMS says it is.")
@click.option("--dry-run", is_flag=True, help="Say what could be made again; store nothing.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_obj
def rebuild(
    stack_name: str | None,
    refund_ids: tuple[str, ...],
    everywhere: bool,
    no_backup: bool,
    public_key: Path | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Make lost audit entries again, identical in hash, and mark them as rebuilt.

    From the stream records that failed (kept in S3), or from the refund itself for its latest
    version; only what the chain proves and the newest backup doesn't contradict. Publishes nothing.
    Exit status 1 when a gap is left.
    """
    if bool(refund_ids) == everywhere:
        raise click.UsageError("Give refund ids, or --all.")
    stack = find_stack(stack_name)
    verification = Verification(
        sources.tables(stack),
        clock=SystemClock(),
        progress=lambda _, pages, __: iter(pages),
        failures=sources.failures(stack),
        max_findings=sys.maxsize - 1,  # every refund that lost an entry
    )
    places: dict[str, set[str]] = {refund_id: set() for refund_id in refund_ids}
    if everywhere:
        places = lost(verification.run().findings)
    seen = candidates_in(sources.failures(stack), set(places))
    reads: Iterable[Read] = (
        verification.settled(refund_id, payments | payments_in(seen, refund_id))
        for refund_id, payments in places.items()
    )
    if not everywhere:
        reads = list(reads)
        _must_be_known(reads, {refund_id for refund_id, _ in seen})
    rebuilder = Rebuilder(
        sources.audit_table(stack),
        SystemClock(),
        _operator(),
        backed_up={} if no_backup else _backed_up(stack, public_key, set(places)),
        dry_run=dry_run,
    )
    outcomes = [outcome for read in reads for outcome in rebuilder.rebuild(read, seen)]
    if as_json:
        click.echo(json.dumps([vars(outcome) for outcome in outcomes], indent=2))
    else:
        _tell_rebuilt(outcomes, dry_run=dry_run)
    if any(outcome.why_not for outcome in outcomes):
        raise click.exceptions.Exit(REFUSED)


def _must_be_known(reads: Iterable[Read], seen: set[str]) -> None:
    for read in reads:
        refund_id = read.story.refund_id
        if not (read.refund or read.entries or refund_id in seen):
            raise RefusedError(
                f"There is no such refund: {refund_id}.",
                "Was it removed? refunds audit rebuild --all looks through the whole trail.",
            )


def _backed_up(stack: Stack, key: Path | None, wanted: set[str]) -> Mapping[Key, str | None]:
    place = sources.place(stack, None)
    backup = sources.backup(place, None, sources.public_key(stack, key))
    if backup is None:
        return {}
    found = backed_up(backup, wanted)
    if backup.findings:
        told = "The newest backup is damaged: nothing is held against it."
        Console(stderr=True).print(f"[yellow]{told}[/]")
    return found


def _tell_rebuilt(outcomes: list[Outcome], *, dry_run: bool) -> None:
    console = Console()
    if not outcomes:
        console.print("No entry is missing.")
        return
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    for outcome in outcomes:
        done = "could be rebuilt" if dry_run else "rebuilt"
        table.add_row(
            Text(outcome.refund_id, style="bold"),
            f"v{outcome.version}",
            Text(done, style="green") if outcome.source else Text("stays a gap", style="red"),
            Text(f"from {outcome.source}" if outcome.source else str(outcome.why_not)),
        )
    console.print(table)


@audit.command()
@click.argument("keys", nargs=-1)
@click.option("--publish", is_flag=True, help="Publish the outcome events, too.")
@click.option("--dry-run", is_flag=True, help="Only list what would be put back.")
@click.pass_obj
def replay(stack_name: str | None, keys: tuple[str, ...], publish: bool, dry_run: bool) -> None:
    """Put stream records that failed back through the writer: all, or the objects named by KEYS.

    What is in the trail then is moved to handled/. Exit status 1 when something is left.
    """
    stack = find_stack(stack_name)
    failures = sources.failures(stack)
    bus = OutcomeBus(stack.events, stack["EventBusName"]) if publish else None
    replayer = Replayer(
        failures, sources.audit_table(stack), SystemClock(), bus=bus, dry_run=dry_run
    )
    console = Console()
    objects = stored = published = left = 0
    for key in keys or failures.keys():
        objects += 1
        try:
            kept = failures.read(key)
            if dry_run:
                console.print(f"{key}  {len(kept.records)} records, {kept.problem or kept.reason}")
                continue
            result = replayer.replay(kept)
        except (ClientError, PublishError) as exc:  # the others are not to wait for this one
            result = Replayed(key, left=[_why_not(exc, failures.bucket)])
        stored += result.stored
        published += len(result.events) if publish else 0
        if not result.handled:
            left += 1
            why = ", ".join(sorted(set(result.left)))
            console.print(Text.assemble(("✗ ", "red"), result.key, (f"  {why}", "dim")))
    told = f"{objects} objects, {stored} entries in the trail, {published} events published"
    console.print(told, highlight=False)
    if left:
        console.print(
            f"{left} left: look at them, then refunds audit close KEY --why TEXT", highlight=False
        )
        raise click.exceptions.Exit(REFUSED)


def _why_not(error: Exception, bucket: str) -> str:
    if isinstance(error, ClientError) and error.response["Error"]["Code"] in _ABSENT:
        return f"is not in {bucket}"
    return describe(error)["error"]


@audit.command()
@click.argument("key")
@click.option("--why", required=True, help="What it was, and what was done about it.")
@click.pass_obj
def close(stack_name: str | None, key: str, why: str) -> None:
    """Put a failed stream record away that makes no entry, once a person has looked into it.

    It is moved to closed/ in the failures bucket, with who and why in its metadata.
    """
    stack = find_stack(stack_name)
    plain = visible(why).replace("\n", " ").encode("ascii", "backslashreplace").decode()
    try:
        moved = sources.failures(stack).move(key, CLOSED, why=plain[:1000].strip(), by=_operator())
    except stack.s3.exceptions.ClientError as exc:
        if exc.response["Error"]["Code"] in _ABSENT:
            raise RefusedError(f"There is no {key} in {stack['FailuresBucketName']}.") from exc
        raise
    click.echo(moved)


def _operator() -> str:
    return f"operator:{getpass.getuser()}"


# --- Receipts -------------------------------------------------------------------------------------


@audit.command()
@click.argument("refund_id")
@click.option("--transaction", "transaction_id", metavar="ID", help="Of a refund that was removed.")
@click.option(
    "--output", "-o", type=click.Path(path_type=Path), help="[default: REFUND_ID.receipt.json]"
)
@click.option(
    "--backup",
    "sequence",
    type=click.IntRange(1),
    metavar="NUMBER",
    help="Cover it by the backup of this digest, not by the newest.",
)
@click.option("--backup-folder", type=_FOLDER, help="Backups that were downloaded.")
@click.option("--public-key", type=_KEY_FILE, metavar="PEM", help="Instead of what KMS says it is.")
@click.pass_obj
def receipt(
    stack_name: str | None,
    refund_id: str,
    transaction_id: str | None,
    output: Path | None,
    sequence: int | None,
    backup_folder: Path | None,
    public_key: Path | None,
) -> None:
    """Write a file that proves what became of a refund, without this stack or its code.

    It holds the audit entries and, once a backup covers them, its signed digest and each entry's
    path to it. Nothing is written for a chain that is broken.
    """
    stack = find_stack(stack_name)
    entries = _entries(sources.tables(stack), refund_id, transaction_id)
    place = sources.place(stack, backup_folder)
    stored = sources.digest(place, sequence)
    try:
        made = make_receipt(
            entries,
            made_at=rfc3339(datetime.now(UTC)),
            place=place,
            stored=stored,
            public_key=sources.public_key(stack, public_key),
        )
    except (DamagedError, AbsentError) as exc:
        raise RefusedError(f"The backup can't be read: {exc}.", "refunds backup verify") from exc
    problems = [*receipt_problems(made), *(missing_in(stored.digest, made) if stored else ())]
    if problems:
        raise RefusedError(f"No receipt: {visible(problems[0])}.", "refunds verify tells more.")
    path = output or Path(f"{refund_id}.receipt.json")
    path.write_text(json.dumps(made, indent=1) + "\n")
    console = Console()
    console.print(
        f"{path}: {len(entries)} entries, {len(made['proofs'])} covered by a signed digest",
        highlight=False,
    )
    if len(made["proofs"]) < len(entries):
        console.print("[dim]The next backup covers the rest.[/]")


@audit.command("check-receipt")
@click.argument("file", type=_KEY_FILE)
@click.option("--public-key", type=_KEY_FILE, metavar="PEM", help="The key that you trust.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def check_receipt_(file: Path, public_key: Path | None, as_json: bool) -> None:
    """Verify a receipt offline: entries, chain, Merkle paths and the digest's signature.

    Exit status 1 when it contradicts itself or, with --public-key, leaves an entry unproven.
    Without that key nothing is proven, however well it fits together.
    """
    if file.stat().st_size > MAX_RECEIPT_BYTES:
        raise RefusedError(f"{file} is too large to be a receipt.")
    key = sources.read_public_key(public_key) if public_key else None
    checked = check_receipt(file.read_bytes(), key)
    if as_json:
        told = {"sound": not checked.problems, "proven": checked.proven}
        click.echo(json.dumps(vars(checked) | told, indent=2))
    else:
        _tell_checked(checked)
    if checked.problems:
        raise click.exceptions.Exit(REFUSED)


def _tell_checked(checked: Checked) -> None:
    console = Console()
    for problem in checked.problems:
        console.print(Text.assemble(("✗ ", "bold red"), visible(problem)))
    if not checked.problems:
        told = f"✓ {visible(checked.refund_id)}: {checked.versions} entries follow from each other"
        console.print(Text(told, style="green"))
        if checked.covered:
            told = f"✓ {checked.covered} of them signed by {checked.fingerprint}"
            console.print(Text(told, style="green"))
        if checked.unproven:
            told = f"NOT PROVEN: {versions_told(checked.unproven)}, by no key that you trust"
            console.print(Text(told, style="bold yellow"))
    for note in checked.notes:
        console.print(Text(note, style="dim"))
