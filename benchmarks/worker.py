"""A warm function in its own process: reads events from standard input and prints their cost.

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
from benchmarks.runtime import baselines_libraries, built_package, lambda_runtime
from benchmarks.servers import PROJECT


@dataclass(frozen=True)
class Cost:
    """The cost of one invocation in seconds, and the handler's response. ``peak_mib`` is the peak
    memory of the process so far, ``log_bytes`` the size of the invocation's log."""

    wall: float
    cpu: float
    peak_mib: float
    log_bytes: int
    response: Any


class Worker:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    @property
    def process_id(self) -> int:
        return self._process.pid

    def invoke(self, event: Any) -> Cost:
        """Invoke the function and wait. Raises ``RuntimeError`` if it failed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(event) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            status = self._process.wait(timeout=30)
            raise RuntimeError(f"the function's process exited with {status}")
        return Cost(**json.loads(line))


@contextmanager
def worker(
    module: str,
    url: str,
    *,
    packaged: bool = True,
    command: tuple[str, ...] = (),
    **variables: str,
) -> Iterator[Worker]:
    """The function in ``module``, with the canned server at ``url``. It ends with the block.

    ``packaged``: the function sees only the packages that it would see in Lambda. ``command``: what
    runs its Python.
    """
    environment = function_environment(url) | variables
    alone: tuple[str, ...] = ()
    if packaged:
        alone = ("-S",)  # without this process's site-packages
        places = (
            built_package(),
            PROJECT,
            PROJECT / "ops",
            lambda_runtime(),
            baselines_libraries(),
        )
        environment["PYTHONPATH"] = os.pathsep.join(map(str, places))
    process = subprocess.Popen(
        [*command, sys.executable, *alone, "-m", "benchmarks.worker", module],
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
        process.wait(timeout=300 if command else 30)  # valgrind takes its time


def main(module: str) -> None:
    # Logs go to a file, and costs go where logs would have gone.
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
