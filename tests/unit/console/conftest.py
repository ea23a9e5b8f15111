"""The console over a stack in moto."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest
from jinja2 import BytecodeCache, Environment
from jinja2.bccache import Bucket
from tests.support.audit_backups import Signer
from tests.support.console import Client, console_over
from tests.support.operators_stack import operators_stack
from tests.support.shop import Lived
from tests.support.world import World

from refunds_console import recent, rendering, state
from refunds_ops import dead_letters
from refunds_ops.audit import sources


class CompiledTemplates(BytecodeCache):
    """Each console compiles all of its templates: here, once for each process."""

    def __init__(self) -> None:
        self._codes: dict[tuple[str, str], object] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        bucket.code = self._codes.get((bucket.key, bucket.checksum))  # type: ignore[assignment]

    def dump_bytecode(self, bucket: Bucket) -> None:
        self._codes[bucket.key, bucket.checksum] = bucket.code


COMPILED = CompiledTemplates()


@pytest.fixture(autouse=True)
def quick_and_steady(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "Environment", partial(Environment, bytecode_cache=COMPILED))
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
    client.finish_reading()
