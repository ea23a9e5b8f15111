"""The stack that these tests use: the running one of `make up`, a temporary one, or with ENGINES=1
one on real engines."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console
from tests.local.flow import Flow
from tests.support.engines.fixtures import started
from tests.support.engines.stack import stack_on_engines

from refunds_devkit.local.gateway import api_key, gateway_problem
from refunds_devkit.local.lifecycle import down, stack_of, up
from refunds_devkit.local.progress import Steps
from refunds_devkit.local.workspace import Workspace
from refunds_devkit.sandbox.client import SandboxClient, SandboxError
from refunds_ops.errors import CommandError
from refunds_ops.stack.stack import Stack


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """That of `make up`, if its stack runs, else a temporary one."""
    if _running_stack():
        return Workspace(Path(".local").resolve())
    return Workspace(tmp_path_factory.mktemp("stack"))


@pytest.fixture(scope="session")
def stack(workspace: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    if os.environ.get("ENGINES"):
        with started(stack_on_engines, tmp_path_factory) as running_on_engines:
            yield running_on_engines.stack
        return
    running = _running_stack()
    if running:
        yield running
        return
    for name in ("GATEWAY", "GATEWAY_URL", "GATEWAY_API_KEY", "EMULATOR_PORT", "SANDBOX_PORT"):
        os.environ.pop(name, None)
    try:
        yield up(workspace, Steps(Console()), for_containers=False)
    finally:
        down(workspace)


@pytest.fixture(scope="session")
def flow(stack: Stack) -> Flow:
    return Flow(stack, SandboxClient(stack["GATEWAY_URL"]))


def _running_stack() -> Stack | None:
    """The stack of `make up`, if it runs and its sandbox can be scripted."""
    try:
        stack = stack_of(Workspace(Path(".local").resolve()))
        SandboxClient(stack["GATEWAY_URL"]).health()
        return None if gateway_problem(stack["GATEWAY_URL"], api_key()) else stack
    except (CommandError, SandboxError, OSError, ValueError):
        return None
