"""`refunds audit receipt` and `check-receipt`: a refund's story, provable without this stack."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.text import Text

from refunds.domain.clock import rfc3339
from refunds.domain.refund import Item
from refunds_ops.audit import sources
from refunds_ops.audit.receipt_check import (
    MAX_RECEIPT_BYTES,
    Checked,
    check_receipt,
    receipt_problems,
    versions_text,
)
from refunds_ops.audit.receipt_page import html_receipt
from refunds_ops.audit.receipts import make_receipt, missing_in
from refunds_ops.backup.data_files import DamagedError
from refunds_ops.backup.storage import AbsentError, backup_storage
from refunds_ops.commands.audit_show import entries_of, nothing_of
from refunds_ops.errors import REFUSED, RefusedError
from refunds_ops.json_output import json_option
from refunds_ops.stack.stack import find_stack
from refunds_ops.terminal import console, print_json, print_line, print_note, safe_text

if TYPE_CHECKING:
    from refunds_ops.stack.stack import Stack

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command()
@click.argument("refund_id")
@click.option("--transaction", "transaction_id", metavar="ID", help="Of a refund that was removed.")
@click.option("--html", is_flag=True, help="Write a page that checks itself in any browser.")
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    help="[default: REFUND_ID.receipt.json, or .html]",
)
@click.option(
    "--backup",
    "sequence",
    type=click.IntRange(1),
    metavar="NUMBER",
    help="Prove it with the backup of this digest.  [default: the newest]",
)
@click.option(
    "--backup-folder",
    type=_FOLDER,
    help="Downloaded backups (aws s3 sync) instead of the stack's bucket.",
)
@click.option(
    "--public-key",
    type=_FILE,
    metavar="PEM",
    help="The backups' public key.  [default: read from KMS]",
)
@json_option(
    {
        "file": "the receipt",
        "entries": "audit entries in it",
        "covered": "how many of them a signed digest covers",
    }
)
@click.pass_obj
def receipt(  # noqa: PLR0913 - click passes the options
    stack_name: str | None,
    *,
    as_json: bool,
    refund_id: str,
    transaction_id: str | None,
    html: bool,
    output: Path | None,
    sequence: int | None,
    backup_folder: Path | None,
    public_key: Path | None,
) -> None:
    """Write a file that proves a refund's story.

    Checking the file needs neither this stack nor its code. It contains the audit entries and, once
    a backup covers them, the backup's signed digest and the path from each entry to it. Nothing is
    written for a damaged chain. With --html the file is a page that an auditor opens in a browser,
    offline. It recomputes every hash and checks the signature with the public key that the auditor
    gives it.
    """
    made = receipt_of(
        find_stack(stack_name),
        refund_id,
        transaction_id,
        sequence=sequence,
        backup_folder=backup_folder,
        public_key=public_key,
    )
    path = output or Path(f"{refund_id}.receipt.{'html' if html else 'json'}")
    path.write_text(html_receipt(made) if html else json.dumps(made, indent=1) + "\n")
    entries, covered = len(made["entries"]), len(made["proofs"])
    if as_json:
        print_json({"file": str(path), "entries": entries, "covered": covered})
        return
    print_line(f"{path}: {entries} entries, {covered} covered by a signed digest")
    if covered < entries:
        print_note("The next backup covers the rest.")


def receipt_of(  # noqa: PLR0913 - what chooses a receipt
    stack: Stack,
    refund_id: str,
    transaction_id: str | None = None,
    *,
    sequence: int | None = None,
    backup_folder: Path | None = None,
    public_key: Path | None = None,
) -> Item:
    """A refund's receipt, proven by the newest backup or the backup ``sequence``.

    Raises ``RefusedError`` for a refund that isn't there, a chain that is damaged or not in the
    backup that should have it, and a backup that can't be read.
    """
    entries = entries_of(sources.tables(stack), refund_id, transaction_id)
    if not entries:
        raise nothing_of(refund_id)
    storage = backup_storage(stack, backup_folder)
    stored = sources.digest(storage, sequence)
    try:
        made = make_receipt(
            entries,
            made_at=rfc3339(datetime.now(UTC)),
            storage=storage,
            stored=stored,
            public_key=sources.public_key(stack, public_key),
        )
    except (DamagedError, AbsentError) as exc:
        raise RefusedError(f"The backup can't be read: {exc}.", "refunds backup verify") from exc
    problems = [*receipt_problems(made), *(missing_in(stored.digest, made) if stored else ())]
    if problems:
        raise RefusedError(f"No receipt: {problems[0]}.", "More: refunds verify")
    return made


@click.command("check-receipt")
@click.argument("file", type=_FILE)
@click.option("--public-key", type=_FILE, metavar="PEM", help="The key that you trust.")
@json_option(
    {
        "refund_id": "",
        "versions": "how many entries the receipt holds",
        "covered": "how many of them a signed digest covers",
        "fingerprint": "of the trusted key; null without one",
        "unproven": "versions that the trusted key has not signed",
        "problems": "contradictions inside the receipt",
        "notes": "",
        "sound": "whether there are no problems",
        "proven": "whether there are no problems and every version is signed by the trusted key",
    }
)
def check_receipt_(file: Path, public_key: Path | None, as_json: bool) -> None:
    """Check a receipt, JSON or HTML, offline.

    Checks entries, chain, Merkle paths and the digest's signature. Exit status 0 only when every
    entry is proven by --public-key: without a key that you trust, nothing is proven.
    """
    if file.stat().st_size > MAX_RECEIPT_BYTES:
        raise RefusedError(f"{file} is too large to be a receipt.")
    key = sources.read_public_key(public_key) if public_key else None
    checked = check_receipt(file.read_bytes(), key)
    if as_json:
        verdict = {"sound": not checked.problems, "proven": checked.proven}
        print_json(vars(checked) | verdict)
    else:
        _print_checked(checked)
    if not checked.proven:
        raise click.exceptions.Exit(REFUSED)


def _print_checked(checked: Checked) -> None:
    out = console()
    for problem in checked.problems:
        out.print(Text.assemble(("✗ ", "bold red"), safe_text(problem)))
    if not checked.problems:
        refund_id = safe_text(checked.refund_id)
        sound = f"✓ {refund_id}: {checked.versions} entries, each follows from the one before"
        out.print(Text(sound, style="green"))
        if checked.covered:
            signed = f"✓ {checked.covered} of them signed by {checked.fingerprint}"
            out.print(Text(signed, style="green"))
        if checked.unproven:
            open_ones = versions_text(checked.unproven)
            out.print(
                Text(f"NOT PROVEN: {open_ones}, by no key that you trust", style="bold yellow")
            )
    for note in checked.notes:
        out.print(Text(safe_text(note), style="dim"))
    if not checked.problems and checked.unproven:
        print_note("Give the key that you trust: --public-key PEM")
