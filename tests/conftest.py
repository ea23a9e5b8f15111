"""For every test: shared service models, no temporary files left, a count of the long tests."""

from __future__ import annotations

import getpass
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import botocore.session
import pytest

# Nearly every test creates AWS clients. Botocore's loader parses a service's model (megabytes of
# JSON) for each session; here, once for each process.
botocore.session.create_loader = cache(botocore.session.create_loader)

_left_out = pytest.StashKey[int]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_left_out] = 0


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
    if config.getoption("markexpr") == "not long" and (count := config.stash[_left_out]):
        terminalreporter.write_line(f"Left to CI (make test-long): {count} long test(s).")
