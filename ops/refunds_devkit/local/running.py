"""Runs commands with a time limit and a log. They end when this process ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from refunds_ops.errors import NotReadyError

TERM_SECONDS = 10.0
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def run(  # noqa: PLR0913 - a server's settings
    command: Sequence[str | Path],
    environment: Mapping[str, str],
    log: Path,
    *,
    seconds: float,
    failure: str,
    to_do: Sequence[str] = (),
) -> str:
    """Run ``command`` and return its standard output, which the log contains too.

    Raises ``NotReadyError`` with the log's last lines if the command fails or takes too long.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        # In its own session: a Ctrl-C reaches only this process, which then stops the session.
        process = subprocess.Popen(
            command,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=output,
            start_new_session=True,
        )
        try:
            said, _ = process.communicate(timeout=seconds)
            status: int | None = process.returncode
        except subprocess.TimeoutExpired:
            said, status = b"", None
        finally:
            _end(process)
            assert process.stdout is not None
            process.stdout.close()
        output.write(said)
    if status == 0:
        return said.decode(errors="replace")
    how = f"did not finish within {seconds:.0f} s" if status is None else f"exited with {status}"
    raise NotReadyError(f"{failure} ({how}).", *last_lines(log), *to_do, f"Log: {log}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Stop what still runs: with SIGTERM first, so that its container is removed."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            return
        os.killpg(process.pid, number)
        try:
            process.wait(TERM_SECONDS)
        except subprocess.TimeoutExpired:
            continue


def last_lines(log: Path, count: int = 8) -> list[str]:
    """The last lines of a log as a quotation, without colours."""
    try:
        text = log.read_text(errors="replace")
    except OSError:
        return []
    lines = [_COLOUR.sub("", line).rstrip() for line in text.splitlines()]
    return [f"| {line[:200]}" for line in lines if line][-count:]
