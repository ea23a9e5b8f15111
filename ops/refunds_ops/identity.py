"""Who runs a command and why. AWS STS says who, so people can't choose the name.

The records keep both for years, so they are checked in one place.
"""

from __future__ import annotations

import getpass
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from refunds.domain.card_numbers import has_card_number
from refunds.domain.identity import Identity
from refunds.domain.text import is_blank
from refunds_ops.errors import NotReadyError, RefusedError

if TYPE_CHECKING:
    from refunds_ops.stack.stack import Stack

F = TypeVar("F", bound=Callable[..., Any])

ON_BEHALF_OF = click.option(
    "--on-behalf-of",
    "--by",
    "on_behalf_of",
    metavar="WHO",
    help="A note on whom you act for. AWS STS says who you are.",
)


def why_option(
    help_text: str = "Kept in the records.", *, required: bool = True
) -> Callable[[F], F]:
    return click.option("--why", metavar="TEXT", required=required, help=help_text)


def identify(stack: Stack, on_behalf_of: str | None = None) -> Identity:
    """The caller, by one call of STS's GetCallerIdentity, which needs no permission.

    Raises ``NotReadyError`` when STS can't be asked, ``RefusedError`` for a note that must not be
    kept.
    """
    if on_behalf_of is not None:
        check_kept(on_behalf_of=on_behalf_of)
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        caller = stack.new_client("sts").get_caller_identity()
        return Identity(caller["Arn"], caller["Account"], caller["UserId"], on_behalf_of)
    except (ClientError, BotoCoreError) as exc:
        raise NotReadyError(
            f"AWS does not say who you are, so nothing was changed: {exc}",
            "Check the credentials and the network: aws sts get-caller-identity",
        ) from exc


def login() -> str:
    """The user's name on this machine. It is used only for requests, whose sender SQS itself
    reports."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in containers
        return "unknown"


def check_kept(**texts: str) -> None:
    """Refuse a required text that is missing, and a text that must not be stored."""
    if missing := [f"--{name.replace('_', '-')}" for name, text in texts.items() if is_blank(text)]:
        raise RefusedError(f"{' and '.join(missing)} must not be empty: the records keep it.")
    if any(has_card_number(text) for text in texts.values()):
        raise RefusedError("Leave card numbers out: the records are kept for years.")
