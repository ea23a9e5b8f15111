"""A settler's call, and whether a refund is open or closed then."""

from __future__ import annotations

from datetime import timedelta

from tests.support.builders import NOW
from tests.support.world import World

from refunds.domain.clock import rfc3339
from refunds.domain.refund import Refund
from refunds.processing.recorder import Later, Recorded
from refunds.tables.refunds import shard_of

EXPIRED = rfc3339(NOW - timedelta(seconds=1))


def call(world: World, there: Refund, *, called_before: bool = False) -> Recorded | Later:
    return world.settler.call(there, world.deadline(), unanswered=there if called_before else None)


def is_open(there: Refund) -> bool:
    return (there.open_shard, there.open_since is not None, there.check_at is not None) == (
        shard_of(there.refund_id),
        True,
        True,
    )


def is_closed(there: Refund) -> bool:
    return (there.open_shard, there.open_since, there.check_at) == (None, None, None)
