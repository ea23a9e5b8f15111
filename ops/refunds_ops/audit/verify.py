"""`refunds verify`: everything that is stored of refunds, held against everything else.

First all is scanned into a file on this machine and joined there: that finds suspects. Each suspect
is then read again, consistently, and only what is still wrong is a finding: rows that were written
while the scans ran, and entries that the stream has yet to deliver, are none.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import islice
from typing import Any

from refunds.audit import audit_entry, told
from refunds.audit_writer import NOT_AN_IMAGE, entry_of, same_entry
from refunds.dynamo import from_wire, item_from_wire
from refunds.gateway import GatewayRefund, GatewayStatus
from refunds.refund import AUDITED, ENDED_WITHOUT_MONEY, Item, Status
from refunds.times import Clock, from_rfc3339, later
from refunds_ops.audit.checks import Story, check_ledger, check_story
from refunds_ops.audit.failures import FailureReader, Kept
from refunds_ops.audit.findings import Finding
from refunds_ops.audit.latest_backup import BackupReader
from refunds_ops.audit.rows import Stray, entry_row, ledger_row, refund_row
from refunds_ops.audit.stage import Stage
from refunds_ops.audit.tables import Read, Tables, Wire

STREAM_LAG = timedelta(seconds=60)
"""How old a change must be before its missing entry is a gap; the stream takes a second or two."""

POLL_SECONDS = 2.0

RELEASE_LAG = timedelta(hours=1)
"""How long a refund that ended may be on its way to giving its reservation back."""

CLAIM_SECONDS = 5.0
"""How long a request may take from reserving to claiming."""

CLOCKS = timedelta(minutes=5)
"""How far the clocks of those who wrote entries and backups may differ."""

READ_AGAIN = 5
"""Times a suspect is read again because it changed between two reads."""

Progress = Callable[[str, Iterable[list[Any]], int], Iterator[list[Any]]]
"""Wraps pages of a table to show how far they have come; the number is about how many items."""


@dataclass
class Report:
    """What was looked at and what was found; ``more``: and there is more, past the limit."""

    checked: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    more: bool = False

    @property
    def clean(self) -> bool:
        return not self.findings

    def as_json(self) -> dict[str, Any]:
        return {
            "clean": self.clean,
            "checked": self.checked,
            "findings": [finding.as_json() for finding in self.findings],
            "notes": self.notes,
            "more": self.more,
        }


class Verification:
    """``backup``, ``failures`` and ``gateway`` (pages of its list) are left out when None."""

    def __init__(
        self,
        tables: Tables,
        *,
        clock: Clock,
        progress: Progress,
        backup: BackupReader | None = None,
        failures: FailureReader | None = None,
        gateway: Iterable[Sequence[GatewayRefund]] | None = None,
        max_findings: int = 1000,
        stream_lag: timedelta = STREAM_LAG,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._tables = tables
        self._clock = clock
        self._progress = progress
        self._backup = backup
        self._failures = failures
        self._gateway = gateway
        self._max_findings = max_findings
        self._stream_lag = stream_lag
        self._sleep = sleep

    def run(self) -> Report:
        report = Report()
        with Stage() as stage:
            self._scan(stage, report)
            with closing(self._all(stage)) as findings:
                report.findings = list(islice(findings, self._max_findings))
                report.more = next(findings, None) is not None
        return report

    # --- Scanning ---------------------------------------------------------------------------------

    def _scan(self, stage: Stage, report: Report) -> None:
        # The gateway and the backup first: what they show, the tables must have had before.
        if self._gateway is not None:
            for page in self._progress("gateway", map(list, self._gateway), 0):
                stage.add_gateway(page)
        if self._backup is not None:
            for wires in self._progress("backup", self._backup.pages("refunds"), 0):
                stage.add_backup_refunds(refund_row(wire) for wire in wires)
            for wires in self._progress("backup", self._backup.pages("audit"), 0):
                stage.add_backup_entries(entry_row(wire) for wire in wires)
        for wires in self._table("refunds"):
            stage.add_refunds(refund_row(wire) for wire in wires)
        for wires in self._table("ledger"):
            stage.add_ledgers(ledger_row(wire) for wire in wires)
        for wires in self._table("audit"):
            stage.add_entries(entry_row(wire) for wire in wires)
        stage.index()
        report.checked = {
            "refunds": stage.count("refunds"),
            "entries": stage.count("entries") + stage.count("strays"),
            "payments": stage.count("ledger"),
        }
        if self._backup is not None:
            report.checked["backup_entries"] = stage.count("backup_entries")
            report.notes.append(
                f"Held against the backup of {self._backup.digest.start_time}"
                + ("." if self._backup.signature_checked else ", its signature unchecked.")
            )
        if self._gateway is not None:
            report.checked["gateway_refunds"] = stage.count("gateway")

    def _table(self, name: str) -> Iterator[list[Wire]]:
        return self._progress(name, self._tables.pages(name), self._tables.about_how_many(name))

    # --- Finding ----------------------------------------------------------------------------------

    def _all(self, stage: Stage) -> Generator[Finding]:
        suspects = stage.count("refunds")
        stories = self._progress("chains", ([story] for story in stage.stories()), suspects)
        for [story] in stories:
            if check_story(story):
                yield from self._read_again(story)
        for stray in stage.strays():
            yield from self._stray(stray)
        for ledger, reserved in stage.ledgers():
            if check_ledger(ledger, reserved):
                yield from self._ledger(ledger.transaction_id)
        yield from self._stray_reservations(stage)
        if self._backup is not None:
            yield from self._backup.findings
            if not self._backup.findings:  # else what it lacks would look like what was added
                yield from self._against_backup(stage, self._backup.audited_until)
        if self._gateway is not None:
            yield from self._against_gateway(stage)
        if self._failures is not None:
            for kept in self._failures.unhandled():
                yield from self._kept(kept)

    def _read_again(self, suspect: Story) -> Iterator[Finding]:
        payments = {entry.transaction_id for entry in suspect.entries} | set(suspect.held)
        read = self.settled(suspect.refund_id, payments)
        for finding in check_story(read.story):
            if finding.kind == "reservation_left" and self._being_released(read.story):
                continue
            yield self._named(finding, read)

    def settled(self, refund_id: str, payments: set[str]) -> Read:
        """A refund's story, once its latest entry is there or is too late to be on its way."""
        read = self._unmoving(refund_id, payments)
        for _ in range(int(self._stream_lag.total_seconds() / POLL_SECONDS) + 1):
            refund = read.story.refund
            newest = max((entry.version for entry in read.story.entries), default=0)
            if refund is None or refund.version <= newest or not self._just_now(refund.updated_at):
                break
            self._sleep(POLL_SECONDS)
            read = self._unmoving(refund_id, payments)
        return read

    def _unmoving(self, refund_id: str, payments: set[str]) -> Read:
        for _ in range(READ_AGAIN):
            read = self._tables.read(refund_id, payments)
            if self._tables.refund(refund_id) == read.refund:
                break
        return read

    def _just_now(self, instant: str | None) -> bool:
        try:
            return self._clock.now() - from_rfc3339(instant or "") < self._stream_lag
        except ValueError:
            return False

    def _being_released(self, story: Story) -> bool:
        since = story.refund.open_since if story.refund else None
        try:
            return self._clock.now() - from_rfc3339(since or "") < RELEASE_LAG
        except ValueError:
            return False

    def _named(self, finding: Finding, read: Read) -> Finding:
        """The finding with all that differs, which takes the whole items."""
        if finding.kind == "refund_changed" and read.refund and finding.version:
            try:
                differ = differences(read.refund, read.entries[finding.version])
            except NOT_AN_IMAGE:
                return finding
            return replace(finding, what=differ or finding.what)
        if finding.kind == "gap" and finding.transaction_id and finding.version:
            entry_id = f"REFUND#{finding.refund_id}#{finding.version:06d}"
            other = self._tables.at(finding.transaction_id, entry_id)
            if other is not None:
                kind = other.get("record_type", {}).get("S", "no record_type")
                return replace(
                    finding, what=f"{finding.what}; its key is taken by a record of {kind}"
                )
        return finding

    def _stray(self, stray: Stray) -> Iterator[Finding]:
        wire = self._tables.at(stray.transaction_id, stray.entry_id)
        if wire is not None and wire.get("record_type") == {"S": "REFUND"}:
            yield Finding(
                kind="misplaced",
                what=f"{stray.entry_id} says it is a refund's, and is no entry's key",
                transaction_id=stray.transaction_id,
                where=stray.entry_id,
            )

    def _ledger(self, transaction_id: str) -> Iterator[Finding]:
        if there := self._tables.ledger_of(transaction_id):
            row, held = there
            yield from check_ledger(row, sum(held.values()))

    def _stray_reservations(self, stage: Stage) -> Iterator[Finding]:
        """Held for a refund that isn't there, or under another payment than the refund's."""
        suspects = [
            row
            for row in stage.ask(
                "SELECT refund_id, transaction_id FROM reservations s WHERE amount > 0"
                " AND NOT EXISTS (SELECT 1 FROM refunds r WHERE r.refund_id = s.refund_id"
                " AND r.transaction_id = s.transaction_id) LIMIT ?",
                self._max_findings + 1,
            )
            if self._stray_reservation(*row)
        ]
        if suspects:
            self._sleep(CLAIM_SECONDS)  # a request may be between reserving and claiming
        for row in suspects:
            if finding := self._stray_reservation(*row):
                yield finding

    def _stray_reservation(self, refund_id: str, transaction_id: str) -> Finding | None:
        there = self._tables.ledger_of(transaction_id)
        held = there[1].get(refund_id, 0) if there else 0
        wire = self._tables.refund(refund_id)
        home = refund_row(wire).transaction_id if wire else None
        if held <= 0 or home == transaction_id:
            return None
        return Finding(
            kind="reservation_stray",
            what=f"{held} reserved; "
            + (f"the refund is of payment {home}" if wire else "there is no such refund"),
            refund_id=refund_id,
            transaction_id=transaction_id,
        )

    # --- The latest backup ------------------------------------------------------------------------

    def _against_backup(self, stage: Stage, began: str) -> Iterator[Finding]:
        for refund_id, version, transaction_id, hash_ in stage.ask(
            "SELECT b.refund_id, b.version, b.transaction_id, b.entry_hash FROM backup_entries b"
            " LEFT JOIN entries e ON e.refund_id = b.refund_id AND e.version = b.version"
            " AND e.transaction_id = b.transaction_id WHERE e.entry_hash IS NOT b.entry_hash"
        ):
            wire = self._tables.at(transaction_id, f"REFUND#{refund_id}#{version:06d}")
            now = entry_row(wire).entry_hash if wire else None  # type: ignore[union-attr]
            if now != hash_:
                yield Finding(
                    kind="backup_entry_differs" if wire else "backup_entry_gone",
                    what="its hash is not the backup's" if wire else "the backup has it",
                    refund_id=refund_id,
                    transaction_id=transaction_id,
                    version=version,
                )
        surely_before = later(began, -CLOCKS)
        for refund_id, version, transaction_id, recorded_at in stage.ask(
            "SELECT e.refund_id, e.version, e.transaction_id, e.recorded_at FROM entries e"
            " WHERE e.recorded_at < ? AND NOT EXISTS (SELECT 1 FROM backup_entries b WHERE"
            " b.refund_id = e.refund_id AND b.version = e.version)",
            surely_before,
        ):
            yield Finding(
                kind="backup_entry_new",
                what=f"recorded_at {recorded_at}, and not in the backup begun {began}",
                refund_id=refund_id,
                transaction_id=transaction_id,
                version=version,
            )
        for refund_id, version, hash_ in stage.ask(
            "SELECT b.refund_id, b.version, b.entry_hash FROM backup_refunds b"
            " LEFT JOIN refunds r ON r.refund_id = b.refund_id WHERE r.refund_id IS NULL"
            " OR (r.version = b.version AND r.entry_hash IS NOT b.entry_hash)"
        ):
            yield from self._backed_up_refund(refund_id, version, hash_)

    def _backed_up_refund(self, refund_id: str, version: int, hash_: str) -> Iterator[Finding]:
        wire = self._tables.refund(refund_id)
        if wire is None:
            kind, what = "backup_refund_gone", f"the backup has its version {version}"
        else:
            row = refund_row(wire)
            if row.version != version or row.entry_hash == hash_:
                return
            kind, what = "backup_refund_differs", "its contents are not the backup's"
        yield Finding(kind=kind, what=what, refund_id=refund_id, version=version)

    # --- The gateway ------------------------------------------------------------------------------

    def _against_gateway(self, stage: Stage) -> Iterator[Finding]:
        for refund_id, number in stage.ask(
            "SELECT reference, count(*) FROM gateway WHERE status <> 'failed'"
            " AND reference IN (SELECT refund_id FROM refunds) GROUP BY reference"
            " HAVING count(*) > 1"
        ):
            yield Finding(
                kind="gateway_double", what=f"{number} refunds of this id", refund_id=refund_id
            )
        for refund_id, gateway_id, transaction_id, amount, currency, status in stage.ask(
            "SELECT g.reference, g.gateway_refund_id, g.transaction_id, g.amount, g.currency,"
            " g.status FROM gateway g JOIN refunds r ON r.refund_id = g.reference"
            " WHERE NOT (g.transaction_id IS r.transaction_id AND g.amount IS r.amount_minor"
            " AND g.currency IS r.currency AND (r.status, g.status) IN (VALUES"
            " ('SUCCEEDED', 'succeeded'), ('PENDING', 'pending'), ('FAILED', 'failed'),"
            " ('REVERSED', 'failed')))"
        ):
            shown = GatewayRefund(
                gateway_id, transaction_id, refund_id, amount, currency, GatewayStatus(status)
            )
            yield from self._shown(shown)
        for (refund_id,) in stage.ask(
            "SELECT refund_id FROM refunds r WHERE status IN ('SUCCEEDED', 'PENDING', 'REVERSED')"
            " AND NOT EXISTS (SELECT 1 FROM gateway g WHERE g.reference = r.refund_id)"
        ):
            yield from self._not_shown(refund_id)
        for transaction_id, captured, moved in stage.ask(
            "SELECT l.transaction_id, l.captured, sum(g.amount) FROM ledger l"
            " JOIN gateway g ON g.transaction_id = l.transaction_id AND g.status <> 'failed'"
            " GROUP BY l.transaction_id HAVING sum(g.amount) > l.captured"
        ):
            yield Finding(
                kind="gateway_overpaid",
                what=f"captured {captured}, refunded {moved}",
                transaction_id=transaction_id,
            )

    def _shown(self, shown: GatewayRefund) -> Iterator[Finding]:
        """A refund that the gateway's list shows otherwise than we do."""
        wire = self._tables.refund(shown.reference)
        row = refund_row(wire) if wire else None
        if row is None or row.problem:
            return
        ours = (row.transaction_id, row.amount_minor, row.currency)
        theirs = (shown.transaction_id, shown.amount_minor, shown.currency)
        status = Status(row.status)
        if ours != theirs and status is not Status.IN_REVIEW:
            kind = "gateway_differs"
            what = f"{ours} here, {theirs} there"
        elif status in ENDED_WITHOUT_MONEY and shown.status is not GatewayStatus.FAILED:
            kind, what = "gateway_paid", f"{status} here, {shown.status} there"
        elif status is Status.SUCCEEDED and shown.status is GatewayStatus.FAILED:
            kind, what = "gateway_failed", "SUCCEEDED here, failed there"
        elif status is Status.SUCCEEDED and shown.status is GatewayStatus.PENDING:
            kind, what = "gateway_differs", "SUCCEEDED here, still pending there"
        else:
            return  # on its way to the same, or in a person's hands already
        yield Finding(
            kind=kind,
            what=what,
            refund_id=row.refund_id,
            transaction_id=row.transaction_id,
            version=row.version,
            where=shown.gateway_refund_id,
        )

    def _not_shown(self, refund_id: str) -> Iterator[Finding]:
        wire = self._tables.refund(refund_id)
        row = refund_row(wire) if wire else None
        # Made after the list was read, it may well be there by now.
        if row is None or self._began_lately(row.updated_at):
            return
        yield Finding(
            kind="gateway_missing",
            what=f"{row.status} here, not in the gateway's list",
            refund_id=refund_id,
            transaction_id=row.transaction_id,
            version=row.version,
        )

    def _began_lately(self, instant: str | None) -> bool:
        try:
            return self._clock.now() - from_rfc3339(instant or "") < CLOCKS
        except ValueError:
            return False

    # --- Stream failures --------------------------------------------------------------------------

    def _kept(self, kept: Kept) -> Iterator[Finding]:
        if kept.problem:
            yield Finding(kind="stream_failure", what=kept.problem, where=kept.key)
        for record in kept.records:
            yield from self._kept_record(kept, record)

    def _kept_record(self, kept: Kept, record: Mapping[str, Any]) -> Iterator[Finding]:
        try:
            entry = entry_of(dict(record))
        except NOT_AN_IMAGE as exc:
            what = f"makes no entry ({type(exc).__name__}); kept because: {kept.reason}"
            yield Finding(kind="stream_failure", what=what, where=kept.key)
            return
        if entry is None or is_stored(self._tables, entry):
            return
        yield Finding(
            kind="stream_failure",
            what=f"its entry is not in the trail; kept because: {kept.reason}",
            refund_id=entry["refund_id"],
            transaction_id=entry["transaction_id"],
            version=entry["version"],
            where=kept.key,
        )


def is_stored(tables: Tables, entry: Item) -> bool:
    """Whether exactly this entry is in the trail."""
    wire = tables.at(entry["transaction_id"], entry["entry_id"])
    try:
        return wire is not None and same_entry(item_from_wire(wire), entry)
    except NOT_AN_IMAGE:
        return False


def differences(refund: Wire, entry: Wire) -> str:
    """What the refund's entry would say otherwise than the stored one, name by name.

    Raises one of ``NOT_AN_IMAGE`` when either can't be read.
    """
    image = {name: from_wire(refund[name]) for name in AUDITED if name in refund}
    expected, stored = _all_told(audit_entry(image)), _all_told(item_from_wire(entry))
    return "; ".join(
        f"{name} {expected.get(name)!r} in Refunds, {stored.get(name)!r} in the trail"
        for name in sorted(expected.keys() | stored.keys())
        if expected.get(name) != stored.get(name)
    )


def _all_told(entry: Item) -> Item:
    outer = told(entry)
    details: Item = outer.pop("details", {})
    return details | outer
