"""Reads a published backup to compare the tables with, and verifies it while reading."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from itertools import chain
from typing import TypeVar

from refunds.backup.digest import DIGESTS_PREFIX, Digest, DigestError, Export, digest_key
from refunds.domain.audit_entry import NOT_AN_IMAGE
from refunds.domain.clock import from_rfc3339
from refunds_ops.audit.findings import Finding
from refunds_ops.backup.data_files import DamagedError, Wire, items
from refunds_ops.backup.signatures import PublicKey
from refunds_ops.backup.storage import AbsentError, BackupStorage
from refunds_ops.backup.verification import StoredDigest, load, published

PAGE_ITEMS = 1000

FIRST_RUN = timedelta(days=1)
"""How long the first run may take until its digest."""

Row = TypeVar("Row")


class BackupReader:
    """The data of one backup, one page at a time. After reading, ``findings`` has what is wrong
    with it. ``key`` None leaves the digest's signature unchecked."""

    def __init__(self, storage: BackupStorage, stored: StoredDigest, key: PublicKey | None) -> None:
        self._storage = storage
        self.digest: Digest = stored.digest
        self.signature_checked = key is not None
        self.findings: list[Finding] = []
        if key is not None and not is_signed(storage, stored, key):
            what = "its signature is not one of the signing key"
            self.findings.append(Finding(kind="backup_damaged", what=what, where=self.digest.key))
        try:
            from_rfc3339(self.audited_until)
        except (StopIteration, ValueError, OverflowError):
            what = "it doesn't say until when it has the audit trail"
            self.findings.append(Finding(kind="backup_damaged", what=what, where=self.digest.key))

    def pages(self, table: str, read: Callable[[Wire], Row]) -> Iterator[list[Row]]:
        """What ``read`` makes of the items of ``refunds``, ``ledger`` or ``audit``."""
        for export in self.digest.exports:
            if export.table == table:
                yield from self._export_pages(export, read)

    @property
    def audited_until(self) -> str:
        """Every entry that was recorded before this instant is in the backup."""
        return next(export.export_time for export in self.digest.exports if export.table == "audit")

    def _export_pages(self, export: Export, read: Callable[[Wire], Row]) -> Iterator[list[Row]]:
        page: list[Row] = []
        try:
            for item in items(self._storage, export):
                page.append(read(item))
                if len(page) == PAGE_ITEMS:
                    yield page
                    page = []
        except AbsentError as exc:
            what = f"{exc} is missing"
            self.findings.append(Finding(kind="backup_damaged", what=what, where=export.root))
        except DamagedError as exc:
            self.findings.append(Finding(kind="backup_damaged", what=str(exc), where=export.root))
        except NOT_AN_IMAGE:
            what = f"it has an item that is none of the table {export.table}"
            self.findings.append(Finding(kind="backup_damaged", what=what, where=export.root))
        if page:
            yield page


def chosen(storage: BackupStorage, sequence: int | None) -> StoredDigest | None:
    """The digest of that number, or the newest; None when there is none.

    Raises ``DigestError`` for one that can't be read, or that is another's under its number: an old
    backup passed off as the newest contradicts nothing.
    """
    numbers = published(storage)
    number = sequence or (numbers[-1] if numbers else None)
    if number is None or number not in numbers:
        return None
    stored = load(storage, number)
    if stored.digest.key != digest_key(number):
        raise DigestError(f"{digest_key(number)} holds the digest of {stored.digest.key}")
    return stored


def why_no_digest(storage: BackupStorage, now: datetime) -> str | None:
    """What is wrong when there is no digest. None before the first backup, also when every run
    failed before it had stored all tables."""
    latest = f"{now - FIRST_RUN:%Y%m%dT%H%M%SZ}"
    stored: dict[str, set[str]] = {}
    for key in chain((v.key for v in storage.versions()), (each.key for each in storage.list())):
        if key.startswith(DIGESTS_PREFIX):
            return "backups were made, and their digests are gone"
        # refund-backups/<year>/<month>/<day>/<run>/<table>/…/manifest-summary.json
        match key.split("/"):
            case [_, _, _, _, run, table, *_, "manifest-summary.json"] if run < latest:
                stored.setdefault(run, set()).add(table)
    if any(tables >= {"refunds", "ledger", "audit"} for tables in stored.values()):
        return "a run stored all tables, and there is no digest: signing failed, or it is gone"
    return None


def signature_of(storage: BackupStorage, stored: StoredDigest) -> bytes:
    """From beside the digest, else from its metadata; empty when there is none."""
    if stored.signature is not None:
        return stored.signature
    try:
        return bytes.fromhex(storage.signature(stored.digest.key) or "")
    except ValueError:
        return b""


def is_signed(storage: BackupStorage, stored: StoredDigest, key: PublicKey) -> bool:
    """Whether the digest is as the key's owner signed it."""
    return stored.digest.fingerprint == key.fingerprint and key.verifies(
        stored.content, signature_of(storage, stored)
    )
