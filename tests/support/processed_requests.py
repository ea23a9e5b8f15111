"""A request that is processed, and the refund that is recorded."""

from __future__ import annotations

from typing import Any

from tests.support.builders import request
from tests.support.world import World

from refunds.domain.refund import Status
from refunds.processing.delivery import Delivery
from refunds.processing.recorder import Later, Recorded


def process(world: World, *, look_up_first: bool = False, **changes: Any) -> Recorded | Later:
    return world.processor.process(
        request(**changes), world.deadline(), Delivery(look_up_first=look_up_first)
    )


def recorded(result: Recorded | Later) -> Status:
    assert isinstance(result, Recorded)
    return result.refund.status
