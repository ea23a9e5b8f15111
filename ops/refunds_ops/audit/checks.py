"""The rules for one refund's records and for one payment's ledger, as pure functions.

The same checks run twice: on the scanned rows, to find suspects, and on consistent reads of each
suspect, to find what is really wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from refunds.domain.audit_entry import DELETED_EVENT, RESTORED_EVENT, SAME_STATUS_EVENTS
from refunds.domain.refund import ENDED_WITHOUT_MONEY, TRANSITIONS, Status
from refunds.gateways.contract import GatewayRefund, GatewayStatus
from refunds_ops.audit.findings import Finding
from refunds_ops.audit.rows import FIXED, EntryRow, LedgerRow, RefundRow

_CLAIMED = frozenset({Status.PROCESSING, Status.AWAITING_APPROVAL})
_FIRST = frozenset({Status.PROCESSING, Status.AWAITING_APPROVAL, Status.REJECTED})
_AT_GATEWAY = frozenset({Status.SUCCEEDED, Status.PENDING, Status.REVERSED})


@dataclass(frozen=True)
class Story:
    """Everything stored about one refund. ``held`` maps a payment to the refund's reservation in
    its ledger; ``ledger`` is that of the refund's own payment."""

    refund_id: str
    refund: RefundRow | None = None
    entries: Sequence[EntryRow] = ()
    held: Mapping[str, int] = field(default_factory=dict)
    ledger: LedgerRow | None = None


def check_story(story: Story) -> list[Finding]:
    """Everything that is wrong with a refund, its entries and its reservation."""
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
    """The payment of the refund: from its record, or else from most of its entries."""
    if story.refund is not None:
        return story.refund.transaction_id
    places = Counter(entry.transaction_id for entry in story.entries)
    return max(places, key=places.__getitem__, default=None)


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


def _link(before: EntryRow, after: EntryRow) -> list[Finding]:  # noqa: PLR0911 - each return is one finding
    """Check an entry against the one before it. Entries with a problem of their own are skipped."""
    if before.problem or after.problem:
        return []
    if after.previous_hash != before.entry_hash:
        return [_of(after, "chain", f"previous_hash is not version {before.version}'s entry_hash")]
    if begins(after):
        if before.event == DELETED_EVENT:
            return []  # The request was sent again, and the chain continues.
        what = f"it begins again after {before.status}, and no removal was audited"
        return [_of(after, "transition", what)]
    if (after.amount_minor, after.currency) != (before.amount_minor, before.currency):
        return [_of(after, "transition", "the amount is not that of the version before")]
    if after.fixed != before.fixed:
        what = f"{', '.join(FIXED)}: one is not what it was in the version before"
        return [_of(after, "transition", what)]
    legal: frozenset[str] = frozenset(TRANSITIONS[Status(before.status or "")])
    if before.status == Status.AWAITING_APPROVAL:
        legal |= {Status.AWAITING_APPROVAL.value}  # the first of two approvals
    if after.event in SAME_STATUS_EVENTS:
        legal = frozenset({before.status or ""})
    if (
        (before.event == DELETED_EVENT and after.event != RESTORED_EVENT)
        or after.previous_status != before.status
        or after.status not in legal
    ):
        what = f"{before.status} to {after.status} (previous_status {after.previous_status})"
        return [_of(after, "transition", what)]
    return []


def begins(entry: EntryRow) -> bool:
    """Whether the entry begins a refund: the first time, or again after its record was lost."""
    return entry.previous_status is None and entry.status in _CLAIMED


def _against_refund(story: Story, by_version: Mapping[int, EntryRow]) -> list[Finding]:  # noqa: PLR0911 - each return is one finding
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
        what = f"Refunds holds version {refund.version}, the trail goes to {last}"
        return [_about(refund, "refund_behind", what)]
    same = by_version[last]
    if same.entry_hash != refund.entry_hash and not same.problem:
        return [_about(refund, "refund_changed", _difference(refund, same))]
    return []


def _difference(refund: RefundRow, entry: EntryRow) -> str:
    what = [
        f"{name} {in_refunds} in Refunds, {in_trail} in the trail"
        for name, in_refunds, in_trail in (
            ("status", refund.status, entry.status),
            ("amount_minor", refund.amount_minor, entry.amount_minor),
            ("currency", refund.currency, entry.currency),
        )
        if in_refunds != in_trail
    ]
    return "; ".join(what) or "its entry's hash is another"


def _check_reservation(story: Story) -> list[Finding]:  # noqa: PLR0911 - each return is one finding
    refund = story.refund
    if refund is None or refund.problem or (story.ledger and story.ledger.problem):
        return []  # nobody knows what an unreadable ledger holds
    held = story.held.get(refund.transaction_id or "")
    if refund.status in ENDED_WITHOUT_MONEY:
        if held:
            return [_about(refund, "reservation_left", f"{refund.status}, {held} still reserved")]
        return []
    if not held:
        what = "released" if held == 0 else "no reservation"
        return [_about(refund, "reservation_missing", f"{refund.status}, but {what} in the ledger")]
    if held != refund.amount_minor:
        what = f"{held} reserved, the refund is of {refund.amount_minor}"
        return [_about(refund, "reservation_differs", what)]
    if story.ledger and story.ledger.currency not in (None, refund.currency):
        what = f"reserved in {story.ledger.currency}, the refund is in {refund.currency}"
        return [_about(refund, "reservation_differs", what)]
    return []


def check_ledger(ledger: LedgerRow, reserved: int) -> list[Finding]:
    """What is wrong with a payment's balance. ``reserved`` is the sum of its reservations."""
    transaction_id = ledger.transaction_id
    if ledger.problem:
        kind, what = ledger.problem
        return [Finding(kind=kind, what=what, transaction_id=transaction_id)]
    if ledger.captured is None or ledger.remaining is None:
        if reserved:
            what = f"{reserved} reserved of a payment without a balance"
            return [Finding(kind="overdrawn", what=what, transaction_id=transaction_id)]
        return []
    what = f"captured {ledger.captured}, reserved {reserved}, remaining {ledger.remaining}"
    if ledger.remaining < 0 or reserved > ledger.captured:
        return [Finding(kind="overdrawn", what=what, transaction_id=transaction_id)]
    if ledger.remaining > ledger.captured - reserved:
        return [Finding(kind="balance", what=what, transaction_id=transaction_id)]
    return []


def check_gateway(refund: RefundRow, shown: Sequence[GatewayRefund]) -> list[Finding]:
    """How a refund differs from everything that the gateway shows under its id."""
    if refund.problem:
        return []
    status = Status(refund.status)
    if not shown and status in _AT_GATEWAY:
        return [_about(refund, "gateway_missing", f"{status} here, not shown by the gateway")]
    found = []
    alive = [each for each in shown if each.status is not GatewayStatus.FAILED]
    if len(alive) > 1:
        found.append(_about(refund, "gateway_double", f"{len(alive)} refunds of this id"))
    for each in shown:
        if differs := _differs(refund, status, each):
            kind, what = differs
            found.append(replace(_about(refund, kind, what), where=each.gateway_refund_id))
    return found


def _differs(refund: RefundRow, status: Status, shown: GatewayRefund) -> tuple[str, str] | None:
    ours = (refund.transaction_id, refund.amount_minor, refund.currency)
    same_payment = refund.transaction_id in (shown.transaction_id, shown.other_payment_id)
    payment = refund.transaction_id if same_payment else shown.transaction_id
    theirs = (payment, shown.amount_minor, shown.currency)
    if ours != theirs and status is not Status.IN_REVIEW:
        return "gateway_differs", f"{ours} here, {theirs} there"
    if shown.status is GatewayStatus.FAILED:
        moved = status is Status.SUCCEEDED
        return ("gateway_failed", "SUCCEEDED here, failed there") if moved else None
    if status in ENDED_WITHOUT_MONEY:
        return "gateway_paid", f"{status} here, {shown.status} there"
    if status is Status.SUCCEEDED and shown.status is GatewayStatus.PENDING:
        return "gateway_differs", "SUCCEEDED here, still pending there"
    if refund.gateway_refund_id not in (None, shown.gateway_refund_id):
        return "gateway_differs", f"{refund.gateway_refund_id} here, another id there"
    return None  # The same, about to become the same, or already waiting for a person.


def _gap(story: Story, by_version: Mapping[int, EntryRow], first: int, last: int) -> Finding:
    what = f"version {first} is missing" if first == last else f"versions {first} to {last} missing"
    some = story.refund or next(iter(by_version.values()), None)
    return Finding(
        kind="gap",
        what=what,
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
