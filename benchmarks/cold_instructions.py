"""Instructions of each function's cold start: as packaged, and the same on every machine.

A floor is a process that does less, in the same package and with the same Python. The start of
Python itself is subtracted from both.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

from benchmarks import callgrind
from benchmarks.cold_start import FLOORS, MOST_TIMES_THE_FLOOR, POWERTOOLS, fresh_process, imports
from benchmarks.results import Result
from benchmarks.servers import PROJECT

AT_ONCE = 2

Steps: TypeAlias = dict[str, str]
"""The code that a fresh process runs, by name."""

NOTHING: Steps = {}
EMPTY_HANDLER: Steps = {"an empty handler with Powertools": POWERTOOLS}


def cold_instruction_results(*, with_libraries: bool) -> list[Result]:
    """Each function's start, compared with an empty handler that has Powertools' logger and
    metrics, and ``with_libraries`` with the start of the libraries that the function uses."""
    starts: dict[str, Steps] = {"": NOTHING, "empty": EMPTY_HANDLER}
    starts |= {function: imports(function) for function in FLOORS}
    if with_libraries:
        starts |= {f"{function}'s libraries": floor for function, floor in FLOORS.items()}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        counted = dict(zip(starts, pool.map(_count, starts.values()), strict=True))
    python = counted.pop("")
    counts = {name: count - python for name, count in counted.items()}
    return [result for function in FLOORS for result in _of(function, counts)]


def _count(steps: Steps) -> int:
    command, environment = fresh_process(steps)
    return callgrind.count_process(command, cwd=PROJECT, env=environment)


def _of(function: str, counts: dict[str, int]) -> list[Result]:
    count, empty = counts[function], counts["empty"]
    libraries = counts.get(f"{function}'s libraries")
    note = f"{count / 1e6:,.0f} million; an empty handler takes {empty / 1e6:,.0f} million"
    results = [_ratio(f"cold start {function} / empty handler", count / empty, None, note)]
    if libraries is not None:
        note = f"its libraries alone take {libraries / 1e6:,.0f} million"
        name = f"cold start {function} / its libraries"
        results.append(_ratio(name, count / libraries, MOST_TIMES_THE_FLOOR, note))
    return results


def _ratio(name: str, value: float, target: float | None, note: str) -> Result:
    python = f"Python {sys.version_info.major}.{sys.version_info.minor}"
    return Result(
        name,
        value,
        "×",
        baseline=1.0,
        target=target,
        tolerance=0.02,
        note=f"instructions, {python}: {note}",
    )
