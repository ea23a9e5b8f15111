"""`refunds request --file`: many requests, checked as a whole before the first is sent."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import IO, Any

import click

from refunds_ops.amounts import amount_text, minor_units
from refunds_ops.bulk import (
    FINAL,
    Checked,
    ResultFile,
    check_payments,
    follow,
    read,
    send,
)
from refunds_ops.errors import REFUSED, NotReadyError, RefusedError
from refunds_ops.identity import login
from refunds_ops.stack.stack import Stack, find_stack
from refunds_ops.terminal import print_error, print_json, print_line, print_note
from refunds_ops.work_progress import progress_of

MAX_SHOWN = 20
POLL_SECONDS = 2.0


def request_file(stack_name: str | None, file: IO[bytes], options: dict[str, Any]) -> None:
    """Check the file, show what it requests, and send it once a person has agreed."""
    checked = _read(file, options)
    if wrong := checked.wrong:
        for row in wrong[:MAX_SHOWN]:
            print_error(f"Row {row.number}: {row.wrong}")
        raise RefusedError(
            f"{len(wrong)} of {len(checked.rows)} rows are not valid, so nothing was sent.",
            "Correct them, then run the same command again.",
        )
    stack = None if options["dry_run"] and not options["check_payments"] else find_stack(stack_name)
    checked.suspicious += _above(checked, options["warn_above"])
    if options["check_payments"]:
        assert stack is not None
        checked.suspicious += check_payments(stack, checked.requests)
    _show(checked)
    if options["dry_run"]:
        print_note("Nothing was sent (--dry-run).")
        return
    assert stack is not None
    _agree(options)
    results = ResultFile(_result_path(file, options["results"]))
    if results.results:
        print_note(f"Continues where {results.path} ends.")
    with progress_of("sent", len(checked.rows)) as on_progress:
        send(
            stack,
            checked.rows,
            results,
            per_second=options["per_second"],
            on_progress=on_progress,
        )
    if options["wait"] is not None:
        _wait(stack, results, options["wait"])
    _end(results, as_json=options["as_json"], waited=options["wait"] is not None)


def _read(file: IO[bytes], options: dict[str, Any]) -> Checked:
    defaults = {
        name: str(options[name]) for name in ("currency", "reason", "user_id") if options[name]
    }
    defaults["requested_by"] = options["requested_by"] or f"operator:{login()}"
    try:
        lines = (line.decode("utf-8") for line in file)
        return read(lines, defaults)
    except UnicodeDecodeError:
        raise RefusedError("The file is not UTF-8 text, so nothing was sent.") from None


def _above(checked: Checked, limit: str | None) -> list[str]:
    if limit is None:
        return []
    found = []
    for row in checked.rows:
        request = row.request
        if request is None or request.amount_minor is None:
            continue
        if request.amount_minor > minor_units(limit, request.currency):
            amount = amount_text(request.amount_minor, request.currency)
            found.append(f"row {row.number} asks for {amount}, more than {limit}")
    return found


def _show(checked: Checked) -> None:
    print_note(f"{len(checked.rows):,} requests:")
    for currency, (count, total, unnamed) in checked.totals().items():
        if unnamed == count:
            print_note(f"  {count:,} in {currency}: all that is left")
            continue
        rest = f", {unnamed:,} of them for all that is left" if unnamed else ""
        print_note(f"  {count:,} in {currency}: {amount_text(total, currency)}{rest}")
    for each in checked.suspicious[:MAX_SHOWN]:
        print_note(f"  look: {each}")
    if len(checked.suspicious) > MAX_SHOWN:
        print_note(f"  look: and {len(checked.suspicious) - MAX_SHOWN} more")


def _agree(options: dict[str, Any]) -> None:
    if options["yes"]:
        return
    if not sys.stdin.isatty():
        raise RefusedError(
            "Nothing was sent: no terminal to ask for confirmation.", "To send it: --yes"
        )
    if not click.confirm("Send them?", err=True):
        raise RefusedError("Nothing was sent.")


def _result_path(file: IO[bytes], path: Path | None) -> Path:
    if path is not None:
        return path
    name = getattr(file, "name", "-")
    if not isinstance(name, str) or name in ("-", "<stdin>"):
        return Path("refunds-request.results.jsonl")
    return Path(f"{name}.results.jsonl")


def _wait(stack: Stack, results: ResultFile, seconds: float) -> None:
    with progress_of("finished", len(results.results)) as on_progress:
        follow(
            stack,
            results,
            until=time.monotonic() + seconds,
            every_seconds=POLL_SECONDS,
            on_progress=on_progress,
        )


def _end(results: ResultFile, *, as_json: bool, waited: bool) -> None:
    counts: dict[str, int] = {}
    for result in results.results.values():
        counts[result.status] = counts.get(result.status, 0) + 1
    if as_json:
        print_json({"results": str(results.path), "counts": counts})
    else:
        print_line(", ".join(f"{count:,} {status}" for status, count in sorted(counts.items())))
        print_line(f"Results: {results.path}")
    if counts.get("failed to be sent"):
        raise NotReadyError(
            f"{counts['failed to be sent']} could not be sent.", "Run the same command again."
        )
    bad = [each for each in results.results.values() if each.status != "SUCCEEDED"]
    if waited and bad:
        for result in bad[:MAX_SHOWN]:
            print_note(f"  {result.refund_id} (row {result.row}): {result.status} {result.why}")
        if any(result.status not in FINAL for result in bad):
            print_note("Some are not finished. To wait again: the same command with --wait")
        raise click.exceptions.Exit(REFUSED)
    if not waited:
        print_note("To follow them: the same command with --wait, or refunds watch")
