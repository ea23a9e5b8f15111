"""`refunds console`: a web page on this machine for the stack."""

from __future__ import annotations

import socket
import webbrowser

import click

from refunds_ops.errors import NotReadyError
from refunds_ops.json_output import json_option
from refunds_ops.stack.stack import find_stack
from refunds_ops.terminal import print_json, print_line, print_note

HOST = "127.0.0.1"
PORT = 8321
"""The default port. If it is taken, any free port is used."""


@click.command("console")
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    help=f"Listen on this port; 0 takes a free one.  [default: {PORT}, or a free one]",
)
@click.option(
    "--allow-changes",
    is_flag=True,
    help="Let the pages decide reviews and approvals, and handle dead letters. Without it they "
    "only show.",
)
@click.option("--open", "open_browser", is_flag=True, help="Open it in this machine's browser.")
@json_option({"url": "opens the console, once", "changes": "whether it allows changes"})
@click.pass_obj
def console(
    stack_name: str | None,
    *,
    port: int | None,
    allow_changes: bool,
    open_browser: bool,
    as_json: bool,
) -> None:
    """Open a web page that shows the stack: refunds, what waits, backups and proof.

    It serves this machine only, with your own AWS identity and rights, until Ctrl-C. The printed
    address works once: the browser that opens it first keeps a session.
    """
    try:
        from refunds_console.server import serve
    except ModuleNotFoundError as exc:
        raise NotReadyError(
            f"The console needs {exc.name}, which is not installed.",
            "Install it: pip install 'refunds[console]'",
        ) from exc
    stack = find_stack(stack_name)
    listening = _listen(port)

    def on_ready(url: str) -> None:
        if as_json:
            print_json({"url": url, "changes": allow_changes})
        else:
            print_line(f"Open  {url}")
            print_note(
                "It allows changes." if allow_changes else "Read-only; to decide: --allow-changes"
            )
            print_note("Stop it with Ctrl-C.")
        if open_browser:
            webbrowser.open(url)

    serve(stack, listening, allow_changes=allow_changes, on_ready=on_ready)


def _listen(port: int | None) -> socket.socket:
    """Raises ``NotReadyError`` when a port was named and is taken."""
    for wanted in (PORT, 0) if port is None else (port,):
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((HOST, wanted))
        except OSError as exc:
            listening.close()
            why = exc.strerror
        else:
            return listening
    raise NotReadyError(f"Port {wanted} can't be used: {why}.", "Name another one: --port NUMBER")
