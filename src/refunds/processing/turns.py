"""Time shares: each part of a run has its own time, whatever the others do."""

from __future__ import annotations

from typing import NamedTuple

from refunds.domain.clock import Deadline

MIN_LEFT_SECONDS = 15.0
"""With less than this left of the invocation, no further step starts."""


class Turn(NamedTuple):
    """One part's share of an invocation.

    No step starts after ``ends``. A step that has started may use the whole ``deadline``.
    """

    ends: Deadline
    deadline: Deadline

    @classmethod
    def until(cls, deadline: Deadline, at_left_seconds: float) -> Turn:
        """A turn that ends when ``at_left_seconds`` of the invocation are left."""
        return cls(deadline.within(deadline.left_seconds() - at_left_seconds), deadline)

    @property
    def over(self) -> bool:
        return self.ends.left_seconds() <= 0 or self.deadline.left_seconds() < MIN_LEFT_SECONDS
