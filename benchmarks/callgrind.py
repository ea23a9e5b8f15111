"""Counts the instructions of a function: the same on a busy machine, within 0.2 %.

Valgrind runs the function's process. Its callgrind counts only between two messages, so neither the
start of Python nor the imports are in the count. Its cachegrind counts a whole process, in half of
the time.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

_TOTAL = re.compile(r"^(?:summary|totals): (\d+)", re.MULTILINE)
_CONTROL_SECONDS = 60
_WHOLE = re.compile(r"I\s+refs:\s+([\d,]+)")
_PROCESS_SECONDS = 600


def installed() -> bool:
    """Whether valgrind can be used. Debian and Ubuntu: ``apt-get install valgrind``."""
    return shutil.which("valgrind") is not None and shutil.which("callgrind_control") is not None


class Counter:
    """Counts the instructions of a process that runs under ``command``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.command = (
            "valgrind",
            "--quiet",
            "--tool=callgrind",
            "--instr-atstart=no",
            f"--callgrind-out-file={folder}/counted",
        )

    def count(self, process_id: int, work: Callable[[], None]) -> int:
        """The instructions that the process executes during ``work``."""
        _control("--instr=on", str(process_id))
        work()
        _control("--dump", str(process_id))
        _control("--instr=off", str(process_id))
        (dump,) = self._folder.glob("counted.*")
        found = _TOTAL.search(dump.read_text())
        dump.unlink()
        if found is None:
            raise RuntimeError(f"callgrind's dump has no total: {dump}")
        return int(found[1])


@contextmanager
def counter() -> Iterator[Counter]:
    with TemporaryDirectory() as folder:
        yield Counter(Path(folder))


def count_process(command: Sequence[str], *, cwd: Path, env: Mapping[str, str]) -> int:
    """The instructions of a process from its start to its end."""
    done = subprocess.run(
        [
            *("valgrind", "--tool=cachegrind", "--cache-sim=no"),
            "--cachegrind-out-file=/dev/null",
            *command,
        ],
        cwd=cwd,
        # Without a seed, hashes of strings and so the counts differ from run to run.
        env={**env, "PYTHONHASHSEED": "0"},
        check=False,
        capture_output=True,
        text=True,
        timeout=_PROCESS_SECONDS,
    )
    if done.returncode:
        raise RuntimeError(f"{command} ended with {done.returncode}: {done.stderr[-2000:]}")
    found = _WHOLE.search(done.stderr)
    if found is None:
        raise RuntimeError(f"cachegrind counted nothing: {done.stderr[-500:]}")
    return int(found[1].replace(",", ""))


def _control(*arguments: str) -> None:
    subprocess.run(
        ["callgrind_control", *arguments],
        check=True,
        capture_output=True,
        timeout=_CONTROL_SECONDS,
    )
