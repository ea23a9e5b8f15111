"""`refunds audit rebuild`, `replay` and `close`: repair missing audit entries."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click
from botocore.exceptions import ClientError
from rich.table import Table
from rich.text import Text

from refunds.audit.outcome_events import OutcomeBus, PublishError
from refunds.domain.clock import SystemClock
from refunds.domain.redaction import describe
from refunds_ops.audit import sources
from refunds_ops.audit.cross_check import CrossCheck
from refunds_ops.audit.failures import CLOSED, LAMBDAS, OURS
from refunds_ops.audit.rebuild import (
    Key,
    Outcome,
    Rebuilder,
    backed_up,
    candidates_in,
    lost,
    payments_in,
)
from refunds_ops.audit.replay import Replayed, Replayer
from refunds_ops.audit.tables import Read
from refunds_ops.audit.verify import Verification
from refunds_ops.backup.storage import backup_storage
from refunds_ops.backup.verification import published
from refunds_ops.errors import REFUSED, RefusedError
from refunds_ops.identity import ON_BEHALF_OF, check_kept, identify, why_option
from refunds_ops.json_output import json_option
from refunds_ops.stack.stack import Stack, find_stack
from refunds_ops.terminal import (
    console,
    print_json,
    print_json_lines,
    print_line,
    print_note,
    safe_text,
)

_KEY_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_ABSENT = ("NoSuchKey", "404")


@click.command()
@click.argument("refund_ids", nargs=-1)
@click.option(
    "--all", "everywhere", is_flag=True, help="Look for lost entries in the whole audit trail."
)
@click.option("--no-backup", is_flag=True, help="Do not compare with the newest backup.")
@click.option(
    "--public-key",
    type=_KEY_FILE,
    metavar="PEM",
    help="The backups' public key.  [default: read from KMS]",
)
@click.option("--dry-run", is_flag=True, help="Say what could be recreated; store nothing.")
@json_option(
    {
        "refund_id": "",
        "version": "of the lost entry",
        "source": "what it was recreated from; null when it was not",
        "why_not": "null when it was recreated",
    },
    lines=True,
)
@ON_BEHALF_OF
@click.pass_obj
def rebuild(  # noqa: PLR0913 - click passes the options
    stack_name: str | None,
    *,
    refund_ids: tuple[str, ...],
    everywhere: bool,
    no_backup: bool,
    public_key: Path | None,
    dry_run: bool,
    as_json: bool,
    on_behalf_of: str | None,
) -> None:
    """Recreate lost audit entries.

    A recreated entry has the hash of the lost one and is marked as rebuilt. It comes from failed
    stream records (kept in S3) or, for the latest version, from the refund itself. The chain must
    prove it, and the newest backup must not contradict it. Publishes no events. Exit status 1 when
    a gap remains.
    """
    if bool(refund_ids) == everywhere:
        raise click.UsageError("Give refund ids or --all.")
    stack = find_stack(stack_name)
    tables = sources.tables(stack)
    places: dict[str, set[str]] = {refund_id: set() for refund_id in refund_ids}
    if everywhere:
        report = Verification(
            tables,
            clock=SystemClock(),
            progress=lambda _, pages, __: iter(pages),
            failures=sources.failures(stack),
            max_findings=sys.maxsize - 1,  # every refund that lost an entry
        ).run()
        places = lost(report.findings)
    check = CrossCheck(tables, clock=SystemClock())
    seen = candidates_in(sources.failures(stack), set(places))
    seen_under = payments_in(seen)
    reads: Iterable[Read] = (
        check.settled(refund_id, payments | seen_under.get(refund_id, set()))
        for refund_id, payments in places.items()
    )
    if not everywhere:
        reads = list(reads)
        _must_be_known(reads, {refund_id for refund_id, _ in seen})
    rebuilder = Rebuilder(
        sources.audit_table(stack),
        SystemClock(),
        identify(stack, on_behalf_of),
        backed_up={} if no_backup else _backed_up(stack, public_key, set(places)),
        dry_run=dry_run,
    )
    outcomes = [outcome for read in reads for outcome in rebuilder.rebuild(read, seen)]
    if as_json:
        print_json_lines(vars(outcome) for outcome in outcomes)
    else:
        _print_rebuilt(outcomes, dry_run=dry_run)
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
    """The entries of the wanted refunds in the newest backup that can be read."""
    storage, public_key = backup_storage(stack, None), sources.public_key(stack, key)
    for number in reversed(published(storage)):
        try:
            backup = sources.backup(storage, number, public_key)
        except RefusedError as exc:
            print_note(f"{exc.what} An older backup is compared instead.")
            continue
        found = backed_up(backup, wanted) if backup else {}
        if backup and not backup.findings:
            return found
        print_note(f"Backup {number} is damaged. An older one is compared instead.")
    return {}


def _print_rebuilt(outcomes: list[Outcome], *, dry_run: bool) -> None:
    out = console()
    if not outcomes:
        print_line("No entry is missing.")
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
    out.print(table)


@click.command()
@click.argument("keys", nargs=-1)
@click.option("--publish", is_flag=True, help="Publish their outcome events too.")
@click.option("--dry-run", is_flag=True, help="List the records; write nothing.")
@json_option(
    {
        "key": "of the object",
        "records": "in it, with --dry-run",
        "stored": "entries that are in the trail now",
        "published": "events",
        "left": "why some of its records are left; empty when all are handled",
    },
    lines=True,
)
@click.pass_obj
def replay(
    stack_name: str | None, *, keys: tuple[str, ...], publish: bool, dry_run: bool, as_json: bool
) -> None:
    """Write failed stream records to the trail.

    Writes all of them, or those in the objects KEYS of the failures bucket. An object whose entries
    are all written moves to handled/. Exit status 1 when some are left.
    """
    stack = find_stack(stack_name)
    failures = sources.failures(stack)
    bus = OutcomeBus(stack.events, stack["EventBusName"]) if publish else None
    replayer = Replayer(
        failures, sources.audit_table(stack), SystemClock(), bus=bus, dry_run=dry_run
    )
    done: list[dict[str, Any]] = []
    _check_stream_records(keys)
    for key in keys or failures.keys():
        try:
            kept = failures.read(key)
            if dry_run:
                reason = kept.problem or kept.reason
                done.append({"key": key, "records": len(kept.records), "left": [reason]})
                continue
            result = replayer.replay(kept)
        except (ClientError, PublishError) as exc:  # One failure must not stop the others.
            result = Replayed(key, left=[_why_not(exc, failures.bucket)])
        done.append(
            {
                "key": key,
                "stored": result.stored,
                "published": len(result.events) if publish else 0,
                "left": sorted(set(result.left)),
            }
        )
    if as_json:
        print_json_lines(done)
    else:
        _print_replayed(done, dry_run=dry_run)
    if not dry_run and any(each["left"] for each in done):
        raise click.exceptions.Exit(REFUSED)


def _print_replayed(done: list[dict[str, Any]], *, dry_run: bool) -> None:
    if not done:
        print_line("No failed records: there is nothing to replay.")
        return
    for each in done:
        why = ", ".join(each["left"])
        if dry_run:
            print_line(f"{each['key']}  {each['records']} records, {why}")
        elif why:
            print_line(f"✗ {each['key']}  {why}")
    if dry_run:
        print_line(f"{len(done)} objects")
        return
    stored = sum(each["stored"] for each in done)
    published = sum(each["published"] for each in done)
    left = sum(bool(each["left"]) for each in done)
    print_line(f"{len(done)} objects, {stored} entries in the trail, {published} events published")
    if left:
        print_line(f"{left} left. Investigate each, then: refunds audit close KEY --why TEXT")


def _why_not(error: Exception, bucket: str) -> str:
    if isinstance(error, ClientError) and error.response["Error"]["Code"] in _ABSENT:
        return f"is not in {bucket}"
    return describe(error)["error"]


@click.command()
@click.argument("key")
@why_option("What it was, and what was done about it.")
@ON_BEHALF_OF
@json_option({"key": "where the record is now"})
@click.pass_obj
def close(
    stack_name: str | None, *, key: str, why: str, on_behalf_of: str | None, as_json: bool
) -> None:
    """Close a failed record that makes no entry.

    Close it once you know what it was. The record moves to closed/ in the failures bucket, with who
    closed it and why in its metadata.
    """
    check_kept(why=why)
    stack = find_stack(stack_name)
    who = identify(stack, on_behalf_of)
    _check_stream_records([key])
    kept = {name.replace("_", "-"): _metadata(text) for name, text in who.recorded().items()}
    try:
        moved = sources.failures(stack).move(key, CLOSED, why=_metadata(why), **kept)
    except stack.s3.exceptions.ClientError as exc:
        if exc.response["Error"]["Code"] in _ABSENT:
            raise RefusedError(
                f"There is no {key} in {stack['FailuresBucketName']}.",
                "To list them: refunds audit replay --dry-run",
            ) from exc
        raise
    if as_json:
        print_json({"key": moved})
    else:
        print_line(moved)


def _check_stream_records(keys: Iterable[str]) -> None:
    """Refuse other objects of the failures bucket. Moving a dead letter away would end its alarm,
    and nobody would find the request again."""
    for key in keys:
        if not key.startswith((OURS, LAMBDAS)):
            raise RefusedError(
                f"{key} is no failed stream record: those are below {OURS} and {LAMBDAS}.",
                "To list them: refunds audit replay --dry-run",
                "For requests that were refused or failed: refunds dead-letters list",
            )


def _metadata(text: str) -> str:
    """The text in the form that S3's metadata requires: one line of ASCII."""
    plain = safe_text(" ".join(text.split())).encode("ascii", "backslashreplace").decode()
    return plain[:1000].strip()
