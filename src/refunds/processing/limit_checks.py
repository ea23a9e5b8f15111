"""Limits are checked before a refund is claimed, when its amount is fixed.

A refund within its limits is counted once and continues. A refund over a limit waits for approval
and is not counted, since limits bound only what is paid without a person. A refund that ends
without money gives its share back.

What makes it exact is in three places, each a single conditional write:

1. A share enters the counter under the refund's id and a token.
2. The refund's row, written once, names the token of the share that counts (``counted``). Whatever
   other share of that refund was left by a crash, a duplicate or a conflicting request is surplus.
3. A refund that ended without money announces its give-back in the counter, then names that token
   in its row (``uncounted``), once. Whatever other give-back of it stands in the counter is void.

So for each entry of a counter, the row says for ever what the entry is worth. The next write of the
counter also removes the settled entries, so the counter stays small and costs one write unit for
each refund.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from refunds.domain.clock import Clock, rfc3339
from refunds.domain.limits import (
    APPROVE_ABOVE,
    DAY,
    PER_REFUND,
    USER_COUNT,
    USER_DAY,
    Allowed,
    Exceptions,
    Limits,
    allowed,
)
from refunds.domain.refund import Refund, Status
from refunds.tables.limit_counters import (
    NOTHING,
    Counter,
    Entry,
    LimitCounters,
    Room,
    Settled,
    day_counter,
    user_counter,
)
from refunds.tables.refunds import RefundsTable
from refunds.tables.state import Control

COUNT_TRIES = 8

SETTLE_FROM = 4
"""From this number of entries on, a write of the counter also finds out which are settled. With
fewer, the item stays within one write unit."""

MOST_SETTLED = 40
"""The most entries that one write removes."""

EXCEPTIONS_CACHE = timedelta(seconds=30)
"""How long exceptions are cached: a change applies to every request after this time."""

USER, ALL = "user", "all"
"""The two counters, as a refund's ``counted`` names them."""


class CountersContendedError(Exception):
    """Others kept changing a counter. Try again later."""


@dataclass(frozen=True)
class Over:
    """A refund is over a limit: the rule, and its limit."""

    rule: str
    limit: int


@dataclass(frozen=True)
class Counted:
    """A refund was counted: on which day, under which token, and what the day's total then is."""

    day: str
    token: str
    total_minor: int

    def __str__(self) -> str:
        return f"{self.day} {self.token}"


class LimitChecks:
    """``new_token`` gives text that never repeats.

    ``on_day_total`` is called with a currency and the day's total, after each refund that is
    counted while the total is above ``stop_above``. It must be safe to repeat. If it raises, the
    request is delivered again, and the refund stays counted once.
    """

    def __init__(  # noqa: PLR0913 - its parts, each by keyword
        self,
        *,
        limits: Limits,
        counters: LimitCounters,
        refunds: RefundsTable,
        control: Control,
        clock: Clock,
        new_token: Callable[[], str],
        on_day_total: Callable[[str, int], None] = lambda currency, total_minor: None,
    ) -> None:
        self.limits = limits
        self._counters = counters
        self._refunds = refunds
        self._control = control
        self._clock = clock
        self._new_token = new_token
        self._on_day_total = on_day_total
        self._exceptions: tuple[datetime, Exceptions] | None = None

    def admit(self, refund: Refund) -> Refund | Over:
        """Count a refund that is about to be claimed, or say which limit it is over.

        Safe to repeat: it takes over a share that an earlier attempt left. Raises
        ``CountersContendedError``.
        """
        if not self.limits.on:
            return refund
        assert refund.amount_minor is not None
        amount_minor = refund.amount_minor
        most = self._allowed(refund)
        if most.per_refund_minor is not None and amount_minor > most.per_refund_minor:
            return Over(PER_REFUND, most.per_refund_minor)
        if most.approve_above_minor is not None and amount_minor > most.approve_above_minor:
            return Over(APPROVE_ABOVE, most.approve_above_minor)
        counted: dict[str, str] = {}
        if most.user_day_minor is not None or most.user_count is not None:
            room = Room(most.user_day_minor, most.user_count)
            result = self._count(USER, user_counter(refund.user_id), refund, room)
            if isinstance(result, Over):
                return result
            counted[USER] = str(result)
        if self.limits.counts_days:
            result = self._count(ALL, day_counter(refund.currency), refund, Room(most.day_minor))
            if isinstance(result, Over):
                return result
            counted[ALL] = str(result)
            self._watch_total(refund.currency, result.total_minor)
        unchanged = not counted and refund.counted is None
        return refund if unchanged else replace(refund, counted=counted or None)

    def waiting(self, refund: Refund, over: Over) -> Refund:
        """The refund as ``AWAITING_APPROVAL``."""
        assert refund.amount_minor is not None
        second = self.limits.needs_second(refund.amount_minor, refund.currency)
        expires_at = self._clock.now() + timedelta(days=self.limits.approval_days)
        return replace(
            refund,
            status=Status.AWAITING_APPROVAL,
            awaiting={
                "over": over.rule,
                "limit": str(over.limit),
                "approvers": "2" if second else "1",
                "expires_at": rfc3339(expires_at),
            },
            lease_until=None,
        )

    def give_back(self, refund: Refund) -> Mapping[str, str] | None:
        """Announce that a refund that ended without money gives its share back.

        Returns the value that must then be stored as the refund's ``uncounted``, which makes the
        announcement valid; None when there is nothing to give back. Raises
        ``CountersContendedError``.
        """
        if refund.counted is None or refund.uncounted is not None:
            return None
        keys = {USER: user_counter(refund.user_id), ALL: day_counter(refund.currency)}
        return {
            counter: self._announce_back(keys[counter], refund, counted.partition(" ")[0])
            for counter, counted in refund.counted.items()
        }

    def _allowed(self, refund: Refund) -> Allowed:
        return allowed(
            self.limits,
            self._read_exceptions(),
            currency=refund.currency,
            user_id=refund.user_id,
            requested_by=refund.requested_by,
            sent_by=refund.sent_by,
        )

    def _read_exceptions(self) -> Exceptions:
        # The wall clock is used, because the monotonic clock stops while Lambda keeps an
        # environment frozen.
        now = self._clock.now()
        if self._exceptions is None or abs(now - self._exceptions[0]) > EXCEPTIONS_CACHE:
            self._exceptions = (now, self._control.read_exceptions())
        return self._exceptions[1]

    def _watch_total(self, currency: str, total_minor: int) -> None:
        stop_above = self.limits.stop_above
        if stop_above is not None and total_minor > stop_above.get(currency, 0):
            self._on_day_total(currency, total_minor)

    def _count(self, which: str, key: str, refund: Refund, room: Room) -> Counted | Over:
        assert refund.amount_minor is not None
        name = f"{refund.refund_id}#{refund.fingerprint[-8:]}"
        share = Entry(self._new_token(), refund.amount_minor, refund.currency)
        today = rfc3339(self._clock.now())[:10]
        for _ in range(COUNT_TRIES):
            read = self._counters.get(key)
            if read.day < today:
                if over := _over(which, Counter(key), share, room, NOTHING):
                    return over
                if self._counters.begin_day(read, today, name, share):
                    return Counted(f"{today}/{share.token[:8]}", share.token, share.amount_minor)
                share = replace(share, token=self._new_token())
                continue
            if (left := read.shares.get(name)) is not None:
                # An earlier attempt left this share, or another attempt is running. Only one of
                # them can claim.
                if (left.amount_minor, left.currency) != (share.amount_minor, share.currency):
                    raise CountersContendedError(key)
                return Counted(read.name, left.token, read.sums[share.currency])
            settled = NOTHING
            entries = len(read.shares) + len(read.backs)
            if entries >= SETTLE_FROM or (entries and _over(which, read, share, room, NOTHING)):
                settled = self._settled(which, read, name)
            if over := _over(which, read, share, room, settled):
                return over
            total_minor = self._counters.add(read, name, share, room, settled)
            if total_minor is not None:
                return Counted(read.name, share.token, total_minor)
            # The write may have succeeded with its response lost, and its share may have been
            # settled since.
            share = replace(share, token=self._new_token())
        raise CountersContendedError(key)

    def _settled(self, which: str, read: Counter, mine: str) -> Settled:
        """Which entries of a counter may be removed, and what is subtracted with them.

        It checks those just below ``mine`` first, then the rest from the top, so that entries that
        stay in doubt for long don't keep the others in the counter.
        """
        shares, backs = _below(read.shares, mine), _below(read.backs, mine)
        names = {name.partition("#")[0] for name in shares} | set(backs)
        rows = self._refunds.get_many(sorted(names))
        sums: dict[str, int] = defaultdict(int)
        count = 0
        gone_shares, gone_backs = [], []
        for name, share in shares.items():
            if (row := rows.get(name.partition("#")[0])) is None:
                continue  # not claimed yet
            gone_shares.append(name)
            if (row.counted or {}).get(which) != f"{read.name} {share.token}":
                sums[share.currency] -= share.amount_minor
                count -= 1
        for name, back in backs.items():
            row = rows.get(name)
            if row is None or row.uncounted is None:
                continue  # announced, but not valid yet
            gone_backs.append(name)
            if row.uncounted.get(which) == back.token:
                sums[back.currency] -= back.amount_minor
                count -= 1
        return Settled(gone_shares, gone_backs, sums, count)

    def _announce_back(self, key: str, refund: Refund, day: str) -> str:
        """The token of the give-back."""
        assert refund.amount_minor is not None
        back = Entry(self._new_token(), refund.amount_minor, refund.currency)
        for _ in range(COUNT_TRIES):
            read = self._counters.get(key)
            if read.name != day:
                return back.token  # the counter is about another day
            if (there := read.backs.get(refund.refund_id)) is not None:
                return there.token
            if self._counters.announce_back(read, refund.refund_id, back):
                return back.token
            back = replace(back, token=self._new_token())
        raise CountersContendedError(key)


def _below(entries: Mapping[str, Entry], name: str) -> dict[str, Entry]:
    names = sorted(entries, reverse=True)
    names.sort(key=lambda each: each > name)
    return {each: entries[each] for each in names[:MOST_SETTLED]}


def _over(which: str, read: Counter, share: Entry, room: Room, settled: Settled) -> Over | None:
    """Which limit a counter would be over with one more share; None for none."""
    if room.amount_minor is not None:
        taken_minor = read.sums.get(share.currency, 0) + settled.sums.get(share.currency, 0)
        if taken_minor + share.amount_minor > room.amount_minor:
            return Over(USER_DAY if which == USER else DAY, room.amount_minor)
    if room.count is not None and read.count + settled.count + 1 > room.count:
        return Over(USER_COUNT, room.count)
    return None
