"""Engines in pytest: a missing toolchain skips the test with how to get it; in CI it fails."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TypeVar

import pytest
from tests.support.engines.tools import MissingToolchainError

Started = TypeVar("Started")


@contextmanager
def named_if_missing() -> Iterator[None]:
    """A missing program skips the test with how to get it; in CI it fails the test."""
    try:
        yield
    except MissingToolchainError as missing:
        if os.environ.get("CI"):
            pytest.fail(str(missing))
        pytest.skip(str(missing))


@contextmanager
def started(
    engine: Callable[[Path], AbstractContextManager[Started]],
    folders: pytest.TempPathFactory,
) -> Iterator[Started]:
    """What ``engine`` yields, with a folder of its own."""
    with named_if_missing():
        running = engine(folders.mktemp(engine.__name__))
        value = running.__enter__()
    try:
        yield value
    finally:
        running.__exit__(None, None, None)
