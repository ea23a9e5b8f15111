"""The console over a stack in moto."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.support.audit_backups import Signer
from tests.support.console import Client, Lived, console_over, operators_stack
from tests.support.world import World

from refunds_console import recent, state
from refunds_ops import dead_letters
from refunds_ops.audit import sources


@pytest.fixture(autouse=True)
def quick_and_steady(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead_letters, "WAIT_SECONDS", 0)
    monkeypatch.setattr(sources, "public_key", lambda stack, file: Signer().public)
    # Moto takes longer than AWS.
    monkeypatch.setattr(state, "PATIENCE_SECONDS", 30.0)
    # What was read stays, however slow the machine is.
    monkeypatch.setattr(recent, "READ_AGAIN_SECONDS", 3600.0)


@pytest.fixture
def lived(world: World) -> Lived:
    return Lived(world)


@pytest.fixture
def console(world: World) -> Iterator[Client]:
    client = console_over(operators_stack(world.stack)).enter()
    yield client
    # The next test empties the tables.
    client.read_all()
