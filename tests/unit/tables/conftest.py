"""Fixtures for the tests of the tables."""

from __future__ import annotations

import pytest
from tests.support.world import World

from refunds.tables.ledger import LedgerTable


@pytest.fixture
def ledger(world: World) -> LedgerTable:
    """10,000 captured, of which refund-0 holds 1,000."""
    world.open_ledger("payment-1", "refund-0", 1000)
    return world.ledger
