"""The terminal: the one place where commands print, and where errors become an exit status.

Text from outside (a message, a gateway, a table) can hold control characters. ``safe_text`` writes
them out, and everything printed here passes through it, so that no refund can move the cursor,
change colours or reverse the reading direction of an operator's terminal.
"""

from __future__ import annotations

import codecs
import json
import os
import signal
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TextIO

import click

from refunds_ops.errors import DONE, ENVIRONMENT, CommandError

if TYPE_CHECKING:
    from types import FrameType

    from rich.console import Console

INTERRUPTED = 130
"""As shells have it: 128 + SIGINT."""
PIPE_CLOSED = 141
"""As shells have it: 128 + SIGPIPE, when the reader of a pipe has gone (``| head``)."""

_PLAIN = {
    "✓": "OK",
    "✗": "x",
    "●": "*",
    "○": "o",
    "·": "-",
    "–": "-",
    "—": "-",
    "…": "...",
    "“": '"',
    "”": '"',
    "’": "'",
    "→": "->",
    "×": "x",
    "█": "#",
    "━": "-",
}
"""For terminals whose encoding lacks these characters."""


def safe_text(text: object, *, lines: bool = False) -> str:
    r"""``text`` with every character written out that a terminal would obey or hide.

    That is control characters (ESC as ``\x1b``), direction marks, zero-width characters and
    broken Unicode. ``lines`` keeps line breaks.
    """
    text = str(text)
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() or (lines and each == "\n") else ascii(each)[1:-1]
        for each in text
    )


def safe_value(value: Any) -> Any:
    """The same for everything in a JSON value; line breaks stay."""
    match value:
        case str():
            return safe_text(value, lines=True)
        case Mapping():
            return {safe_value(name): safe_value(each) for name, each in value.items()}
        case list() | tuple():
            return [safe_value(each) for each in value]
    return value


# --- Printing -------------------------------------------------------------------------------------


def print_line(text: object = "") -> None:
    """One line on standard output, never folded."""
    _write(sys.stdout, f"{safe_text(text, lines=True)}\n")


def print_note(text: object) -> None:
    """One line on standard error: for people, so that standard output stays clean for programs."""
    _write(sys.stderr, f"{safe_text(text, lines=True)}\n")


def print_json(value: Any) -> None:
    """One JSON document. ASCII only: control characters stay escaped on every terminal."""
    _write(sys.stdout, f"{json.dumps(value, indent=2, ensure_ascii=True)}\n")


def print_json_lines(values: Iterable[Any]) -> None:
    """A JSON document per line, written as each is ready."""
    for value in values:
        _write(sys.stdout, f"{json.dumps(value, ensure_ascii=True)}\n")


def console(*, stderr: bool = False) -> Console:
    """A rich console whose output is safe, uncoloured with ``NO_COLOR`` and unfolded in a pipe."""
    from refunds_ops.safe_console import SafeConsole

    return SafeConsole(stderr=stderr)


def _write(stream: TextIO, text: str) -> None:
    stream.write(text)
    stream.flush()


def prepare_streams() -> None:
    """No character may end a command: those that the encoding lacks are written in ASCII."""
    codecs.register_error("refunds_ops.plain", _plain)
    for stream in (sys.stdout, sys.stderr):
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors="refunds_ops.plain")


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    wrong = error.object[error.start : error.end]
    return "".join(_PLAIN.get(each) or ascii(each)[1:-1] for each in wrong), error.end


# --- How commands end -----------------------------------------------------------------------------


class _Ended(BaseException):
    """SIGTERM or SIGHUP: raised like Ctrl-C, so that everything is cleaned up on the way."""


def run_command(command: Callable[[], object]) -> int:
    """Run a command and return its exit status. No exception leaves this function."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    prepare_streams()
    try:
        # click returns an Exit's status as the command's result.
        status = command()
        return status if isinstance(status, int) else DONE
    except (KeyboardInterrupt, click.Abort, _Ended):
        print_note("\nInterrupted.")
        return INTERRUPTED
    except click.exceptions.Exit as exc:
        return exc.exit_code
    except SystemExit as exc:
        return _exit_status(exc)
    except BrokenPipeError:
        return _pipe_closed()
    except Exception as exc:
        what, to_do, status = explain(exc)
        print_error(what, *to_do)
        if os.environ.get("REFUNDS_TRACEBACK"):
            raise
        return status


def _exit_status(exc: SystemExit) -> int:
    # click turns a closed pipe into SystemExit(1), which would read as "refused".
    if isinstance(exc.__context__, BrokenPipeError):
        return _pipe_closed()
    return exc.code if isinstance(exc.code, int) else int(exc.code is not None)


def _pipe_closed() -> int:
    # Python flushes standard output once more at exit; it must not fail again.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return PIPE_CLOSED


def explain(error: Exception) -> tuple[str, tuple[str, ...], int]:
    """What is wrong, what to do about it, and the exit status."""
    match error:
        case CommandError():
            return error.what, error.to_do, error.status
        case click.UsageError():
            path = error.ctx.command_path if error.ctx else "refunds"
            return error.format_message(), (f"Try: {path} --help",), error.exit_code
        case click.ClickException():
            return error.format_message(), (), error.exit_code
        case OSError():
            where = f"{error.filename}: " if error.filename else ""
            return f"{where}{error.strerror or error}.", (), ENVIRONMENT
    if is_aws_error(error):
        return f"AWS request failed: {error}", _aws_advice(error), ENVIRONMENT
    # This is an error of our own. Its arguments could contain personal data, so only its type is
    # shown.
    advice = ["Please report it with the output of REFUNDS_TRACEBACK=1."]
    if isinstance(error, (KeyError, TypeError, ValueError)):
        advice.insert(0, "Was a stored row changed by hand? To find it: refunds verify")
    return f"Internal error: {type(error).__name__}.", tuple(advice), ENVIRONMENT


def is_aws_error(error: BaseException) -> bool:
    """Whether botocore raised it; botocore itself is loaded only by commands that call AWS."""
    exceptions = sys.modules.get("botocore.exceptions")
    return exceptions is not None and isinstance(
        error, (exceptions.ClientError, exceptions.BotoCoreError)
    )


def _aws_advice(error: BaseException) -> tuple[str, ...]:
    from refunds_ops.stack.endpoint import stale_endpoint

    if stale := stale_endpoint():
        return stale
    if type(error).__name__ in ("EndpointConnectionError", "ConnectTimeoutError"):
        return ("Is the network up? With a local stack: make up",)
    return (
        "Check the region (AWS_REGION), the credentials (aws sts get-caller-identity) and their "
        "permissions.",
    )


def print_error(what: str, *to_do: str) -> None:
    """An error and its advice on standard error; red where colours are shown."""
    if sys.stderr.isatty():
        from rich.text import Text

        console(stderr=True).print(Text(f"✗ {safe_text(what)}", style="bold red"), soft_wrap=True)
    else:
        print_note(f"✗ {safe_text(what)}")
    for line in to_do:
        print_note(f"  {safe_text(line)}")


def _end(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)  # cleaning up happens once
    raise _Ended
