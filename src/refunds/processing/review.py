"""A person's decision on a refund that no automatic step can settle safely."""

from __future__ import annotations

from refunds.domain.card_numbers import has_card_number
from refunds.domain.refund import Refund, Status, short_text
from refunds.processing.recorder import Later, Recorder
from refunds.tables.refunds import OPEN_SHARDS, RefundsTable

MAX_LISTED = 1000


class ReviewError(Exception):
    """The decision can't be taken; the text says why."""


def in_review(refunds: RefundsTable, far_future: str) -> list[Refund]:
    """Refunds that wait for a person, longest first; at most 1,000 open refunds are looked at.

    ``far_future`` is an instant after every ``check_at``.
    """
    found = []
    for shard in range(OPEN_SHARDS):
        for refund_id in refunds.due(str(shard), far_future, MAX_LISTED // OPEN_SHARDS):
            refund = refunds.get(refund_id)
            if refund is not None and refund.status is Status.IN_REVIEW:
                found.append(refund)
    return sorted(found, key=lambda refund: refund.open_since or refund.updated_at)


def decide(
    refunds: RefundsTable,
    recorder: Recorder,
    refund_id: str,
    to: Status,
    *,
    by: str,
    why: str,
    evidence: str,
) -> Refund:
    """Record that the refund was paid (``SUCCEEDED``) or not (``FAILED``, which frees its money).

    ``by``, ``why`` and ``evidence`` go to the audit trail. Raises ``ReviewError``.
    """
    if to not in (Status.SUCCEEDED, Status.FAILED):
        raise ReviewError("a review ends as SUCCEEDED or FAILED")
    told = {"by": by, "why": why, "evidence": evidence}
    if empty := [name for name, value in told.items() if not value.strip()]:
        raise ReviewError(f"say {' and '.join(empty)}: the audit trail keeps it")
    if any(has_card_number(value) for value in told.values()):
        raise ReviewError("leave card numbers out: the audit trail is kept for years")
    refund = refunds.get(refund_id)
    if refund is None:
        raise ReviewError(f"there is no refund {refund_id}")
    if refund.status is not Status.IN_REVIEW:
        raise ReviewError(f"{refund_id} is {refund.status}; only refunds IN_REVIEW are decided")
    result = recorder.finish(
        refund, to, review={name: short_text(value) or "" for name, value in told.items()}
    )
    if isinstance(result, Later):
        raise ReviewError(f"{refund_id} was changed meanwhile; look at it again")
    return result.refund
