"""Settles open refunds: the longest overdue first, across all shards of the index."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from refunds.domain.clock import CLOCK_SKEW, Clock, Deadline, from_rfc3339, rfc3339
from refunds.domain.refund import ENDED_WITHOUT_MONEY, Refund, Status
from refunds.failures import Failure, FailureKind, classify
from refunds.processing.approval import Approvals
from refunds.processing.paid_refunds import PaidRefunds
from refunds.processing.recorder import Later, Recorded
from refunds.processing.settler import MAY_BE_SHOWN_LATER, Settler
from refunds.processing.turns import MIN_LEFT_SECONDS, Turn
from refunds.tables.refunds import OPEN_SHARDS, Due, RefundsTable

if TYPE_CHECKING:
    from refunds.batches import Pool

PAGE = 100
"""Refunds to read from a shard at once: two for each thread of the pool."""

MAX_ROUNDS = 300

UNREADABLE_RECHECK = timedelta(hours=1)

UNKNOWN_AGE_SECONDS = 30 * 86_400
"""Reported for ages that can't be read. It is above every alarm's threshold: no data would end the
alarm while its cause is still there."""


ASK_AGAIN_AFTER_SHARE_OF_AGE = 1 / 24
"""The gateway is asked about a review again after this share of the review's age: at each look on
the first day, and then less and less often. So the age of a review that ends by itself is at most
4 % more than it could be."""

ASK_AGAIN_AFTER_AT_MOST = timedelta(days=1)


class Looked(NamedTuple):
    """What became of one open refund.

    ``refund`` is its new state, None if it can't be read or has gone. ``late`` is how long it was
    overdue.
    """

    late: timedelta
    refund: Refund | None = None
    failure: Failure | None = None
    unreadable: bool = False


class OpenResult(NamedTuple):
    """What became of the refunds that were due. Ages include those that could not be settled."""

    settled: int = 0
    still_open: int = 0
    in_review: int = 0
    awaiting_approval: int = 0
    failed: int = 0
    unreadable: int = 0
    oldest_open_seconds: int = 0
    oldest_review_seconds: int = 0
    oldest_approval_seconds: int = 0
    paid_though_ended: int = 0
    """Refunds that ended here without money and that the gateway shows as paid."""
    overdue_seconds: int = 0
    """How long the longest overdue refund has waited, including those that were not reached."""
    balance_short: int = 0
    """Refunds that the gateway does not pay because our balance there is too low."""
    failures: tuple[Failure, ...] = ()


@dataclass
class _Shard:
    """How far a shard of the index has been read in this run."""

    name: str
    read_to: Due | None = None
    waiting: list[Due] = field(default_factory=list)
    ended: bool = False
    failure: Failure | None = None

    def horizon(self) -> str | None:
        """What has not been read of this shard is not due earlier than this; None: nothing left."""
        return None if self.ended or not self.waiting else self.waiting[-1].check_at


class OpenRefunds:
    def __init__(  # noqa: PLR0913 - its parts, each by keyword
        self,
        *,
        refunds: RefundsTable,
        settler: Settler,
        paid: PaidRefunds,
        approvals: Approvals,
        clock: Clock,
        pool: Pool,
    ) -> None:
        self._refunds = refunds
        self._settler = settler
        self._paid = paid
        self._approvals = approvals
        self._clock = clock
        self._pool = pool

    def settle(self, turn: Turn, down: Collection[str] = ()) -> OpenResult:
        """Settle due refunds until there are none, or the turn ends. Never raises.

        ``down``: gateways that do not answer. Their refunds are only postponed: a timeout for each
        would use up the time of the others.
        """
        now = rfc3339(self._clock.now())
        shards = [_Shard(str(number)) for number in range(OPEN_SHARDS)]
        looked: list[Looked] = []
        for _ in range(MAX_ROUNDS):
            self._fill(shards, now)
            batch = _oldest(shards)
            if not batch:
                break
            looked += self._pool.map(lambda due: self._settle(due, turn, down), batch)
            if turn.over:
                looked += [self._not_reached(due) for shard in shards for due in shard.waiting[:1]]
                break
        unread = tuple(shard.failure for shard in shards if shard.failure is not None)
        return _result(looked, unread, self._clock)

    def next_step(  # noqa: PLR0911 - one return a status
        self, refund: Refund, deadline: Deadline
    ) -> Refund:
        """Take an open refund one step further; returns it as it then is."""
        if refund.status in ENDED_WITHOUT_MONEY:
            if refund.seen_paid_at is not None:
                return self._paid.look_at_marked(refund, deadline)
            return self._settler.recorder.give_back(refund).refund
        if refund.status is Status.AWAITING_APPROVAL:
            return self._approvals.look_again(refund, deadline)
        if refund.status is Status.SUCCEEDED:
            closed = self._paid.close(refund, deadline)
            return refund if isinstance(closed, Later) else closed.refund
        if refund.status is Status.IN_REVIEW:
            return self._next_step_in_review(refund, deadline)
        if self._settler.lease_left_seconds(refund) or deadline.left_seconds() < MIN_LEFT_SECONDS:
            self._settler.recorder.recheck(refund)
            return refund
        result = self._settler.take_over(refund, deadline)
        return refund if isinstance(result, Later) else result.refund

    def _next_step_in_review(self, refund: Refund, deadline: Deadline) -> Refund:
        """Every look counts the review and its age. Fewer and fewer of them ask the gateway."""
        asked_at: str | None = None
        now = self._clock.now()
        if refund.failure_code in MAY_BE_SHOWN_LATER and _is_time_to_ask(refund, now):
            asked_at = rfc3339(now)
            after = self.ask_about_review(refund, deadline)
            if after.status is not Status.IN_REVIEW:
                return after
        self._settler.recorder.recheck(refund, asked_at=asked_at)
        return refund

    def ask_about_review(self, refund: Refund, deadline: Deadline) -> Refund:
        """Settle a refund in review if the gateway shows it by now. Without a person, this is only
        possible where the review began because the gateway showed nothing.

        Raises ``GatewayUnavailableError``.
        """
        if refund.failure_code not in MAY_BE_SHOWN_LATER:
            return refund
        result = self._settler.look_again(refund, deadline)
        return result.refund if isinstance(result, Recorded) else refund

    def _fill(self, shards: Sequence[_Shard], now: str) -> None:
        """Read more of each shard that has nothing waiting."""

        def read(shard: _Shard) -> None:
            try:
                shard.waiting = self._refunds.due_page(shard.name, now, PAGE, after=shard.read_to)
            except Exception as exc:
                # The refunds of the other shards do not wait for this shard.
                shard.failure, shard.ended = classify(exc), True
                return
            shard.ended = len(shard.waiting) < PAGE
            shard.read_to = shard.waiting[-1] if shard.waiting else shard.read_to

        empty = [shard for shard in shards if not shard.waiting and not shard.ended]
        for _ in self._pool.map(read, empty):
            pass

    def _settle(self, due: Due, turn: Turn, down: Collection[str]) -> Looked:
        late = self._late(due)
        if turn.over:
            return self._not_reached(due)
        refund: Refund | None = None
        try:
            refund = self._refunds.get(due.refund_id)
            if refund is None or refund.open_shard is None:
                return Looked(late)  # The index lagged behind the table.
            if refund.gateway in down and refund.status not in ENDED_WITHOUT_MONEY:
                self._settler.recorder.recheck(refund)
                return Looked(late, refund)
            return Looked(late, self.next_step(refund, turn.deadline))
        except Exception as exc:
            failure = classify(exc)
            unreadable = refund is None and failure.kind is FailureKind.UNEXPECTED
            self._put_off(due, refund, unreadable=unreadable)
            failure = replace(failure, detail={**failure.detail, "refund_id": due.refund_id})
            return Looked(late, refund, failure, unreadable)

    def _put_off(self, due: Due, refund: Refund | None, *, unreadable: bool) -> None:
        # A refund that fails each time would otherwise stay first and starve the others.
        try:
            if refund is not None:
                self._settler.recorder.recheck(refund)
            elif unreadable:
                self._refunds.put_off(due, rfc3339(self._clock.now() + UNREADABLE_RECHECK))
        except Exception:
            return  # Then it stays first. Its failure is counted all the same.

    def _not_reached(self, due: Due) -> Looked:
        return Looked(self._late(due))

    def _late(self, due: Due) -> timedelta:
        return max(timedelta(0), self._clock.now() - from_rfc3339(due.check_at))


def _oldest(shards: Iterable[_Shard]) -> list[Due]:
    """Take from all shards what is certainly due before anything that has not been read yet."""
    shards = list(shards)
    horizon = min(filter(None, (shard.horizon() for shard in shards)), default=None)
    batch: list[Due] = []
    for shard in shards:
        ready = [due for due in shard.waiting if horizon is None or due.check_at <= horizon]
        shard.waiting = shard.waiting[len(ready) :]
        batch += ready
    return sorted(batch, key=lambda due: due.check_at)


def _is_time_to_ask(refund: Refund, now: datetime) -> bool:
    """Whether the gateway is to be asked about a refund in review.

    A failed attempt to ask is not recorded, so the next look repeats it.
    """
    if refund.asked_at is None:
        return True
    age = now - from_rfc3339(refund.updated_at)
    since_asked = now - from_rfc3339(refund.asked_at)
    if since_asked < -CLOCK_SKEW:
        return True  # A wrong clock wrote it.
    return since_asked >= min(age * ASK_AGAIN_AFTER_SHARE_OF_AGE, ASK_AGAIN_AFTER_AT_MOST)


def _waits(refund: Refund) -> bool:
    return (
        refund.open_since is not None
        and refund.open_shard is not None
        and refund.status not in ENDED_WITHOUT_MONEY
    )


def _result(looked: Sequence[Looked], unread: tuple[Failure, ...], clock: Clock) -> OpenResult:
    now = clock.now()

    def oldest(instants: Iterable[str]) -> float:
        ages = [now - from_rfc3339(instant) for instant in instants]
        return max(ages, default=timedelta(0)).total_seconds()

    failed = [each for each in looked if each.failure]
    worked = [each.refund for each in looked if each.refund and not each.failure]
    waiting = [each.refund for each in looked if each.refund and _waits(each.refund)]
    reviews = [refund for refund in waiting if refund.status is Status.IN_REVIEW]
    approvals = [refund for refund in waiting if refund.status is Status.AWAITING_APPROVAL]
    # The refund can't be read. All that is known is how long it is overdue.
    unseen = max((each.late for each in failed if not each.refund), default=timedelta(0))
    oldest_open = oldest(
        refund.open_since or ""
        for refund in waiting
        if refund.status is not Status.AWAITING_APPROVAL
    )
    return OpenResult(
        settled=sum(not _waits(refund) for refund in worked),
        still_open=sum(
            _waits(refund) and refund.status not in (Status.IN_REVIEW, Status.AWAITING_APPROVAL)
            for refund in worked
        ),
        in_review=len(reviews),
        awaiting_approval=len(approvals),
        failed=len(failed) + len(unread),
        unreadable=sum(each.unreadable for each in looked),
        oldest_open_seconds=(
            UNKNOWN_AGE_SECONDS if unread else int(max(oldest_open, unseen.total_seconds()))
        ),
        balance_short=sum(
            each.refund.balance_short_at is not None
            for each in looked
            if each.refund and not each.failure
        ),
        paid_though_ended=sum(
            each.refund.seen_paid_at is not None for each in looked if each.refund
        ),
        oldest_review_seconds=int(oldest(refund.updated_at for refund in reviews)),
        oldest_approval_seconds=int(oldest(refund.open_since or "" for refund in approvals)),
        overdue_seconds=int(
            max((each.late for each in looked), default=timedelta(0)).total_seconds()
        ),
        failures=(*unread, *(each.failure for each in failed if each.failure)),
    )
