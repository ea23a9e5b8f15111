"""`refunds verify`: compares everything that is stored about refunds with everything else.

It scans all tables into a temporary file and joins them there, which finds suspects. Then it reads
each suspect again, consistently, and reports only what is still wrong. Rows written while the scans
ran, and entries that the stream has yet to deliver, are no findings.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import islice
from typing import Any

from refunds.audit.writer import NOT_AN_IMAGE, entry_of, same_entry
from refunds.domain.audit_entry import audit_entry, hashed_fields
from refunds.domain.clock import CLOCK_SKEW, Clock, from_rfc3339, later, rfc3339
from refunds.domain.identifiers import RECORD_TYPE, REFUND_ID, entry_id
from refunds.domain.refund import AUDITED, Item
from refunds.gateways.contract import GatewayRefund, GatewayStatus
from refunds.tables.state import MESSAGES_RETURN_WITHIN
from refunds.tables.wire import from_wire, item_from_wire
from refunds_ops.audit.checks import Story, begins, check_gateway, check_ledger, check_story
from refunds_ops.audit.failures import FailureReader, Kept
from refunds_ops.audit.findings import Finding
from refunds_ops.audit.latest_backup import BackupReader
from refunds_ops.audit.rebuild import OWN_RECORD
from refunds_ops.audit.row_store import RowStore
from refunds_ops.audit.rows import RefundRow, Stray, entry_row, ledger_row, refund_row
from refunds_ops.audit.tables import Read, Tables, Wire

STREAM_LAG = timedelta(seconds=60)
"""A change this old must have its audit entry. The stream takes a second or two."""

POLL_SECONDS = 2.0

RELEASE_LAG = timedelta(hours=1)
"""How long after its end a refund may still hold its reservation."""

CLAIM_SECONDS = 5.0
"""How long a request may take from its reservation to its claim."""

MAX_READS = 5
"""How often a suspect is read because it changed between two reads."""

MAX_REFUNDS_IN_NOTE = 20
"""A note names at most this many refunds."""

Ask = Callable[[str, str, str], Sequence[GatewayRefund] | None]
"""Returns what the named gateway shows for a refund id and its payment, or None when no such
gateway is configured."""

Progress = Callable[[str, Iterable[list[Any]], int], Iterator[list[Any]]]
"""Wraps the pages of a table to show progress. The number is the approximate item count."""


@dataclass
class Report:
    """What was checked and found. ``more``: there are findings beyond the limit."""

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
    """None leaves a source out: ``backup``, ``failures``, ``gateway`` (pages of its list),
    ``captured``
    (what the gateway captured of a payment) and ``ask``. Without ``ask``, refunds that changed
    since the list was begun are not compared with it."""

    def __init__(
        self,
        tables: Tables,
        *,
        clock: Clock,
        progress: Progress,
        backup: BackupReader | None = None,
        failures: FailureReader | None = None,
        gateway: Iterable[Sequence[GatewayRefund]] | None = None,
        ask: Ask | None = None,
        captured: Callable[[str], int | None] | None = None,
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
        self._ask = ask
        self._captured = captured
        self._listed_at = ""
        self._begun_again: list[str] = []
        self._raised: list[str] = []
        self._max_findings = max_findings
        self._stream_lag = stream_lag
        self._sleep = sleep

    def run(self) -> Report:
        report = Report()
        with RowStore() as store:
            self._scan(store, report)
            with closing(self._all(store)) as findings:
                report.findings = list(islice(findings, self._max_findings))
                report.more = next(findings, None) is not None
                report.notes += _rebuilt(store)
        if self._begun_again:
            report.notes.append(
                "Begun again after a restore or in new tables, which did not know them: "
                f"{_names(self._begun_again)}."
            )
        if self._raised:
            report.notes.append(
                "More is captured than in the backup, which --gateway would look into: "
                f"payments {_names(self._raised)}."
            )
        return report

    # --- Scanning ---------------------------------------------------------------------------------

    def _scan(self, store: RowStore, report: Report) -> None:
        # The gateway and the backup first: the tables must already have what these show.
        self._scan_evidence(store)
        self._scan_tables(store)
        store.index()
        report.checked = {
            "refunds": store.count("refunds"),
            "entries": store.count("entries") + store.count("strays"),
            "payments": store.count("ledger"),
        }
        if self._backup is not None:
            report.checked["backup_entries"] = store.count("backup_entries")
            report.notes.append(
                f"Compared with the backup of {self._backup.digest.start_time}"
                + ("." if self._backup.signature_checked else ", its signature unchecked.")
            )
        if self._gateway is not None:
            report.checked["gateway_refunds"] = store.count("gateway")

    def _scan_evidence(self, store: RowStore) -> None:
        if self._gateway is not None:
            self._listed_at = rfc3339(self._clock.now())
            for page in self._progress("gateway", map(list, self._gateway), 0):
                store.add_gateway(page)
        if self._backup is not None:
            for refunds in self._progress("backup", self._backup.pages("refunds", refund_row), 0):
                store.add_backup_refunds(refunds)
            for ledgers in self._progress("backup", self._backup.pages("ledger", ledger_row), 0):
                store.add_backup_ledgers(ledgers)
            for entries in self._progress("backup", self._backup.pages("audit", entry_row), 0):
                store.add_backup_entries(entries)

    def _scan_tables(self, store: RowStore) -> None:
        for wires in self._table("refunds"):
            store.add_refunds(refund_row(wire) for wire in wires)
        for wires in self._table("ledger"):
            store.add_ledgers(ledger_row(wire) for wire in wires)
        for wires in self._table("audit"):
            store.add_entries(entry_row(wire) for wire in wires)

    def _table(self, name: str) -> Iterator[list[Wire]]:
        return self._progress(name, self._tables.pages(name), self._tables.about_how_many(name))

    # --- Finding ----------------------------------------------------------------------------------

    def _all(self, store: RowStore) -> Generator[Finding]:
        yield from self._in_tables(store)
        yield from self._against_evidence(store)
        if self._failures is not None:
            for kept in self._failures.unhandled():
                yield from self._kept(kept)

    def _in_tables(self, store: RowStore) -> Iterator[Finding]:
        suspects = store.count("refunds")
        stories = self._progress("chains", ([story] for story in store.stories()), suspects)
        for [story] in stories:
            if check_story(story):
                yield from self._read_again(story)
        for stray in store.strays():
            yield from self._stray(stray)
        for ledger, reserved in store.ledgers():
            if check_ledger(ledger, reserved):
                yield from self._ledger(ledger.transaction_id)
        yield from self._stray_reservations(store)

    def _against_evidence(self, store: RowStore) -> Iterator[Finding]:
        if self._backup is not None:
            yield from self._backup.findings
            if not self._backup.findings:  # else what it lacks would look like what was added
                yield from self._against_backup(store, self._backup.audited_until)
                yield from self._captured_more(store)
        if self._gateway is not None:
            yield from self._against_gateway(store)

    def _read_again(self, suspect: Story) -> Iterator[Finding]:
        payments = {entry.transaction_id for entry in suspect.entries} | set(suspect.held)
        read = self.settled(suspect.refund_id, payments)
        for finding in check_story(read.story):
            if finding.kind == "reservation_left" and self._being_released(read.story):
                continue
            if finding.kind == "transition" and self._forgotten(finding, read.story):
                self._begun_again.append(f"{finding.refund_id} v{finding.version}")
                continue
            yield self._named(finding, read)

    def settled(self, refund_id: str, payments: set[str]) -> Read:
        """A refund's records, once its entries are there or too old to be on their way."""
        read = self._unmoving(refund_id, payments)
        for _ in range(int(self._stream_lag.total_seconds() / POLL_SECONDS) + 1):
            refund = read.story.refund
            if refund is None or refund.problem or not self._lately(refund.updated_at):
                break
            if len({entry.version for entry in read.story.entries}) >= refund.version:
                break
            self._sleep(POLL_SECONDS)
            read = self._unmoving(refund_id, payments)
        return read

    def _unmoving(self, refund_id: str, payments: set[str]) -> Read:
        for _ in range(MAX_READS):
            read = self._tables.read(refund_id, payments)
            if self._tables.refund(refund_id) == read.refund:
                break
        return read

    def _lately(self, instant: str | None) -> bool:
        return self._within(self._stream_lag, instant)

    def _being_released(self, story: Story) -> bool:
        return self._within(RELEASE_LAG, story.refund.open_since if story.refund else None)

    def _within(self, lag: timedelta, instant: str | None) -> bool:
        """Whether the instant is at most ``lag`` ago. We never write instants of the future."""
        try:
            return -CLOCK_SKEW <= self._clock.now() - from_rfc3339(instant or "") < lag
        except (ValueError, OverflowError):
            return False

    def _forgotten(self, finding: Finding, story: Story) -> bool:
        """Whether a refund began again while messages of forgotten refunds could still return."""
        key = finding.version, finding.transaction_id
        entry = next(each for each in story.entries if (each.version, each.transaction_id) == key)
        try:
            until = from_rfc3339(self._tables.look_up_first_until() or "")
            began = from_rfc3339(entry.occurred_at or "")
            return begins(entry) and until - MESSAGES_RETURN_WITHIN <= began < until
        except (ValueError, OverflowError):
            return False

    def _named(self, finding: Finding, read: Read) -> Finding:
        """The finding with every difference, read from the complete items."""
        if finding.kind == "refund_changed" and read.refund and finding.version:
            try:
                differ = differences(read.refund, read.entries[finding.version])
            except NOT_AN_IMAGE:
                return finding
            return replace(finding, what=differ or finding.what)
        if finding.kind == "gap" and finding.transaction_id and finding.version:
            key = entry_id(finding.refund_id or "", finding.version)
            other = self._tables.at(finding.transaction_id, key)
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

    def _stray_reservations(self, store: RowStore) -> Iterator[Finding]:
        """Reservations of a refund that doesn't exist, or of another payment than the refund's."""
        suspects = [
            row
            for row in store.ask(
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

    def _against_backup(self, store: RowStore, began: str) -> Iterator[Finding]:
        for refund_id, version, transaction_id, hash_, recorded_at, rebuilt in store.ask(
            "SELECT b.refund_id, b.version, b.transaction_id, b.entry_hash, b.recorded_at,"
            " b.rebuilt FROM backup_entries b"
            " LEFT JOIN entries e ON e.refund_id = b.refund_id AND e.version = b.version"
            " AND e.transaction_id = b.transaction_id WHERE e.entry_hash IS NOT b.entry_hash"
            # One that was made again says so, and when: then only the hash is the lost one's.
            " OR (e.rebuilt IS NULL"
            " AND (e.recorded_at IS NOT b.recorded_at OR b.rebuilt IS NOT NULL))"
        ):
            wire = self._tables.at(transaction_id, entry_id(refund_id, version))
            if wire is not None and _is_backed_up(wire, hash_, recorded_at, rebuilt):
                continue  # put back since the scan
            kind, what = "backup_entry_differs", "its hash is not the backup's"
            if wire is None or wire.get("record_type") != {"S": RECORD_TYPE}:
                kind = "backup_entry_gone"
                what = "its key is taken by another record" if wire else "the backup has it"
            elif wire.get("entry_hash") == {"S": hash_}:
                what = "recorded_at, or that it was rebuilt, is not as in the backup"
            yield Finding(
                kind=kind,
                what=what,
                refund_id=refund_id,
                transaction_id=transaction_id,
                version=version,
            )
        surely_before = later(began, -CLOCK_SKEW)
        for refund_id, version, transaction_id, recorded_at in store.ask(
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
        for refund_id, version, hash_ in store.ask(
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

    def _captured_more(self, store: RowStore) -> Iterator[Finding]:
        """More captured than in the backup: by another capture, or by a hand that wants more
        room."""
        for transaction_id, before in store.ask(
            "SELECT b.transaction_id, b.captured FROM backup_ledger b JOIN ledger l"
            " ON l.transaction_id = b.transaction_id WHERE l.captured > b.captured"
        ):
            there = self._tables.ledger_of(transaction_id)
            now = there[0].captured if there else None
            if now is None or now <= before:
                continue
            if self._captured is None:
                self._raised.append(transaction_id)
            elif (known := self._captured(transaction_id)) is None or known < now:
                yield Finding(
                    kind="captured_raised",
                    what=f"captured {now}; {before} in the backup, {known} at the gateway",
                    transaction_id=transaction_id,
                )

    # --- The gateway ------------------------------------------------------------------------------

    def _against_gateway(self, store: RowStore) -> Iterator[Finding]:
        for (refund_id,) in store.ask(
            "SELECT reference FROM gateway WHERE status <> 'failed'"
            " AND reference IN (SELECT refund_id FROM refunds) GROUP BY reference"
            " HAVING count(*) > 1"
            " UNION SELECT r.refund_id FROM gateway g JOIN refunds r ON r.refund_id = g.reference"
            " WHERE NOT (g.transaction_id IS r.transaction_id AND g.amount IS r.amount_minor"
            " AND g.currency IS r.currency AND (r.status, g.status) IN (VALUES"
            " ('SUCCEEDED', 'succeeded'), ('PENDING', 'pending'), ('FAILED', 'failed'),"
            " ('REVERSED', 'failed'))"
            " AND coalesce(r.gateway_refund_id, g.gateway_refund_id) IS g.gateway_refund_id)"
            " UNION SELECT refund_id FROM refunds r"
            " WHERE status IN ('SUCCEEDED', 'PENDING', 'REVERSED')"
            " AND NOT EXISTS (SELECT 1 FROM gateway g WHERE g.reference = r.refund_id)"
        ):
            yield from self._refund_at_gateway(store, refund_id)
        for (transaction_id,) in store.ask(
            "SELECT l.transaction_id FROM ledger l"
            " JOIN gateway g ON g.transaction_id = l.transaction_id AND g.status <> 'failed'"
            " GROUP BY l.transaction_id HAVING sum(g.amount) > l.captured"
        ):
            yield from self._payment_at_gateway(store, transaction_id)

    def _refund_at_gateway(self, store: RowStore, refund_id: str) -> Iterator[Finding]:
        for _ in range(MAX_READS):
            wire = self._tables.refund(refund_id)
            if wire is None:
                return
            refund = refund_row(wire)
            shown = self._shown(store.listed("reference", refund_id), refund)
            if shown is None:
                return
            if self._tables.refund(refund_id) == wire:
                yield from check_gateway(refund, shown)
                return

    def _payment_at_gateway(self, store: RowStore, transaction_id: str) -> Iterator[Finding]:
        there = self._tables.ledger_of(transaction_id)
        captured = there[0].captured if there else None
        shown = store.listed("transaction_id", transaction_id)
        for refund_id in {each.reference for each in shown}:
            wire = self._tables.refund(refund_id)
            mine = [each for each in shown if each.reference == refund_id]
            now = self._shown(mine, refund_row(wire)) if wire else mine
            if now is None:
                return
            shown = [each for each in shown if each.reference != refund_id] + [*now]
        moved = sum(
            each.amount_minor
            for each in shown
            if each.status is not GatewayStatus.FAILED and each.transaction_id == transaction_id
        )
        if captured is not None and moved > captured:
            yield Finding(
                kind="gateway_overpaid",
                what=f"captured {captured}, refunded {moved}",
                transaction_id=transaction_id,
            )

    def _shown(
        self, listed: Sequence[GatewayRefund], refund: RefundRow
    ) -> Sequence[GatewayRefund] | None:
        """What the gateway shows of a refund: from its list, or asked again when the refund may
        have changed since the list was begun. None when the gateway can't be asked."""
        if (refund.updated_at or "") < later(self._listed_at, -CLOCK_SKEW):
            return listed
        if self._ask is None or not (refund.gateway and refund.transaction_id):
            return None
        return self._ask(refund.gateway, refund.refund_id, refund.transaction_id)

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
            about = _refund_of(record)
            yield Finding(kind="stream_failure", what=what, refund_id=about, where=kept.key)
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


def _is_backed_up(
    wire: Wire, hash_: str | None, recorded_at: str | None, rebuilt: str | None
) -> bool:
    """Whether a stored entry is the backup's. A rebuilt one has the lost entry's hash only."""
    row = entry_row(wire)
    if isinstance(row, Stray) or wire.get("record_type") != {"S": RECORD_TYPE}:
        return False
    same_record = row.recorded_at == recorded_at and rebuilt is None
    return row.entry_hash == hash_ and (row.rebuilt is not None or same_record)


def _refund_of(record: Mapping[str, Any]) -> str | None:
    try:
        refund_id: str = record["dynamodb"]["Keys"]["refund_id"]["S"]
        return refund_id if REFUND_ID.fullmatch(refund_id) else None
    except NOT_AN_IMAGE:
        return None


def _rebuilt(store: RowStore) -> list[str]:
    """Rebuilt entries stay visible, above all those that nothing else proves."""
    again = store.count("entries WHERE rebuilt IS NOT NULL")
    if not again:
        return []
    alone = [
        f"{refund_id} v{version}"
        for refund_id, version in store.ask(
            "SELECT refund_id, version FROM entries WHERE rebuilt = ? ORDER BY refund_id, version",
            OWN_RECORD,
        )
    ]
    note = f"{again} entries of the trail were rebuilt"
    return [
        f"{note}; from the refund's own record alone: {_names(alone)}." if alone else f"{note}."
    ]


def _names(names: Sequence[str]) -> str:
    more = (
        f" and {len(names) - MAX_REFUNDS_IN_NOTE} more" if len(names) > MAX_REFUNDS_IN_NOTE else ""
    )
    return ", ".join(names[:MAX_REFUNDS_IN_NOTE]) + more


def is_stored(tables: Tables, entry: Item) -> bool:
    """Whether exactly this entry is in the trail."""
    wire = tables.at(entry["transaction_id"], entry["entry_id"])
    try:
        return wire is not None and same_entry(item_from_wire(wire), entry)
    except NOT_AN_IMAGE:
        return False


def differences(refund: Wire, entry: Wire) -> str:
    """How the entry that the record makes differs from the stored one, attribute by attribute.

    Raises one of ``NOT_AN_IMAGE`` when either can't be read.
    """
    image = {name: from_wire(refund[name]) for name in AUDITED if name in refund}
    expected, stored = (
        _all_hashed_fields(audit_entry(image)),
        _all_hashed_fields(item_from_wire(entry)),
    )
    return "; ".join(
        f"{name} {expected.get(name)!r} in Refunds, {stored.get(name)!r} in the trail"
        for name in sorted(expected.keys() | stored.keys())
        if expected.get(name) != stored.get(name)
    )


def _all_hashed_fields(entry: Item) -> Item:
    outer = hashed_fields(entry)
    details: Item = outer.pop("details", {})
    return details | outer
