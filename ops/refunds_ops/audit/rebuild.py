"""Rebuilds lost entries, but only those that the chain proves to be identical to the lost ones.

An entry is a pure function of a refund's image, so any stored image of a version makes its entry
again. Images are in the stream records that failed, in the refund itself for its latest version,
and in the records of the version after, whose old image it is. A candidate is stored only if its
hash is the one that the version after names; the latest version has none after it, so there all
images that are left must agree, and with what the newest backup holds of that version. An image
that a person has put away as wrong is none then. What can't be proven stays a gap.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from refunds.audit.writer import same_entry
from refunds.domain.audit_entry import NOT_AN_IMAGE, audit_entry
from refunds.domain.clock import Clock, rfc3339
from refunds.domain.identity import Identity
from refunds.domain.refund import AUDITED, Item
from refunds.tables.audit_trail import AuditTable
from refunds.tables.wire import from_wire
from refunds_ops.audit.failures import CLOSED, FailureReader, entries_seen
from refunds_ops.audit.findings import Finding
from refunds_ops.audit.latest_backup import BackupReader
from refunds_ops.audit.rows import EntryRow, entry_row, refund_row
from refunds_ops.audit.tables import Read

_MISSING = frozenset({"gap", "no_entries", "orphan", "stream_failure"})

OWN_RECORD = "the refund's record"
"""The source of an entry that no other image confirms."""

Key = tuple[str, int]
"""A refund id and a version."""


@dataclass(frozen=True)
class Candidate:
    entry: Item
    source: str
    """Where its image was: an object's key, or the refund itself."""


@dataclass(frozen=True)
class Outcome:
    """The result for one lost entry: the ``source`` it was rebuilt from, or why it can't be
    rebuilt."""

    refund_id: str
    version: int
    source: str | None = None
    why_not: str | None = None


def lost(findings: Iterable[Finding]) -> dict[str, set[str]]:
    """The refunds whose entries `verify` missed, each with the payments it found them under."""
    places: dict[str, set[str]] = {}
    for finding in findings:
        if finding.kind in _MISSING and finding.refund_id:
            found = places.setdefault(finding.refund_id, set())
            found |= {finding.transaction_id} if finding.transaction_id else set()
    return places


def payments_in(seen: Mapping[Key, Sequence[Candidate]]) -> dict[str, set[str]]:
    """The payments that the candidates for each refund's entries name."""
    payments: dict[str, set[str]] = {}
    for (refund_id, _), candidates in seen.items():
        found = payments.setdefault(refund_id, set())
        found |= {candidate.entry["transaction_id"] for candidate in candidates}
    return payments


def candidates_in(failures: FailureReader, wanted: set[str]) -> dict[Key, list[Candidate]]:
    """The entries of some refunds that the failed stream records allow to make."""
    found: dict[Key, list[Candidate]] = {}
    for kept in failures.everything():
        for record in kept.records:
            for entry in entries_seen(record):
                if entry["refund_id"] in wanted:
                    key = entry["refund_id"], entry["version"]
                    found.setdefault(key, []).append(Candidate(entry, kept.key))
    return found


def backed_up(backup: BackupReader, wanted: set[str]) -> dict[Key, str | None]:
    """What a backup says is the hash of the wanted refunds' entries; nothing if it is damaged."""
    found: dict[Key, str | None] = {}
    for refunds in backup.pages("refunds", refund_row):
        found |= {
            (each.refund_id, each.version): each.entry_hash
            for each in refunds
            if each.refund_id in wanted and not each.problem
        }
    for entries in backup.pages("audit", entry_row):
        found |= {
            (each.refund_id, each.version): each.entry_hash
            for each in entries
            if isinstance(each, EntryRow) and each.refund_id in wanted and not each.problem
        }
    return {} if backup.findings else found


class Rebuilder:
    """``by`` is noted in what is rebuilt; a dry run stores nothing. ``backed_up``: as above."""

    def __init__(
        self,
        audit: AuditTable,
        clock: Clock,
        by: Identity,
        *,
        backed_up: Mapping[Key, str | None] | None = None,
        dry_run: bool = False,
    ) -> None:
        self._audit = audit
        self._clock = clock
        self._by = by
        self._backed_up = backed_up or {}
        self._dry_run = dry_run

    def rebuild(self, read: Read, seen: Mapping[Key, Sequence[Candidate]]) -> Iterator[Outcome]:
        """Rebuild a refund's missing entries, latest first: each proves the one before it."""
        story = read.story
        hashes = {entry.version: entry.entry_hash for entry in story.entries if not entry.problem}
        previous = {
            entry.version: entry.previous_hash for entry in story.entries if not entry.problem
        }
        taken = {entry.version for entry in story.entries}
        current = _current(read)
        if current:
            hashes.setdefault(current.entry["version"], current.entry["entry_hash"])
            previous.setdefault(current.entry["version"], current.entry["previous_hash"])
        last = max([*hashes, *taken], default=0)
        while story.refund is None and (story.refund_id, last + 1) in seen:
            last += 1  # Up to its removal, which is recorded nowhere else.
        for version in range(last, 0, -1):
            if version in taken:
                continue
            candidates = [*seen.get((story.refund_id, version), ())]
            if current and current.entry["version"] == version:
                candidates.append(current)
            fits, why_not = _fitting(version, candidates, hashes, previous, latest=version == last)
            if fits is not None and (why := self._contradicted(fits)):
                fits, why_not = None, why
            if fits is not None and (why_not := self._put(fits)) is None:
                hashes[version] = fits.entry["entry_hash"]
                previous[version] = fits.entry["previous_hash"]
                yield Outcome(story.refund_id, version, source=fits.source)
            else:
                yield Outcome(story.refund_id, version, why_not=why_not)

    def _contradicted(self, candidate: Candidate) -> str | None:
        entry = candidate.entry
        hash_ = self._backed_up.get((entry["refund_id"], entry["version"]), entry["entry_hash"])
        return None if hash_ == entry["entry_hash"] else "the newest backup holds another one"

    def _put(self, candidate: Candidate) -> str | None:
        """Store it, marked; returns why it was not."""
        if self._dry_run:
            return None
        stored = self._audit.put_new(
            candidate.entry
            | {
                "recorded_at": rfc3339(self._clock.now()),
                "rebuilt": {**self._by.recorded(), "from": candidate.source},
            }
        )
        if stored is not None and not same_entry(stored, candidate.entry):
            return "something else is stored under its key"
        return None


def _fitting(
    version: int,
    candidates: Sequence[Candidate],
    hashes: Mapping[int, str | None],
    previous: Mapping[int, str | None],
    *,
    latest: bool,
) -> tuple[Candidate | None, str | None]:
    """The candidate that the chain proves to be the lost entry, or why there is none."""
    if version + 1 not in previous:
        candidates = [each for each in candidates if not each.source.startswith(CLOSED)]
    if not candidates:
        return None, "no image of it is left"
    if version + 1 in previous:
        named = previous[version + 1]
        candidates = [each for each in candidates if each.entry["entry_hash"] == named]
        if not candidates:
            return None, "no image that is left is the one that its successor names"
    elif not latest:
        return None, "its successor is lost too, so nothing proves the image that is left"
    elif len({each.entry["entry_hash"] for each in candidates}) > 1:
        return None, "the images that are left differ, and no successor tells which was it"
    if version - 1 in hashes and hashes[version - 1] != candidates[0].entry["previous_hash"]:
        return None, "the image that is left does not follow the version before"
    return candidates[0], None


def _current(read: Read) -> Candidate | None:
    if read.refund is None:
        return None
    try:
        image = {name: from_wire(read.refund[name]) for name in AUDITED if name in read.refund}
        return Candidate(audit_entry(image), OWN_RECORD)
    except NOT_AN_IMAGE:
        return None
