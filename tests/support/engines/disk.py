"""A disk that can be really full: a tmpfs of its own, which only root on Linux may mount."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MIB = 2**20


class Disk:
    """``fill`` leaves no byte of it, until ``free``."""

    def __init__(self, folder: Path) -> None:
        self._filler = folder / "filler"

    def fill(self) -> None:
        with self._filler.open("ab", buffering=0) as filler:
            for block in (MIB, 4096, 1):
                while _grow(filler.fileno(), block):
                    pass

    def free(self) -> None:
        self._filler.unlink(missing_ok=True)


def _grow(file: int, block: int) -> bool:
    try:
        os.posix_fallocate(file, os.fstat(file).st_size, block)
    except OSError as exc:
        if exc.errno == errno.ENOSPC:
            return False
        raise
    return True


def can_mount() -> bool:
    return sys.platform == "linux" and os.geteuid() == 0


@contextmanager
def small_disk(folder: Path, mib: int) -> Iterator[Disk]:
    """A disk of ``mib`` MiB at the empty ``folder``. Its contents are gone afterwards."""
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={mib}m,mode=700", "tmpfs", str(folder)],
        check=True,
        capture_output=True,
        timeout=30,
    )
    try:
        yield Disk(folder)
    finally:
        # Lazily: a process that was killed may still be ending.
        subprocess.run(["umount", "--lazy", str(folder)], check=True, timeout=30)
