"""Background processes that outlive the command that started them, and how they are stopped.

The system may since have given a recorded pid to another program. A process is ours only if its
start time is the recorded one as well.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

TERM_SECONDS = 5.0
KILL_SECONDS = 5.0
POLL_SECONDS = 0.05

_children: dict[int, subprocess.Popen[bytes]] = {}
# By pid. Python warns when it drops a running process. These are meant to keep running.


@dataclass(frozen=True)
class Started:
    """A process that we started. ``pid`` is its group's too; ``began`` is the system's own text."""

    pid: int
    began: str


def start(command: Sequence[str | Path], environment: Mapping[str, str], log: Path) -> Started:
    """Start ``command`` in its own session: it survives a Ctrl-C and the end of this command."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            env=dict(environment),
            cwd=log.parent,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    _children[process.pid] = process
    return Started(process.pid, _began(process.pid) or "")


@contextmanager
def undisturbed() -> Iterator[None]:
    """Delays a Ctrl-C or SIGTERM until the block has finished.

    Use it to start and record a process, or to stop all recorded ones. Keep the block short.
    """
    came: list[int] = []
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {
        number: signal.signal(number, lambda came_now, frame: came.append(came_now))
        for number in signals
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


def is_running(process: Started) -> bool:
    _reap(process.pid)
    return bool(process.began) and _began(process.pid) == process.began


def stop(process: Started) -> bool:
    """Stop the process and its children. Returns False if it had exited already."""
    if not is_running(process):
        return False
    for number, seconds in ((signal.SIGTERM, TERM_SECONDS), (signal.SIGKILL, KILL_SECONDS)):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        if wait_until(lambda: not is_running(process), seconds):
            break
    _end_group(process.pid)
    # It may have exited between the last look at its status and the one at /proc.
    if (child := _children.pop(process.pid, None)) is not None:
        with suppress(subprocess.TimeoutExpired):
            child.wait(KILL_SECONDS)
    return True


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether the condition became true in time. Checks every 50 ms."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def _end_group(group: int) -> None:
    # The leader has exited, but its pid stays reserved while the group has members.
    try:
        os.killpg(group, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def _reap(pid: int) -> None:
    # A child that has exited stays as a zombie until its status is read.
    if (child := _children.get(pid)) is not None:
        if child.poll() is not None:
            _children.pop(pid, None)
        return
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return


def _began(pid: int) -> str | None:
    """When the process started, or None if it does not run (a zombie does not)."""
    if Path("/proc/self/stat").exists():
        try:
            # After the command's name, which can contain anything: state, …, start time.
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return None if fields[0] in "ZX" else fields[19]
    state, _, started = (
        subprocess.run(
            ["ps", "-o", "stat=,lstart=", "-p", str(pid)],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
        .stdout.strip()
        .partition(" ")
    )
    return None if not started or state.startswith("Z") else started.strip()
