"""Records the outcome of a refund. Each write is fenced, and each unfinished refund stays findable.

Nothing here calls a gateway. An operator's decisions are recorded here too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from refunds.domain.audit_entry import audit_entry
from refunds.domain.clock import Clock, from_rfc3339, rfc3339
from refunds.domain.refund import (
    ENDED_WITHOUT_MONEY,
    Refund,
    Status,
    change_status,
    proposed_version,
)
from refunds.processing.limit_checks import CountersContendedError
from refunds.tables.ledger import LedgerTable
from refunds.tables.refunds import RefundsTable, shard_of

LONGEST_RECHECK = timedelta(hours=1)

RECORD_LOST = "record_lost"
"""Failure code of a refund in review that holds no money any more."""

RELEASE_UNDER_WAY_AT_MOST = timedelta(minutes=30)
"""How long after a refund was corrected a worker that read it before may still release its money.
An invocation lasts 15 minutes at most."""


@dataclass(frozen=True)
class Recorded:
    """The refund is settled or findable. Its message can be deleted."""

    refund: Refund


@dataclass(frozen=True)
class Later:
    """The refund is not settled: try again. ``delay_seconds`` is the shortest wait, if known.
    ``misconfiguration`` names what a person must correct first."""

    reason: str
    delay_seconds: float | None = None
    misconfiguration: str | None = None


class Recorder:
    """``processed_by`` is the name in the audit trail. ``recheck_after`` is how soon the reconciler
    first checks a refund that stays open. ``give_back_share``: ``LimitChecks.give_back``."""

    def __init__(  # noqa: PLR0913 - its parts, each by keyword
        self,
        *,
        refunds: RefundsTable,
        ledger: LedgerTable,
        clock: Clock,
        processed_by: str,
        recheck_after: timedelta,
        give_back_share: Callable[[Refund], Mapping[str, str] | None] = lambda refund: None,
    ) -> None:
        self._refunds = refunds
        self._ledger = ledger
        self._clock = clock
        self.processed_by = processed_by
        self._recheck_after = recheck_after
        self._give_back_share = give_back_share

    def finish(self, refund: Refund, to: Status, **changes: Any) -> Recorded | Later:
        """Record the outcome, fenced by our token, then give back the money that the refund no
        longer needs (9)."""
        corrects = to is Status.SUCCEEDED and (
            refund.status in ENDED_WITHOUT_MONEY or refund.failure_code == RECORD_LOST
        )
        if to is Status.SUCCEEDED:
            changes = {"failure_code": None, "failure_message": None} | changes
        # It stays open until the reservation is given back, or until it is known what became of the
        # money. A correction stays open until it holds its money again.
        closes = to is Status.SUCCEEDED and not corrects
        if closes:
            changes |= _CLOSED
        new = change_status(
            refund,
            to,
            at=rfc3339(self._clock.now()),
            by=self.processed_by,
            previous_hash=audit_entry(refund.item())["entry_hash"],
            **changes,
        )
        if refund.status is Status.AWAITING_APPROVAL or corrects:
            # It no longer waits for a person.
            new = replace(new, open_since=None, check_at=None, seen_paid_at=None)
        if not closes:
            new = self.opened(replace(new, lease_until=None))
        if not self._refunds.save(refund, new):
            return Later("another attempt has taken the refund over")
        return self.give_back(new) if to in ENDED_WITHOUT_MONEY else Recorded(new)

    def propose(self, refund: Refund, proposal: Mapping[str, str]) -> Refund | None:
        """Record a person's decision that another person must confirm; None when somebody else has
        changed the refund since."""
        proposed = proposed_version(
            refund,
            proposal,
            at=rfc3339(self._clock.now()),
            by=self.processed_by,
            previous_hash=audit_entry(refund.item())["entry_hash"],
        )
        return proposed if self._refunds.save(refund, proposed) else None

    def give_back(self, refund: Refund, *, stored: Refund | None = None) -> Recorded:
        """Release the money and the shares of limits that a refund still holds although it ended
        without money, then close it (rules 3, 15)."""
        back_minor = None
        if refund.kept_minor is not None:
            back_minor = max(0, (refund.amount_minor or 0) - refund.kept_minor)
        if self._ledger.release(refund.transaction_id, refund.refund_id, back_minor=back_minor):
            self._hold_if_corrected(refund.refund_id)
        if refund.seen_paid_at is not None:
            return Recorded(refund)
        try:
            uncounted = self._give_back_share(refund)
        except CountersContendedError:
            return Recorded(refund)  # It stays in the index and is checked again.
        if refund.open_shard is not None or uncounted is not None:
            # If another write came first, the refund stays in the index and is checked again.
            closed = replace(_closed(refund), uncounted=uncounted or refund.uncounted)
            self._refunds.save(stored or refund, closed)
        return Recorded(refund)

    def _hold_if_corrected(self, refund_id: str) -> None:
        # We may have read the refund before a person corrected it, and released what the correction
        # holds.
        refund = self._refunds.get(refund_id)
        if refund is not None and refund.status is Status.SUCCEEDED and refund.amount_minor:
            self._ledger.hold_again(refund.transaction_id, refund_id, refund.amount_minor)

    def holds(self, refund: Refund) -> bool:
        """Whether the payment still holds money for the refund."""
        ledger = self._ledger.get(refund.transaction_id)
        return ledger is not None and ledger.reservations.get(refund.refund_id, 0) > 0

    def give_back_unused(self, refund: Refund, transaction_id: str) -> None:
        """Release money of ``transaction_id`` that a request with this refund's id may hold without
        need: the refund has ended without money, or it is another transaction's."""
        if refund.status in ENDED_WITHOUT_MONEY:
            self.give_back(refund)
        if refund.transaction_id != transaction_id:
            self._ledger.release(transaction_id, refund.refund_id)

    def hold_again(self, refund: Refund) -> None:
        """Hold a refund's money again that it had released: the gateway has moved it after all."""
        if refund.amount_minor is not None:
            self._ledger.hold_again(refund.transaction_id, refund.refund_id, refund.amount_minor)

    def hold_corrected(self, refund: Refund) -> Refund:
        """Reserve a corrected refund's money again, then close it. Safe to repeat.

        It stays open for as long as a worker that read it before its correction may still release
        its money, and die before it can reserve it again.
        """
        self.hold_again(refund)
        if refund.open_shard is None:
            return refund
        age = self._clock.now() - from_rfc3339(refund.updated_at)
        if age < RELEASE_UNDER_WAY_AT_MOST:
            left = self.opened(refund, again=True)
        else:
            left = _closed(refund)
        self._refunds.save(refund, left)
        return left

    def recheck(self, refund: Refund, *, asked_at: str | None = None) -> bool:
        """Postpone an open refund's next check: the longer it has been open, the further.

        ``asked_at``: when the gateway was asked about it in this look; None if it was not.
        """
        opened = self.opened(refund, again=True)
        return self._refunds.save(refund, replace(opened, asked_at=asked_at or refund.asked_at))

    def opened(self, refund: Refund, *, again: bool = False) -> Refund:
        """The refund in the index of open refunds; ``again``: with its next check postponed."""
        now = self._clock.now()
        since = refund.open_since or rfc3339(now)
        check_at = refund.check_at
        if again or check_at is None:
            age = now - from_rfc3339(since)
            check_at = rfc3339(now + min(max(self._recheck_after, age / 4), LONGEST_RECHECK))
        return replace(
            refund, open_since=since, open_shard=shard_of(refund.refund_id), check_at=check_at
        )


_CLOSED: Mapping[str, Any] = dict.fromkeys(
    ("open_since", "open_shard", "check_at", "lease_until", "seen_paid_at", "asked_at")
)


def _closed(refund: Refund) -> Refund:
    return replace(refund, **_CLOSED)
