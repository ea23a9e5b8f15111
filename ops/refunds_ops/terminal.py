"""How commands end: one place that turns what went wrong into a message and an exit status."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType

import click
from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Console
from rich.markup import escape

from refunds_ops.errors import ENVIRONMENT, CommandError

INTERRUPTED = 130


class _Ended(BaseException):
    """SIGTERM or SIGHUP: goes up like a Ctrl-C, so that everything is cleaned up on the way."""


def run_command(command: Callable[[], object]) -> int:
    """Run a command; returns its exit status: 0, or what its error says, or 130 if interrupted."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    console = Console(stderr=True)
    try:
        # click hands an Exit's status back as the command's result.
        status = command()
    except CommandError as exc:
        _tell(console, exc.what, *exc.to_do)
        return exc.status
    except (ClientError, BotoCoreError) as exc:
        _tell(
            console,
            f"AWS didn't do it: {exc}",
            "Check the region (AWS_REGION), the credentials (aws sts get-caller-identity) and what "
            "they may do.",
            "With a local stack: is it still up? make up",
        )
        return ENVIRONMENT
    except click.ClickException as exc:
        exc.show()
        return exc.exit_code
    except (KeyboardInterrupt, click.Abort, _Ended):
        console.print("\nInterrupted.", highlight=False)
        return INTERRUPTED
    except click.exceptions.Exit as exc:
        return exc.exit_code
    except SystemExit as exc:
        return exc.code if isinstance(exc.code, int) else int(exc.code is not None)
    return status if isinstance(status, int) else 0


def _tell(console: Console, what: str, *to_do: str) -> None:
    console.print(f"[bold red]✗ {escape(what)}[/]", highlight=False, soft_wrap=True)
    for line in to_do:
        console.print(f"  {escape(line)}", highlight=False, soft_wrap=True)


def _end(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)  # what follows is the cleaning up: not twice
    raise _Ended
