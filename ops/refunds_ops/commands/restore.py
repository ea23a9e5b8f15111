"""`refunds backup restore`: put tables or single refunds back, ready for the queue."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.markup import escape

from refunds.backup.digest import Digest, sha256_hex
from refunds.domain.clock import SystemClock, rfc3339
from refunds.domain.refund import Refund
from refunds.gateways.routing import Gateways
from refunds.tables.state import Control
from refunds_ops.amounts import amount_text
from refunds_ops.audit import sources as stack_sources
from refunds_ops.backup.audit_chains import Restorer
from refunds_ops.backup.export import TABLES
from refunds_ops.backup.progress import Progress, Rebuilt
from refunds_ops.backup.restore import table_identity
from refunds_ops.backup.stack_restore import LEDGER_IS_NEW, StackRestore
from refunds_ops.backup.storage import backup_storage
from refunds_ops.commands.backup_options import (
    BACKUP_FOLDER,
    KEY,
    MAX_SHOWN,
    NUMBER,
    WORK,
    digest_of,
    keys_of,
    progress_bar,
    reader_of,
)
from refunds_ops.errors import REFUSED, RefusedError
from refunds_ops.identity import ON_BEHALF_OF, check_kept, identify, why_option
from refunds_ops.json_output import json_option
from refunds_ops.stack.stack import Stack, find_stack
from refunds_ops.terminal import console, print_json


@click.command()
@BACKUP_FOLDER
@KEY
@NUMBER
@click.option(
    "--suffix",
    default="",
    help="Restore into new tables, named like the stack's with this suffix, with ImportTable. "
    "Without it: row by row into the stack's own tables, where newer rows stay.",
)
@click.option(
    "--row-by-row",
    is_flag=True,
    help="With --suffix: write the rows one by one instead, which also works from a folder.",
)
@click.option(
    "--table", "chosen", type=click.Choice(TABLES), multiple=True, help="Only this table."
)
@click.option(
    "--refund",
    "refund_ids",
    metavar="ID",
    multiple=True,
    help="Only this refund: replace its lost or damaged record. Needs --why.",
)
@click.option(
    "--transaction",
    "transaction_id",
    metavar="ID",
    help="With --refund: the payment of a refund that neither the table nor the backup has.",
)
@why_option("Kept in the audit trail.  [default: the pause's]", required=False)
@ON_BEHALF_OF
@click.option(
    "--without-gateway",
    is_flag=True,
    help="Leave the ledger as in the backup, although the gateway may have later refunds.",
)
@click.option(
    "--again",
    is_flag=True,
    help="Start from the beginning, even if an earlier restore was stopped.",
)
@json_option(
    {
        "number": "the backup's",
        "started_at": "when the backup began",
        "tables": "rows restored, kept and different, by table",
        "different": "keys of rows that differ and stayed as they are",
        "opened": "unfinished refunds opened for the reconciler",
        "ledger": "payments rebuilt with the gateway, and findings; null with --without-gateway",
        "seconds": "by step",
        "blocked": "keys of rows that were not restored, because their audit trail is damaged",
        "damaged": "refunds whose record can't be read; it stayed as it is",
        "done": "what was done to the tables before the first row",
    }
)
@click.pass_obj
def restore(  # noqa: PLR0913, PLR0917 - click passes the options
    stack_name: str | None,
    folder: Path | None,
    key_files: tuple[Path, ...],
    number: int | None,
    suffix: str,
    row_by_row: bool,
    chosen: tuple[str, ...],
    refund_ids: tuple[str, ...],
    transaction_id: str | None,
    why: str | None,
    on_behalf_of: str | None,
    without_gateway: bool,
    again: bool,
    as_json: bool,
) -> None:
    """Restore a verified backup and make the tables ready for the queue.

    Pause requests first: refunds pause. A stopped restore continues when the same command runs
    again within a day. Exit status 1 when something needs a person.
    """
    by_rows = row_by_row or not suffix
    if refund_ids and (suffix or chosen):
        raise click.UsageError("--refund goes with neither --suffix nor --table.")
    if refund_ids and not why:
        raise click.UsageError("--refund needs --why: it is kept in the audit trail.")
    if transaction_id and len(refund_ids) != 1:
        raise click.UsageError("--transaction needs exactly one --refund.")
    if folder is not None and not by_rows:
        raise click.UsageError(
            "ImportTable reads from the bucket: with --backup-folder, --suffix needs --row-by-row."
        )
    stack = find_stack(stack_name)
    storage = backup_storage(stack, folder)
    digest = digest_of(storage, number, keys_of(stack, key_files))
    pause_reason = "" if suffix else _must_not_flow(stack)
    ready = not chosen or (not suffix and set(chosen) != {"audit"})
    progress = (
        Progress(WORK / f"restore-{digest.sequence}-refunds.json")
        if refund_ids
        else _progress(stack, digest, suffix, by_rows, again)
    )
    tables = StackRestore(
        stack,
        storage,
        digest,
        suffix=suffix,
        by_rows=by_rows,
        progress=progress,
        restorer=_restorer(stack, on_behalf_of, why or pause_reason, digest),
        clock=SystemClock(),
        reader=reader_of(stack),
        gateways=_gateways(stack) if ready and not without_gateway else None,
    )
    done = [] if suffix else tables.make_whole()
    for what in done:
        _note(what[:1].upper() + what[1:] + ".")
    if refund_ids:
        _restore_refunds(stack, tables, refund_ids, transaction_id, as_json=as_json)
        progress.end()
        return
    with progress_bar() as on_progress:
        tables.restore(chosen or TABLES, on_progress)
        opened = tables.make_ready(on_progress) if ready else 0
    progress.end()
    rebuilt = progress.ledger if ready and not without_gateway else None
    summary = _summary(digest, progress, rebuilt, opened) | {
        "damaged": tables.damaged,
        "seconds": tables.seconds,
        "done": done,
    }
    if as_json:
        print_json(summary)
    else:
        _show_restore(summary)
    if _needs_a_person(summary):
        raise click.exceptions.Exit(REFUSED)


def _restorer(stack: Stack, on_behalf_of: str | None, why: str, digest: Digest) -> Restorer:
    why = why or "restore"
    check_kept(why=why)
    who = identify(stack, on_behalf_of)
    return Restorer(who.arn, why[:500], f"backup {digest.sequence}", who.on_behalf_of)


def _progress(stack: Stack, digest: Digest, suffix: str, by_rows: bool, again: bool) -> Progress:
    """The progress of the same restore, if it was stopped within the last day."""
    path, now = WORK / f"restore-{digest.sequence}{suffix}.json", SystemClock().now()
    if again:
        path.unlink(missing_ok=True)
    how = "row by row" if by_rows else "by ImportTable"
    progress = Progress.load(
        path,
        f"{sha256_hex(digest.to_bytes())} in {stack['BackupBucketName']}, {how}",
        now,
        lambda table: table_identity(stack.dynamodb, table),
    )
    if progress.begun_at != rfc3339(now):
        _note(
            f"Continues the restore begun at {progress.begun_at}, which was stopped. "
            "--again starts over."
        )
    return progress


def _note(text: str) -> None:
    console(stderr=True).print(escape(text))


def _restore_refunds(
    stack: Stack,
    restore: StackRestore,
    refund_ids: tuple[str, ...],
    transaction_id: str | None,
    *,
    as_json: bool,
) -> None:
    tables = stack_sources.tables(stack)
    done: list[tuple[Refund, bool]] = []
    with progress_bar() as on_progress:
        for refund_id in refund_ids:
            done.append(restore.restore_refund(refund_id, transaction_id, tables, on_progress))
    # A restore that was stopped has written some records already.
    restored = [(refund, needed) for refund, needed in done if needed or refund.restored]
    if as_json:
        print_json([refund.item() for refund, _ in restored])
    else:
        for refund, needed in restored:
            _print_restored(refund, needed=needed)
    if intact := [refund for refund, needed in done if not (needed or refund.restored)]:
        names = ", ".join(refund.refund_id for refund in intact)
        raise RefusedError(
            f"No restore is needed: the record is what its audit trail says. {names}",
            "refunds verify and refunds backup verify say more.",
        )


def _print_restored(refund: Refund, *, needed: bool) -> None:
    how = "restored as version" if needed else "was restored already: version"
    amount = amount_text(refund.amount_minor, refund.currency)
    console().print(
        f"[green]✓[/] {escape(refund.refund_id)} {how} {refund.version}: "
        f"{refund.status}, {escape(amount)}"
    )


def _must_not_flow(stack: Stack) -> str:
    """Refuse unless a person has paused requests; returns why they were paused.

    A disabled mapping is not enough: the reconciler enables it again unless a person has paused.
    """
    why = ""
    try:
        intake = Control(stack.dynamodb, stack["LedgerTableName"]).intake()
        held, why = intake.paused, (intake.paused_why or "").removesuffix(LEDGER_IS_NEW)
        how = "refunds pause --why 'restore'"
    except stack.dynamodb.exceptions.ResourceNotFoundException:
        held = True
        # No table can store a pause, but without it the reconciler can't enable the mapping either.
        # The restore creates the table with requests paused.
        how = (
            "The ledger table is lost: aws lambda update-event-source-mapping --no-enabled --uuid "
            + stack["RefundRequestsMappingId"]
        )
    mapping = stack.functions.get_event_source_mapping(UUID=stack["RefundRequestsMappingId"])
    if not held or mapping["State"] != "Disabled":
        raise RefusedError(
            "Refund requests flow, or may at any time, and would change what is restored.",
            how,
            "Or restore into new tables beside them: --suffix -restored",
        )
    return why


def _summary(
    digest: Digest, progress: Progress, rebuilt: Rebuilt | None, opened: int
) -> dict[str, Any]:
    return {
        "number": digest.sequence,
        "started_at": digest.start_time,
        "tables": {table: rows.counts for table, rows in progress.rows.items()},
        "different": [
            key
            for table, rows in progress.rows.items()
            # The gateway has corrected ledger rows that differed.
            if not (table == "ledger" and rebuilt)
            for key in rows.different
        ],
        "blocked": [key for rows in progress.rows.values() for key in rows.blocked],
        "opened": opened,
        "ledger": rebuilt and asdict(rebuilt),
    }


_LEDGER_FINDINGS = {
    "over_refunded": "more refunded than captured",
    "unknown": "its gateway doesn't know the payment, or is not configured",
    "doubled": "two refunds at the gateway under one reference",
}


_ROW_FINDINGS = {
    "different": "the table has other contents, which stayed. refunds backup restore --refund ID",
    "blocked": "not restored, because its audit trail is damaged. refunds verify",
    "damaged": "its record can't be read. refunds backup restore --refund ID",
}


def _needs_a_person(summary: dict[str, Any]) -> bool:
    ledger = summary["ledger"] or {}
    return any(summary[name] for name in _ROW_FINDINGS) or any(
        ledger.get(name) for name in _LEDGER_FINDINGS
    )


def _show_restore(summary: dict[str, Any]) -> None:
    out = console()
    for table, counts in summary["tables"].items():
        shown = ", ".join(f"{count:,} {name}" for name, count in sorted(counts.items()))
        out.print(f"{table}: {shown or 'nothing'}")
    for name, what in _ROW_FINDINGS.items():
        keys = summary[name]
        for key in keys[:MAX_SHOWN]:
            out.print(f"[red]✗ {name}[/] {escape(key)}: {what}")
        if len(keys) > MAX_SHOWN:
            out.print(f"… and {len(keys) - MAX_SHOWN} more: --json")
    if ledger := summary["ledger"]:
        out.print(f"ledger: {ledger['transactions']:,} transactions rebuilt with the gateway")
        for finding, what in _LEDGER_FINDINGS.items():
            for key in ledger[finding][:MAX_SHOWN]:
                out.print(f"[red]✗ {escape(key)}[/]: {what}")
            if (count := ledger["counts"].get(finding, 0)) > MAX_SHOWN:
                out.print(f"… and {count - MAX_SHOWN:,} more: --json lists 1,000")
    out.print(f"{summary['opened']:,} unfinished refunds opened for the reconciler")
    steps = ", ".join(f"{step} {seconds:,} s" for step, seconds in summary["seconds"].items())
    out.print(f"[dim]{steps}[/]")
    out.print(f"[green]✓[/] backup {summary['number']} of {summary['started_at']} restored")


def _gateways(stack: Stack) -> Gateways:
    """The gateways that the functions use, and their routes."""
    return stack_sources.gateways(stack)
