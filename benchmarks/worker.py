"""A warm function in a process of its own: takes events on standard input, tells what they cost.

python -m benchmarks.worker refunds.handlers.process_refund
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from benchmarks.environment import function_environment, lambda_context
from benchmarks.memory import peak_mib
from benchmarks.runtime import baselines_libraries, lambda_runtime
from benchmarks.servers import PROJECT


@dataclass(frozen=True)
class Cost:
    """Of one invocation: seconds, and what the handler returned. ``peak_mib`` is the process's
    largest memory so far, ``log_bytes`` what was written to the log."""

    wall: float
    cpu: float
    peak_mib: float
    log_bytes: int
    response: Any


class Worker:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def invoke(self, event: Any) -> Cost:
        """Hand over an event and wait. Raises ``RuntimeError`` when the function failed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(event) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            status = self._process.wait(timeout=30)
            raise RuntimeError(f"the function's process has ended with {status}")
        return Cost(**json.loads(line))


@contextmanager
def worker(module: str, url: str, *, packaged: bool = True, **variables: str) -> Iterator[Worker]:
    """The function in ``module``, against the canned server at ``url``; gone at the end.

    ``packaged``: it sees the packages that it would see in Lambda, and no others.
    """
    environment = function_environment(url) | variables
    alone: tuple[str, ...] = ()
    if packaged:
        alone = ("-S",)  # nothing of the environment that this runs in
        places = (environment["PYTHONPATH"], str(lambda_runtime()), str(baselines_libraries()))
        environment["PYTHONPATH"] = os.pathsep.join(places)
    process = subprocess.Popen(
        [sys.executable, *alone, "-m", "benchmarks.worker", module],
        cwd=PROJECT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield Worker(process)
    finally:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        process.stdout.close()
        process.wait(timeout=30)


def main(module: str) -> None:
    # Logs are written as in Lambda, but to a file; answers go where logs would have gone.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    log = tempfile.TemporaryFile()  # noqa: SIM115 - it takes standard output's place
    os.dup2(log.fileno(), 1)
    handler = importlib.import_module(module).handler
    for line in sys.stdin:
        event = json.loads(line)
        logged = os.lseek(1, 0, os.SEEK_CUR)
        wall, cpu = time.perf_counter(), time.process_time()
        response = handler(event, lambda_context())
        cost = {
            "wall": time.perf_counter() - wall,
            "cpu": time.process_time() - cpu,
            "peak_mib": peak_mib(),
            "log_bytes": _flushed() - logged,
            "response": response,
        }
        answers.write(json.dumps(cost, default=str) + "\n")


def _flushed() -> int:
    sys.stdout.flush()
    return os.lseek(1, 0, os.SEEK_CUR)


if __name__ == "__main__":
    main(sys.argv[1])
