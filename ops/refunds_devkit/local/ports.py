"""Free ports on the loopback interface."""

from __future__ import annotations

import os
import socket

from refunds_ops.errors import NotReadyError

LOOPBACK = "127.0.0.1"
MAX_PORT = 65_535


def chosen_port(variable: str) -> int:
    """The port in the environment variable ``variable``, or a free one.

    Raises ``NotReadyError`` if the variable holds no port, or one that is taken.
    """
    asked = os.environ.get(variable)
    if not asked:
        return free_port()
    if not (asked.isascii() and asked.isdigit() and 0 < int(asked) <= MAX_PORT):
        raise NotReadyError(
            f"{variable}={asked} is not a port.",
            f"Correct it, or unset {variable} to get a free port.",
        )
    if is_taken(int(asked)):
        raise NotReadyError(
            f"Port {asked} on {LOOPBACK} is taken by another program.",
            f"Stop that program, or unset {variable} to get a free port.",
        )
    return int(asked)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        port: int = listener.getsockname()[1]
        return port


def is_taken(port: int) -> bool:
    with socket.socket() as listener:
        # As servers do: closed connections that linger do not occupy the port.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((LOOPBACK, port))
        except OSError:
            return True
    return False
