from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.conformance.calls import assert_no_secret, everything_logged


@pytest.fixture
def output() -> Iterator[list[str]]:
    """What a test adds, and every log record at any level: none of it may hold a secret."""
    with everything_logged() as texts:
        yield texts
    assert_no_secret(*texts)
