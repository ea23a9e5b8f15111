"""How many examples a slow property is tried with."""

from __future__ import annotations

from hypothesis import settings


def examples(divisor: int) -> int:
    """A part of what the profile of this run has: 100 in CI, fewer in `make test`."""
    profile = settings.default
    assert profile is not None
    return profile.max_examples // divisor
