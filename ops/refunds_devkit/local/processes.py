"""Background processes that outlive the command that started them, and their sure end.

A recorded pid may since belong to someone else's process: only one that began at the recorded
moment is ours.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

TERM_SECONDS = 5.0
KILL_SECONDS = 5.0
POLL_SECONDS = 0.05

_children: list[subprocess.Popen[bytes]] = []
# Kept, because Python complains of one that is dropped while it runs; these are meant to run on.


@dataclass(frozen=True)
class Started:
    """A process of ours: its pid, its group's too, and when it began, in the system's words."""

    pid: int
    began: str


def start(command: Sequence[str | Path], environment: Mapping[str, str], log: Path) -> Started:
    """Start ``command`` in a session of its own, so that neither a Ctrl-C nor our end ends it."""
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
    _children.append(process)
    return Started(process.pid, _began(process.pid) or "")


@contextmanager
def undisturbed() -> Iterator[None]:
    """What happens inside happens whole: a Ctrl-C or SIGTERM takes effect after it.

    For starting a process and writing it down, and for stopping all that were. Keep it short.
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
    """End the process and its children; False when it had ended already."""
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
    return True


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether the condition came true in time; asked every 50 ms."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def _end_group(group: int) -> None:
    # The leader is gone and its pid can't be given away while the group has members.
    try:
        os.killpg(group, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def _reap(pid: int) -> None:
    # A child of ours that has ended stays as a zombie until somebody asks for it.
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return


def _began(pid: int) -> str | None:
    """When the process began; None when there is none (or only its zombie)."""
    if Path("/proc/self/stat").exists():
        try:
            # Behind the command's name, which may hold anything: state, …, start time.
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
