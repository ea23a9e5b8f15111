"""Commands that are waited for: bounded, their output in a log, ended with us."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from refunds_ops.errors import NotReadyError

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def run(
    command: Sequence[str | Path],
    environment: Mapping[str, str],
    log: Path,
    *,
    seconds: float,
    failure: str,
    to_do: Sequence[str] = (),
) -> None:
    """Run ``command`` to its end. Raises ``NotReadyError`` with the log's last lines."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        # A session of its own: a Ctrl-C reaches only us, and we end all of it.
        process = subprocess.Popen(
            command,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            status = process.wait(seconds)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    if status == 0:
        return
    how = f"did not end within {seconds:.0f} s" if status is None else f"ended with {status}"
    raise NotReadyError(f"{failure} ({how}).", *last_lines(log), *to_do, f"Log: {log}")


def last_lines(log: Path, count: int = 8) -> list[str]:
    """The end of a log, without colours, each line marked as quoted."""
    try:
        text = log.read_text(errors="replace")
    except OSError:
        return []
    lines = [_COLOUR.sub("", line).rstrip() for line in text.splitlines()]
    return [f"| {line[:200]}" for line in lines if line][-count:]
