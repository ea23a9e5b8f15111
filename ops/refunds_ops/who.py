"""Who runs a command and why: kept in the audit trail, so both are checked in one place."""

from __future__ import annotations

import getpass
from collections.abc import Callable
from typing import Any, TypeVar

import click

from refunds.domain.card_numbers import has_card_number
from refunds_ops.errors import RefusedError

F = TypeVar("F", bound=Callable[..., Any])

BY = click.option("--by", metavar="WHO", help="Who does this.  [default: operator:<your login>]")


def why_option(
    help_text: str = "Kept in the records.", *, required: bool = True
) -> Callable[[F], F]:
    return click.option("--why", metavar="TEXT", required=required, help=help_text)


def operator(by: str | None = None) -> str:
    """Who runs the command: ``by``, else the login. Raises ``RefusedError``."""
    return by if by is not None else f"operator:{login()}"


def login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in containers
        return "unknown"


def check_kept(**texts: str) -> None:
    """Refuse a text that must be said and isn't, or that must not be kept."""
    if missing := [f"--{name}" for name, text in texts.items() if not text.strip()]:
        raise RefusedError(f"{' and '.join(missing)} must not be empty: the records keep it.")
    if any(has_card_number(text) for text in texts.values()):
        raise RefusedError("Leave card numbers out: the records are kept for years.")
