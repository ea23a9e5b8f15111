"""Counts AWS calls: growth is compared by the number of calls, never by time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from botocore.client import BaseClient


@contextmanager
def counted_calls(at_most: int = 1000) -> Iterator[Counter[str]]:
    """Every call made within, by its operation. More than ``at_most`` fail the test."""
    counts = Counter[str]()
    real = BaseClient._make_api_call  # type: ignore[attr-defined]

    def count(client: Any, operation: str, parameters: dict[str, Any]) -> Any:
        counts[operation] += 1
        assert counts.total() <= at_most, f"no end of calls: {counts}"
        return real(client, operation, parameters)

    with patch.object(BaseClient, "_make_api_call", count):
        yield counts
