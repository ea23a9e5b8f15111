"""What ends a command early: its exit status, what is wrong, and what to do about it."""

from __future__ import annotations

DONE = 0
REFUSED = 1
"""Findings, or a request that is not valid."""
ENVIRONMENT = 3  # click itself ends with 2 for wrong usage
"""No stack, network or permission: the command could not find out anything about refunds."""


class CommandError(Exception):
    """``what`` is wrong; ``to_do`` is advice, one line each."""

    status = REFUSED

    def __init__(self, what: str, *to_do: str) -> None:
        super().__init__(what)
        self.what = what
        self.to_do = to_do


class RefusedError(CommandError):
    """The command is valid, but its answer is no."""


class NotReadyError(CommandError):
    """Something that the command needs is missing: a stack, a file, a gateway."""

    status = ENVIRONMENT
