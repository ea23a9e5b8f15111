"""A running sandbox gateway with a client that compares each answer with the contract."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.flair_client import Flair

from refunds_devkit.sandbox.server import SandboxGateway


@pytest.fixture(scope="module")
def flair() -> Iterator[Flair]:
    """For tests that use payments of their own and leave the clock alone."""
    with SandboxGateway() as gateway:
        flair = Flair(gateway)
        yield flair
        flair.pool.clear()


@pytest.fixture
def own_flair(tmp_path: Path) -> Iterator[Flair]:
    """For tests that move the clock, restart, or count everything."""
    with SandboxGateway(tmp_path / "ledger.sqlite3") as gateway:
        flair = Flair(gateway)
        yield flair
        flair.pool.clear()
