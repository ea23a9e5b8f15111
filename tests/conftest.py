"""For every test: shared service models, no temporary files left, and what is left to CI."""

from __future__ import annotations

import gc
import getpass
import os
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from tests.support import quick_clients as quick_clients  # makes botocore faster

gc.disable()  # Importing and collecting the tests leaves next to nothing to collect.

QUICK_EXAMPLES = 25
"""Of each property, in `make test`. CI and `make test-long` try hypothesis's 100."""

RARE_COLLECTIONS = (20_000, 20, 50)
"""For the garbage collector. Python's own thresholds take a tenth of the CPU time."""

_left_out = pytest.StashKey[int]()
_is_quick = pytest.StashKey[bool]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_left_out] = 0
    config.stash[_is_quick] = quick = _leaves_out_long(config) and "CI" not in os.environ
    if quick:
        hypothesis.settings.register_profile("quick", max_examples=QUICK_EXAMPLES, deadline=None)
        hypothesis.settings.load_profile("quick")


def _leaves_out_long(config: pytest.Config) -> bool:
    return bool(config.getoption("markexpr") == "not long")


def pytest_collection_finish() -> None:
    """What is loaded by now stays: the garbage collector need not look at it again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*RARE_COLLECTIONS)
    gc.enable()


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    if items:
        long = sum(item.get_closest_marker("long") is not None for item in items)
        items[0].config.stash[_left_out] += long


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker of pytest-xdist tells the main process."""
    output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["left_out"] = session.config.stash[_left_out]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    # Every worker collects every test, so their counts are the same.
    node.config.stash[_left_out] = getattr(node, "workeroutput", {}).get("left_out", 0)


def pytest_unconfigure() -> None:
    """Remove the parent of pytest's temporary folders, unless a failed test left one."""
    with suppress(OSError, KeyError):
        Path(tempfile.gettempdir(), f"pytest-of-{getpass.getuser()}").rmdir()


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if _leaves_out_long(config) and (count := config.stash[_left_out]):
        line = f"Left to CI: {count} long tests (make test-long)"
        if config.stash[_is_quick]:
            line += f"; {QUICK_EXAMPLES} of 100 examples of each property were tried"
        terminalreporter.write_line(f"{line}.")
