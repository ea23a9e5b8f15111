"""`refunds verify`: instructions for each entry, its share of work for other cores, and memory.

Answers come from files that are made before, so none of the making is in these numbers.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks import callgrind
from benchmarks.results import Result, median_result, spread
from benchmarks.servers import PROJECT

INSTRUCTIONS_BEFORE = 1_486_307
"""For each entry, with its share of refunds and ledgers, when one process did all the work, with
rfc8785 for every hash (Python 3.11)."""

FASTER, CORES, FASTER_ON_CORES = 1.8, 4, 4.5
COUNTED = (500, 1_000)
"""Entries: the difference of two runs leaves out the start of the process."""

SMALL_TRAIL = 10_000
MOST_MIB = 200
TIMEOUT_SECONDS = 1800


def verify_results(runs: int, entries: int, *, large_entries: int | None) -> list[Result]:
    """``large_entries`` None compares the memory for ``SMALL_TRAIL`` with that for ``entries``, if
    these are more."""
    large_entries = large_entries or entries
    with _trails({*COUNTED, SMALL_TRAIL, entries, large_entries}) as trails:
        instructions = _instructions_per_entry(trails)
        alone = [_run(trails / f"{entries}", 1) for _ in range(runs)]
        together = [_run(trails / f"{entries}", CORES) for _ in range(runs)]
        small = _run(trails / f"{SMALL_TRAIL}", CORES) if large_entries > SMALL_TRAIL else None
        large = together if large_entries == entries else [_run(trails / f"{large_entries}", CORES)]
    results = [
        median_result(
            "verify: entries per CPU second, alone",
            [entries / each["cpu"] for each in alone],
            "entries/s",
            better="higher",
        )
    ]
    if instructions:
        results += _compared(instructions, alone, together)
    peak = max(each["peak_mib"] for each in large)
    workers = f"{CORES} workers"
    results.append(
        Result(
            f"verify: memory of all processes, {large_entries:,} entries",
            peak,
            "MiB",
            target=MOST_MIB,
            note=f"{workers}; what they share counts for each",
        )
    )
    if small is not None:
        results.append(
            Result(
                f"verify: memory, {SMALL_TRAIL:,} to {large_entries:,} entries",
                peak - small["peak_mib"],
                "MiB more",
                target=32,
                note=workers,
            )
        )
    return results


def _compared(
    instructions: float, alone: list[dict[str, Any]], together: list[dict[str, Any]]
) -> list[Result]:
    """With the verify of before, whose time on this machine follows from its instructions."""
    before = statistics.median(each["cpu"] for each in alone) * INSTRUCTIONS_BEFORE / instructions
    # One process reads and stores, the workers do the rest: neither can be faster than its share.
    gains = [
        before / max(each["cpu"], (each["cpu"] + each["workers_cpu"]) / CORES) for each in together
    ]
    return [
        Result(
            "verify: instructions per entry",
            instructions,
            "instructions",
            baseline=INSTRUCTIONS_BEFORE,
            target=INSTRUCTIONS_BEFORE / FASTER,
            is_count=True,
            note="valgrind; the baseline: one process with rfc8785",
        ),
        Result(
            f"verify: faster on {CORES} cores, by arithmetic",
            statistics.median(gains),
            "×",
            "higher",
            baseline=1.0,
            target=FASTER_ON_CORES,
            spread=spread(gains),
        ),
    ]


@contextmanager
def _trails(sizes: set[int]) -> Iterator[Path]:
    """A folder with a trail of each size. Their making has a process of its own."""
    with tempfile.TemporaryDirectory(prefix="refunds-bench-") as folder:
        for entries in sizes:
            place = Path(folder) / f"{entries}"
            _python("-m", "benchmarks.stored_trail", str(place), f"{entries}")
        yield Path(folder)


def _run(trail: Path, workers: int) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(
        _python("-m", "benchmarks.verify_run", str(trail), f"{workers}").stdout
    )
    if result["entries"] != int(trail.name) or result["findings"]:
        raise RuntimeError(f"verify should find nothing in {trail.name} entries: {result}")
    return result


def _instructions_per_entry(trails: Path) -> float | None:
    """None without valgrind."""
    if not callgrind.installed():
        return None
    with ThreadPoolExecutor(len(COUNTED)) as pool:
        few, many = pool.map(_instructions, [trails / f"{entries}" for entries in COUNTED])
    return (many - few) / (COUNTED[1] - COUNTED[0])


def _instructions(trail: Path) -> int:
    command = [sys.executable, "-m", "benchmarks.verify_run", str(trail)]
    return callgrind.count_process(command, cwd=PROJECT, env=_environment())


def _environment() -> dict[str, str]:
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(str(PROJECT / name) for name in ("src", "ops", "."))
    }


def _python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=PROJECT,
        env=_environment(),
        check=True,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
    )
