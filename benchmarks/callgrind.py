"""Counts the instructions of a function: the same on a busy machine, within 0.2 %.

Valgrind's callgrind runs the function's process. It counts only between two messages, so neither
the start of Python nor the imports are in the count, unless they are what is counted.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

_TOTAL = re.compile(r"^(?:summary|totals): (\d+)", re.MULTILINE)
_CONTROL_SECONDS = 60


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


def _control(*arguments: str) -> None:
    subprocess.run(
        ["callgrind_control", *arguments],
        check=True,
        capture_output=True,
        timeout=_CONTROL_SECONDS,
    )
