"""What must hold of one refund's story, and of one payment's ledger: pure functions.

The same checks run twice: over what was scanned, to find suspects, and over what a consistent read
shows of a suspect, to find what is really wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from refunds.audit import DELETED_EVENT
from refunds.refund import ENDED_WITHOUT_MONEY, TRANSITIONS, Status
from refunds_ops.audit.findings import Finding
from refunds_ops.audit.rows import EntryRow, LedgerRow, RefundRow

_FIRST = frozenset({Status.PROCESSING, Status.REJECTED})


@dataclass(frozen=True)
class Story:
    """All that is stored of one refund. ``held``: payment to what its ledger has under ``r#``."""

    refund_id: str
    refund: RefundRow | None = None
    entries: Sequence[EntryRow] = ()
    held: Mapping[str, int] = field(default_factory=dict)


def check_story(story: Story) -> list[Finding]:
    """All that is wrong with a refund, its entries and its reservation."""
    return [*check_trail(story), *_check_reservation(story)]


def check_trail(story: Story) -> list[Finding]:
    """All that is wrong with a refund and its entries."""
    if story.refund is not None and story.refund.problem:
        kind, what = story.refund.problem
        return [Finding(kind=kind, what=what, refund_id=story.refund_id)]
    home = _home(story)
    by_version = {entry.version: entry for entry in story.entries if entry.transaction_id == home}
    found = [_of(entry, *entry.problem) for entry in by_version.values() if entry.problem]
    for entry in story.entries:
        if entry.transaction_id == home:
            continue
        if entry.version in by_version:
            found.append(_of(entry, "double", f"the version is also under payment {home}"))
        else:
            found.append(_of(entry, "misplaced", f"the refund is of payment {home}"))
    found += _chain(story, by_version)
    found += _against_refund(story, by_version)
    return found


def _home(story: Story) -> str | None:
    """The payment whose refund it is: by the refund, or by most of its entries."""
    if story.refund is not None:
        return story.refund.transaction_id
    places = [entry.transaction_id for entry in story.entries]
    return max(places, key=places.count, default=None)


def _chain(story: Story, by_version: Mapping[int, EntryRow]) -> list[Finding]:
    found: list[Finding] = []
    versions = sorted(by_version)
    if versions and versions[0] > 1:
        found.append(_gap(story, by_version, 1, versions[0] - 1))
    for before, after in pairwise(versions):
        if after > before + 1:
            found.append(_gap(story, by_version, before + 1, after - 1))
        else:
            found += _link(by_version[before], by_version[after])
    if 1 in by_version and not by_version[1].problem:
        first = by_version[1]
        if first.previous_hash is not None:
            found.append(_of(first, "chain", "the first version names one before it"))
        if first.status not in _FIRST:
            found.append(_of(first, "transition", f"a refund can't begin as {first.status}"))
    return found


def _link(before: EntryRow, after: EntryRow) -> list[Finding]:
    """How an entry goes with the one before it. What is unsound in itself is told already."""
    if before.problem or after.problem:
        return []
    if after.previous_hash != before.entry_hash:
        return [_of(after, "chain", f"previous_hash is not version {before.version}'s entry_hash")]
    if DELETED_EVENT in (before.event, after.event):
        return []
    if (after.amount_minor, after.currency) != (before.amount_minor, before.currency):
        return [_of(after, "transition", "the amount is not that of the version before")]
    if after.previous_status is None and after.status == Status.PROCESSING:
        return []  # the record was lost and the request came again: the chain goes on
    legal: frozenset[str] = frozenset(TRANSITIONS.get(Status(before.status or ""), ()))
    if after.previous_status != before.status or after.status not in legal:
        told = f"{before.status} to {after.status} (previous_status {after.previous_status})"
        return [_of(after, "transition", told)]
    return []


def _against_refund(story: Story, by_version: Mapping[int, EntryRow]) -> list[Finding]:
    refund = story.refund
    last = max(by_version, default=0)
    if refund is None:
        if not last:
            return []
        entry = by_version[last]
        if entry.event == DELETED_EVENT:
            return [_of(entry, "removed", "the refund was removed from Refunds")]
        return [_of(entry, "orphan", "there is no such refund in Refunds")]
    if not last:
        return [_about(refund, "no_entries", f"{refund.status} without a single entry")]
    if refund.version > last:
        return [_gap(story, by_version, last + 1, refund.version)]
    if refund.version < last:
        told = f"Refunds holds version {refund.version}, the trail goes to {last}"
        return [_about(refund, "refund_behind", told)]
    same = by_version[last]
    if same.entry_hash != refund.entry_hash and not same.problem:
        return [_about(refund, "refund_changed", _difference(refund, same))]
    return []


def _difference(refund: RefundRow, entry: EntryRow) -> str:
    told = [
        f"{name} {in_refunds} in Refunds, {in_trail} in the trail"
        for name, in_refunds, in_trail in (
            ("status", refund.status, entry.status),
            ("amount_minor", refund.amount_minor, entry.amount_minor),
            ("currency", refund.currency, entry.currency),
        )
        if in_refunds != in_trail
    ]
    return "; ".join(told) or "its entry's hash is another"


def _check_reservation(story: Story) -> list[Finding]:
    refund = story.refund
    if refund is None or refund.problem:
        return []
    held = story.held.get(refund.transaction_id or "")
    if refund.status in ENDED_WITHOUT_MONEY:
        if held:
            return [_about(refund, "reservation_left", f"{refund.status}, {held} still reserved")]
        return []
    if not held:
        told = "released" if held == 0 else "no reservation"
        return [_about(refund, "reservation_missing", f"{refund.status}, but {told} in the ledger")]
    if held != refund.amount_minor:
        told = f"{held} reserved, the refund is of {refund.amount_minor}"
        return [_about(refund, "reservation_differs", told)]
    return []


def check_ledger(ledger: LedgerRow, reserved: int) -> list[Finding]:
    """What is wrong with a payment's balance; ``reserved`` is the sum of its reservations."""
    transaction_id = ledger.transaction_id
    if ledger.problem:
        kind, what = ledger.problem
        return [Finding(kind=kind, what=what, transaction_id=transaction_id)]
    if ledger.captured is None or ledger.remaining is None:
        if reserved:
            told = f"{reserved} reserved of a payment without a balance"
            return [Finding(kind="overdrawn", what=told, transaction_id=transaction_id)]
        return []
    told = f"captured {ledger.captured}, reserved {reserved}, remaining {ledger.remaining}"
    if ledger.remaining < 0 or reserved > ledger.captured:
        return [Finding(kind="overdrawn", what=told, transaction_id=transaction_id)]
    if ledger.remaining > ledger.captured - reserved:
        return [Finding(kind="balance", what=told, transaction_id=transaction_id)]
    return []


def _gap(story: Story, by_version: Mapping[int, EntryRow], first: int, last: int) -> Finding:
    told = f"version {first} is missing" if first == last else f"versions {first} to {last} missing"
    some = story.refund or next(iter(by_version.values()), None)
    return Finding(
        kind="gap",
        what=told,
        refund_id=story.refund_id,
        transaction_id=some.transaction_id if some else None,
        version=first,
    )


def _of(entry: EntryRow, kind: str, what: str) -> Finding:
    return Finding(
        kind=kind,
        what=what,
        refund_id=entry.refund_id,
        transaction_id=entry.transaction_id,
        version=entry.version,
    )


def _about(refund: RefundRow, kind: str, what: str) -> Finding:
    return Finding(
        kind=kind,
        what=what,
        refund_id=refund.refund_id,
        transaction_id=refund.transaction_id,
        version=refund.version,
    )
