"""What ends a command early: its exit status, what is wrong, and what to do about it."""

from __future__ import annotations

REFUSED = 1
"""Findings, or a request that is not valid."""
USAGE = 2
ENVIRONMENT = 3
"""No stack, no network, no engine: nothing was found out about refunds."""


class CommandError(Exception):
    """``what`` is wrong; ``to_do`` is advice, a line each."""

    status = REFUSED

    def __init__(self, what: str, *to_do: str) -> None:
        super().__init__(what)
        self.what = what
        self.to_do = to_do


class RefusedError(CommandError):
    """The command understood what was asked, and it can't be."""


class NotReadyError(CommandError):
    """What the command needs around it is not there."""

    status = ENVIRONMENT
