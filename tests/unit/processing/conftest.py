"""Fixtures for the tests of the processing of refunds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from tests.support.builders import refund
from tests.support.world import World

from refunds.domain.refund import Refund


@pytest.fixture
def old(world: World) -> World:
    """Four days and a minute after now: what is sent to the DLQ is old enough."""
    # moto stamps messages with the machine's own time.
    world.clock.set(datetime.now(UTC) + timedelta(days=4, minutes=1))
    return world


@pytest.fixture
def claimed(world: World) -> Refund:
    """Claimed and held by us, not yet called."""
    return world.put(refund())
