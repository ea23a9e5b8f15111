"""What is wrong in the tables themselves: each suspect of a scan is read again, consistently."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta

from refunds.domain.audit_entry import NOT_AN_IMAGE, audit_entry, hashed_fields
from refunds.domain.clock import CLOCK_SKEW, Clock, from_rfc3339
from refunds.domain.identifiers import entry_id
from refunds.domain.refund import AUDITED, Item
from refunds.tables.state import MESSAGES_RETURN_WITHIN
from refunds.tables.wire import from_wire, item_from_wire
from refunds_ops.audit.checks import Story, begins, check_ledger, check_story
from refunds_ops.audit.findings import Finding
from refunds_ops.audit.row_store import RowStore
from refunds_ops.audit.rows import Stray, refund_row
from refunds_ops.audit.side_by_side import ReadAll
from refunds_ops.audit.suspects import Suspect
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


@dataclass(frozen=True)
class Verdict:
    """What is wrong with a refund. ``begun_again``: its versions that began a second time, because
    its tables had forgotten it."""

    findings: list[Finding] = field(default_factory=list)
    begun_again: list[str] = field(default_factory=list)


class CrossCheck:
    """Compares refunds, audit entries and ledgers with each other. Its methods can be called from
    several threads at once."""

    def __init__(
        self,
        tables: Tables,
        *,
        clock: Clock,
        stream_lag: timedelta = STREAM_LAG,
        sleep: Callable[[float], object] | None = None,
    ) -> None:
        self._tables = tables
        self._clock = clock
        self._stream_lag = stream_lag
        self._ended = threading.Event()
        self._sleep = sleep or self._ended.wait

    def __enter__(self) -> CrossCheck:
        return self

    def __exit__(self, *_: object) -> None:
        """Who still waits for an entry waits no longer: Ctrl-C would, for as long."""
        self._ended.set()

    def refund(self, suspect: Suspect) -> Verdict:
        read = self.settled(suspect.refund_id, set(suspect.payments))
        verdict = Verdict()
        for finding in check_story(read.story):
            if finding.kind == "reservation_left" and self._being_released(read.story):
                continue
            if finding.kind == "transition" and self._forgotten(finding, read.story):
                verdict.begun_again.append(f"{finding.refund_id} v{finding.version}")
                continue
            verdict.findings.append(self._named(finding, read))
        return verdict

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
            if self._ended.is_set():
                break
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

    def stray(self, stray: Stray) -> list[Finding]:
        wire = self._tables.at(stray.transaction_id, stray.entry_id)
        if wire is None or wire.get("record_type") != {"S": "REFUND"}:
            return []
        return [
            Finding(
                kind="misplaced",
                what=f"{stray.entry_id} says it is a refund's, and is no entry's key",
                transaction_id=stray.transaction_id,
                where=stray.entry_id,
            )
        ]

    def ledger(self, transaction_id: str) -> list[Finding]:
        if not (there := self._tables.ledger_of(transaction_id)):
            return []
        row, held = there
        return check_ledger(row, sum(held.values()))

    def stray_reservations(
        self, store: RowStore, limit: int, read_all: ReadAll
    ) -> Iterator[Finding]:
        """Reservations of a refund that doesn't exist, or of another payment than the refund's."""
        rows = list(
            store.ask(
                "SELECT refund_id, transaction_id FROM reservations s WHERE amount > 0"
                " AND NOT EXISTS (SELECT 1 FROM refunds r WHERE r.refund_id = s.refund_id"
                " AND r.transaction_id = s.transaction_id) LIMIT ?",
                limit,
            )
        )
        found = read_all(self._stray_reservation, rows)
        suspects = [row for row, finding in zip(rows, found, strict=True) if finding]
        if suspects:
            self._sleep(CLAIM_SECONDS)  # a request may be between reserving and claiming
        yield from filter(None, read_all(self._stray_reservation, suspects))

    def _stray_reservation(self, reservation: tuple[str, str]) -> Finding | None:
        refund_id, transaction_id = reservation
        held = self._tables.reservation_of(transaction_id, refund_id)[1] or 0
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
