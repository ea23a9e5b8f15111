"""Runs a command in a pseudo-terminal and keeps what it wrote, and when.

The file is asciicast v2 (https://docs.asciinema.org/manual/asciicast/v2/): a header, then a line of
JSON for each piece of output. `asciinema play FILE` plays it.
"""

from __future__ import annotations

import codecs
import fcntl
import json
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

MAX_SECONDS = 900
VERSION = 2


@dataclass(frozen=True)
class Output:
    at: float
    """Seconds since the start."""
    text: str


@dataclass(frozen=True)
class Recording:
    columns: int
    rows: int
    outputs: list[Output]

    def save(self, path: Path) -> None:
        header = {"version": VERSION, "width": self.columns, "height": self.rows}
        lines = [header, *([round(each.at, 3), "o", each.text] for each in self.outputs)]
        path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))

    @classmethod
    def load(cls, path: Path) -> Recording:
        """Raises ``ValueError`` for what is not asciicast v2."""
        header, *lines = map(json.loads, path.read_text().splitlines())
        if not isinstance(header, dict) or header.get("version") != VERSION:
            raise ValueError(f"{path} is not an asciicast of version 2")
        outputs = [Output(at, text) for at, kind, text in lines if kind == "o"]
        return cls(header["width"], header["height"], outputs)


class RecordingError(Exception):
    """The command failed. The message has the end of what it wrote."""


def capture(command: Sequence[str], *, columns: int, rows: int) -> Recording:
    """Raises ``RecordingError`` when the command fails or takes longer than ``MAX_SECONDS``."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    environment |= {"TERM": "xterm-256color", "COLUMNS": str(columns), "LINES": str(rows)}
    process = subprocess.Popen(command, stdin=its, stdout=its, stderr=its, env=environment)
    os.close(its)
    outputs = []
    decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
    began = time.monotonic()
    try:
        while (at := time.monotonic() - began) < MAX_SECONDS:
            if not select.select([ours], [], [], 1)[0]:
                continue
            try:
                piece = os.read(ours, 65536)
            except OSError:  # Linux: the other end is closed
                break
            if not piece:
                break
            outputs.append(Output(at, decode(piece)))
    finally:
        os.close(ours)
        try:
            status = process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            status = process.wait()
    if status != 0:
        end = "".join(each.text for each in outputs)[-2000:]
        raise RecordingError(f"{' '.join(command)} ended with status {status}:\n{end}")
    return Recording(columns, rows, outputs)
