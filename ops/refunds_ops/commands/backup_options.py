"""The options that the backup commands share, and what they select."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from refunds.backup.digest import Digest, DigestError, digest_key
from refunds.backup.table_scan import ReadLimit
from refunds_ops.audit import sources as stack_sources
from refunds_ops.backup.restore import OnProgress
from refunds_ops.backup.signatures import PublicKey
from refunds_ops.backup.storage import AbsentError, BackupStorage
from refunds_ops.backup.tables import TableReader
from refunds_ops.backup.verification import load, published, unhex
from refunds_ops.errors import RefusedError
from refunds_ops.stack.stack import Stack, find_stack
from refunds_ops.terminal import console

WORK = Path(".local")
"""The file that keeps the progress of a restore."""
MAX_SHOWN = 20

BACKUP_FOLDER = click.option(
    "--backup-folder",
    "folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Downloaded backups (aws s3 sync) instead of the stack's bucket.",
)
KEY = click.option(
    "--public-key",
    "key_files",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    multiple=True,
    metavar="PEM",
    help="The backups' public key.  [default: read from KMS]",
)
NUMBER = click.option(
    "--backup",
    "number",
    type=click.IntRange(min=1),
    metavar="NUMBER",
    help="The backup of this digest.  [default: the newest]",
)


def stack_of(name: str | None, folder: Path | None) -> Stack:
    """The stack; none is needed where everything is in a folder."""
    return Stack("this folder", {}) if folder else find_stack(name)


def keys_of(stack: Stack, files: tuple[Path, ...]) -> list[PublicKey]:
    if files:
        return [stack_sources.read_public_key(file) for file in files]
    stack["BackupSigningKeyArn"]
    key = stack_sources.public_key(stack, None)
    assert key is not None
    return [key]


def digest_of(storage: BackupStorage, number: int | None, keys: list[PublicKey] | None) -> Digest:
    """The backup's digest. With ``keys``, one of them must have signed it. Its files are checked as
    they are read. Raises ``RefusedError``."""
    there = published(storage)
    if not there:
        raise RefusedError("There is no backup yet.", "Make one: refunds backup run")
    number = number or there[-1]
    try:
        stored = load(storage, number)
    except (AbsentError, DigestError) as exc:
        raise RefusedError(
            f"There is no backup {number}: {exc}.", "To list them: refunds backup list"
        ) from exc
    if stored.digest.key != digest_key(number):
        # An older backup with a valid signature may have been put in the place of a newer one.
        raise RefusedError(
            f"The digest with the number {number} is {stored.digest.key}.",
            "refunds backup verify says more.",
        )
    if keys is not None:
        signature = stored.signature or unhex(storage.signature(stored.digest.key)) or b""
        if not any(key.verifies(stored.content, signature) for key in keys):
            raise RefusedError(
                f"The digest of backup {stored.digest.sequence} is not signed by the key.",
                "refunds backup verify says more.",
            )
    return stored.digest


def reader_of(stack: Stack) -> TableReader:
    return TableReader(stack.new_client("dynamodb"), ReadLimit(0))


@contextmanager
def progress_bar() -> Iterator[OnProgress]:
    """A bar on stderr, so that what goes to stdout can go on into a pipe."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    out = console(stderr=True)
    with Progress(*columns, console=out, transient=True, disable=not out.is_terminal) as progress:
        task = progress.add_task("", total=None)

        def on_progress(what: str, done: int, total: int) -> None:
            progress.update(
                task, description=escape(what[-60:]), completed=done, total=total or None
            )

        yield on_progress
