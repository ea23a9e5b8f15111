"""Verifies backups: follows the chain of digests and compares every file with its digest.

It needs only the public key and the files, in the bucket or downloaded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Protocol

from refunds.backup.digest import (
    DIGESTS_PREFIX,
    FIRST_SEQUENCE,
    PREFIX,
    DataFile,
    Digest,
    DigestError,
    StoredFile,
    digest_key,
    sequence_of,
    sha256_hex,
    signature_key,
)
from refunds.backup.drills import PREFIX as DRILLS_PREFIX
from refunds_ops.backup.data_files import DamagedError, Hashing, checked_lines
from refunds_ops.backup.storage import AbsentError, BackupStorage, read


class Key(Protocol):
    @property
    def fingerprint(self) -> str: ...

    def verifies(self, content: bytes, signature: bytes) -> bool: ...


@dataclass(frozen=True)
class BackupFinding:
    """Something that is wrong. ``kind``: ``modified``, ``missing``, ``moved``, ``extra``, ``gap``,
    ``signature``, ``chain``, ``overwritten`` or ``deleted``."""

    kind: str
    key: str
    what: str


@dataclass(frozen=True)
class Link:
    """One digest of the chain, and what is wrong with it. ``digest`` None: it can't be read."""

    sequence: int
    digest: Digest | None
    findings: Sequence[BackupFinding]


@dataclass
class BackupReport:
    """The findings, what was checked, and notes about things that are not wrong."""

    findings: list[BackupFinding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    digests: int = 0
    files: int = 0
    items: int = 0

    def add(self, kind: str, key: str, what: str) -> None:
        self.findings.append(BackupFinding(kind, key, what))


@dataclass(frozen=True)
class StoredDigest:
    """A digest as it is stored, including its bytes."""

    digest: Digest
    content: bytes
    signature: bytes | None


def published(storage: BackupStorage) -> list[int]:
    """The sequence numbers of the existing digests, in order."""
    return sorted(
        sequence
        for stored in storage.list(DIGESTS_PREFIX)
        if stored.key.endswith(".json") and (sequence := sequence_of(stored.key)) is not None
    )


def load(storage: BackupStorage, sequence: int) -> StoredDigest:
    """Raises ``DigestError`` and ``AbsentError``; checks nothing."""
    content = read(storage, digest_key(sequence))
    if content is None:
        raise AbsentError(digest_key(sequence))
    return StoredDigest(Digest.from_bytes(content), content, read(storage, signature_key(sequence)))


def newest(storage: BackupStorage) -> Digest | None:
    """The last published backup; None before the first. Checks nothing, as ``load``."""
    there = published(storage)
    return load(storage, there[-1]).digest if there else None


class BackupVerification:
    def __init__(
        self,
        storage: BackupStorage,
        keys: Sequence[Key],
        *,
        on_progress: Callable[[str, int, int], None] = lambda what, done, total: None,
    ) -> None:
        """``keys``: the trusted public keys, normally one. ``on_progress`` is called with what is
        being read, the bytes that are done, and all bytes."""
        self._storage = storage
        self._keys = {key.fingerprint: key for key in keys}
        self._on_progress = on_progress
        self._hashes: dict[str, str] = {}

    def run(
        self, *, at_least: int = 0, data_of: Callable[[Digest], bool] = lambda _: True
    ) -> BackupReport:
        """Verify the whole chain, and the files of the backups that ``data_of`` chooses; the files
        of other backups may have expired.

        ``at_least``: a sequence number known from elsewhere to have been published; without it, a
        chain whose newest digests were removed without a trace looks whole.
        """
        report = BackupReport()
        sizes = {stored.key: stored.size for stored in self._storage.list()}
        digests = self._chain(report, sizes.keys(), at_least)
        named = self._named(digests)
        strays, elsewhere = self._strays(report, sizes.keys(), digests, named)
        chosen = [file for digest in digests if data_of(digest) for file in digest.files()]
        total = sum(sizes.get(file.key, 0) for file in chosen)
        done = 0
        for file in chosen:
            self._on_progress(file.key, done, total)
            self._check(report, file, sizes, strays, elsewhere)
            done += sizes.get(file.key, 0)
        self._on_progress("", total, total)
        for key in sorted(strays):
            report.add("extra", key, "no digest names it")
        self._versions(report, {file.key for file in chosen})
        return report

    def links(self, at_most: int, pool: Executor) -> list[Link]:
        """The newest digests, newest first: each one's signature, and whether it follows from the
        one before. Reads no data, and says nothing of the chain before them."""
        there = published(self._storage)[-at_most - 1 :]
        stored = dict(zip(there, pool.map(self._load, there), strict=True))
        signed = dict(zip(there, pool.map(self._link_report, there, stored.values()), strict=True))
        found = []
        for sequence in there[-at_most:]:
            here, before = stored[sequence], stored.get(sequence - 1)
            report = signed[sequence]
            if isinstance(here, StoredDigest):
                older = before if isinstance(before, StoredDigest) else None
                self._follows(report, here.digest, older, here.digest.key)
                if before is None and sequence not in (FIRST_SEQUENCE, there[0]):
                    self._gap(report, sequence - 1, sequence)
            digest = here.digest if isinstance(here, StoredDigest) else None
            found.append(Link(sequence, digest, report.findings))
        return found[::-1]

    def _load(self, sequence: int) -> StoredDigest | BackupFinding:
        try:
            return load(self._storage, sequence)
        except DigestError as exc:
            return BackupFinding("modified", digest_key(sequence), str(exc))
        except AbsentError:
            return BackupFinding("gap", digest_key(sequence), "missing in the chain of digests")

    def _link_report(self, sequence: int, stored: StoredDigest | BackupFinding) -> BackupReport:
        if isinstance(stored, BackupFinding):
            return BackupReport([stored])
        report, key = BackupReport(), digest_key(sequence)
        if self._signed(report, stored, key, newest=True):
            self._in_place(report, stored.digest, key)
        return report

    # --- The chain --------------------------------------------------------------------------------

    def _chain(self, report: BackupReport, keys: Iterable[str], at_least: int) -> list[Digest]:
        """The digests that match what the trusted key signed, oldest first."""
        there = sorted({sequence for key in keys if (sequence := sequence_of(key)) is not None})
        good: list[Digest] = []
        before: StoredDigest | None = None
        expected = FIRST_SEQUENCE
        for sequence in there:
            key = digest_key(sequence)
            self._gap(report, expected, sequence)
            before = before if expected == sequence else None
            expected = sequence + 1
            try:
                stored = load(self._storage, sequence)
            except AbsentError:
                self._gap(report, sequence, sequence + 1)
                before = None
                continue
            except DigestError as exc:
                report.add("modified", key, str(exc))
                before = None
                continue
            report.digests += 1
            newest = sequence == there[-1]
            if self._signed(report, stored, key, newest=newest) and self._in_place(
                report, stored.digest, key
            ):
                good.append(stored.digest)
            self._follows(report, stored.digest, before, key)
            before = stored
        self._gap(report, expected, at_least + 1)
        if not there:
            report.notes.append("There is no backup yet.")
        return good

    def _gap(self, report: BackupReport, first: int, end: int) -> None:
        if first < end:
            to = "" if end == first + 1 else f" to {digest_key(end - 1)}"
            report.add("gap", digest_key(first), f"missing in the chain of digests{to}")

    def _signed(
        self, report: BackupReport, stored: StoredDigest, key: str, *, newest: bool
    ) -> bool:
        trusted = self._keys.get(stored.digest.fingerprint)
        if trusted is None:
            report.add("signature", key, f"signed by another key: {stored.digest.fingerprint}")
            return False
        beside = stored.signature
        attached = unhex(self._storage.signature(key))
        if beside is None and attached is None:
            report.add("missing", signature_key(stored.digest.sequence), "the digest's signature")
            return False
        good = True
        for signature, where in ((beside, "its .sig"), (attached, "its metadata")):
            if signature is not None and not trusted.verifies(stored.content, signature):
                report.add(
                    "modified", key, f"it, or the signature in {where}, was changed afterwards"
                )
                good = False
        if beside is None and good:
            sig = signature_key(stored.digest.sequence)
            if newest:
                report.notes.append(f"{sig} is not there yet; the next run stores it.")
            else:
                report.add("missing", sig, "the digest's signature; its metadata still has it")
        return good

    def _in_place(self, report: BackupReport, digest: Digest, key: str) -> bool:
        if digest.key != key:
            report.add("moved", key, f"this is the digest {digest.key}")
            return False
        if self._storage.bucket not in (None, digest.bucket):
            report.notes.append(f"{key} was written to the bucket {digest.bucket}.")
        return True

    def _follows(
        self, report: BackupReport, digest: Digest, before: StoredDigest | None, key: str
    ) -> None:
        previous = digest.previous
        if previous is None:
            if digest.sequence != FIRST_SEQUENCE:
                report.add("chain", key, "it says that it is the first")
        elif digest.sequence == FIRST_SEQUENCE:
            report.add("chain", key, f"it says that {previous.key} came before")
        elif before is not None and (
            (previous.key, previous.sha256) != (before.digest.key, sha256_hex(before.content))
            or before.signature not in (None, unhex(previous.signature))
        ):
            report.add("chain", key, "the digest before is not the one that it followed")

    # --- Files ------------------------------------------------------------------------------------

    def _named(self, digests: Iterable[Digest]) -> set[str]:
        named = {file.key for digest in digests for file in digest.files()}
        for digest in digests:
            named |= {digest.key, signature_key(digest.sequence)}
        return named

    def _strays(
        self, report: BackupReport, keys: Iterable[str], digests: Sequence[Digest], named: set[str]
    ) -> tuple[set[str], set[str]]:
        """Objects among the published backups that belong to none, and files that are in the wrong
        place."""
        prefixes = {digest.backup_prefix for digest in digests}
        strays, elsewhere = set(), set()
        for key in keys:
            if key in named or sequence_of(key) is not None:
                continue
            run = "/".join(key.split("/")[:5])
            if key.startswith(DIGESTS_PREFIX) or run in prefixes:
                strays.add(key)
            elif not key.startswith((f"{PREFIX}/runs/", DRILLS_PREFIX)):
                elsewhere.add(key)
        for run in sorted({"/".join(key.split("/")[:5]) for key in elsewhere}):
            report.notes.append(
                f"{run} belongs to no digest: its run has ended early or is still going."
            )
        return strays, elsewhere

    def _check(
        self,
        report: BackupReport,
        file: StoredFile,
        sizes: dict[str, int],
        strays: set[str],
        elsewhere: set[str],
    ) -> None:
        report.files += 1
        try:
            if isinstance(file, DataFile):
                for _ in checked_lines(self._storage, file):
                    report.items += 1
            elif self._sha256(file.key) != file.sha256:
                report.add("modified", file.key, "its hash is not the digest's")
        except AbsentError:
            if moved_to := self._moved_to(file, sizes, strays | elsewhere):
                strays.discard(moved_to)
                report.add("moved", file.key, f"it is at {moved_to}")
            else:
                report.add("missing", file.key, "the digest names it")
        except DamagedError as exc:
            what = str(exc)
            if isinstance(file, DataFile) and sizes.get(file.key, file.size) < file.size:
                what = f"{file.size - sizes[file.key]} of {file.size} bytes are cut off"
            report.add("modified", file.key, what)

    def _moved_to(
        self, file: StoredFile, sizes: dict[str, int], candidates: set[str]
    ) -> str | None:
        for key in sorted(candidates):
            if isinstance(file, DataFile) and sizes[key] != file.size:
                continue
            if self._sha256(key) == file.sha256:
                return key
        return None

    def _sha256(self, key: str) -> str:
        # A stray may be read more than once: each missing file may be any of them.
        if key not in self._hashes:
            with self._storage.open(key) as body:
                self._hashes[key] = Hashing(body).hexdigest()
        return self._hashes[key]

    def _versions(self, report: BackupReport, files: set[str]) -> None:
        """Object Lock prevents the deletion of versions, but not the writing of newer ones."""
        counts: dict[str, int] = {}
        for version in self._storage.versions():
            if version.key not in files and sequence_of(version.key) is None:
                continue
            if version.is_delete_marker:
                what = f"a delete marker, {version.version_id}, "
                what += "hides it" if version.is_latest else "once hid it"
                report.add("deleted", version.key, what)
            else:
                counts[version.key] = counts.get(version.key, 0) + 1
        for key, count in sorted(counts.items()):
            if count > 1:
                report.add("overwritten", key, f"{count} versions, although it was written once")


def unhex(text: str | None) -> bytes | None:
    """A signature as metadata has it; empty when it is not hex."""
    if text is None:
        return None
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""
