"""Feeds damaged input to everything that reads what others sent. Exit status 1 on a crash.

    python -m tests.fuzz --minutes 1 --seed 7 --only receipt

Each input is one that was read before, with random damage to its values or to its bytes. Inputs
that reach a line of the product which none before them did are kept, and damaged further. A reader
may refuse an input with the errors that it documents, and with no other. A seed repeats the run.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import secrets
import sys
import time
import traceback
from dataclasses import dataclass, field
from random import Random
from typing import Any

from tests.fuzz.coverage import Coverage
from tests.fuzz.damage import damaged
from tests.fuzz.readers import Reader, readers

MOST_KEPT = 300


@dataclass
class Session:
    """A reader with the inputs that were worth keeping."""

    reader: Reader
    random: Random
    kept: list[Any] = field(default_factory=list)
    inputs: int = 0
    crashes: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.kept.append(self.reader.valid)

    def step(self, coverage: Coverage) -> None:
        content = damaged(self.random.choice(self.kept), self.random)
        self.inputs += 1
        raised: list[Exception | None] = []
        if coverage.reaches_new_lines(lambda: raised.append(crash(self.reader, content))):
            self._keep(content)
        if (exc := raised[0]) is not None:
            where = traceback.extract_tb(exc.__traceback__)[-1]
            found = f"{type(exc).__name__} at {where.filename}:{where.lineno} {exc}"
            self.crashes.setdefault(found[:300], content)

    def _keep(self, content: bytes) -> None:
        # What is not JSON any more can't be damaged by value.
        with contextlib.suppress(ValueError, RecursionError):
            if len(self.kept) < MOST_KEPT:
                self.kept.append(json.loads(content))


def crash(reader: Reader, content: bytes) -> Exception | None:
    """What ``reader`` raises that it doesn't document."""
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            reader.read(content)
    except reader.refusals:
        return None
    except Exception as exc:
        return exc
    return None


def run(seconds: float, seed: int, only: str = "") -> tuple[list[Session], int]:
    """Every reader in turn, until the time is over; and how many lines they reached together."""
    sessions = [
        Session(reader, Random(f"{seed}/{reader.name}"))
        for reader in readers()
        if only in reader.name
    ]
    coverage = Coverage()
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        for session in sessions:
            session.step(coverage)
    return sessions, len(coverage)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--minutes", type=float, default=1)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--only", default="", help="readers with this in their names")
    asked = parser.parse_args()
    logging.disable(logging.CRITICAL)
    seed = secrets.randbits(32) if asked.seed is None else asked.seed
    print(f"seed {seed}", flush=True)
    sessions, lines = run(asked.minutes * 60, seed, asked.only)
    for session in sessions:
        print(f"{session.inputs:>9} {session.reader.name}, {len(session.kept)} kept")
    crashes = sum(len(session.crashes) for session in sessions)
    total = sum(session.inputs for session in sessions)
    print(f"inputs: {total}, lines reached: {lines}, crashes: {crashes}")
    for session in sessions:
        for found, content in session.crashes.items():
            print(f"  {session.reader.name}: {found}\n    {content[:300]!r}")
    return 1 if crashes else 0


if __name__ == "__main__":
    sys.exit(main())
