"""Work on many things at once, with results in the order in which they were asked for.

So a result never depends on how many worked on it. Threads read from AWS, since they mostly wait;
worker processes compute, since only one thread of a Python process computes at a time.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from refunds_ops.errors import NotReadyError

T = TypeVar("T")
Result = TypeVar("Result")

ReadAll = Callable[..., Iterator[Any]]
"""Called with a function and an iterable, like ``map``. Results come in the iterable's order."""

MAX_WORKERS = 16
DEFAULT_WORKERS = 4
"""More gain little: one process reads all pages and stores all rows."""

WORKERS_FROM_ITEMS = 20_000
"""Fewer items take less time than starting the processes."""

READERS = 8
"""Consistent reads at the same time: fewer than the connections of a boto3 client."""

STOP_SECONDS = 10

TASK_SECONDS = 300.0
"""A task takes about a second. A worker that needs this long for one hangs."""


class WorkerDiedError(NotReadyError):
    """A worker process ended before its work was done, so the result is unknown."""


class WorkerHungError(NotReadyError):
    """A worker process did not finish its task in time, so the result is unknown."""


class WorkerTaskError(Exception):
    """A task raised an error in a worker process. The text is that error's traceback."""


def worker_count(asked_for: int | None, items: int) -> int:
    """How many processes compute: as asked for, or else by the amount of work and the machine."""
    if asked_for is not None:
        return asked_for
    return min(DEFAULT_WORKERS, _processors()) if items >= WORKERS_FROM_ITEMS else 1


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def readers(count: int = READERS) -> Iterator[ReadAll]:
    """Threads that read from AWS."""
    with ThreadPoolExecutor(count) as pool:

        def read_all(read: Callable[[T], Result], each_of: Iterable[T]) -> Iterator[Result]:
            return _in_order(pool, read, ((each,) for each in each_of), ahead=count)

        yield read_all


class Workers:
    """A context manager: ``count`` processes, started when there is work. One is this process."""

    def __init__(self, count: int, task_seconds: float = TASK_SECONDS) -> None:
        self._count = count
        self._task_seconds = task_seconds
        self._threads = ThreadPoolExecutor(count) if count > 1 else None
        self._lock = threading.Lock()
        self._idle: list[subprocess.Popen[bytes]] = []
        self._all: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._all:
            process.kill()  # An idle one has nothing left to do, and a busy one has no reader.
        if self._threads is not None:
            self._threads.shutdown(cancel_futures=True)
        for process in self._all:
            process.communicate(timeout=STOP_SECONDS)

    def map(
        self, function: Callable[..., Result], all_arguments: Iterable[tuple[Any, ...]]
    ) -> Iterator[Result]:
        """The results in order. ``function`` must be one of a module; it and its arguments are
        pickled. Raises ``WorkerDiedError``, ``WorkerHungError``, or ``WorkerTaskError`` for what
        the function raised."""
        if self._threads is None:
            return (function(*arguments) for arguments in all_arguments)
        tasks = ((function, arguments) for arguments in all_arguments)
        return _in_order(self._threads, self._run, tasks, ahead=self._count + 1)

    def _run(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        process = self._take()
        assert process.stdin is not None
        assert process.stdout is not None
        hung = threading.Event()

        def end() -> None:
            hung.set()
            process.kill()  # Which ends the reading and the writing below.

        timer = threading.Timer(self._task_seconds, end)
        timer.daemon = True
        timer.start()
        try:
            pickle.dump((function, arguments), process.stdin, pickle.HIGHEST_PROTOCOL)
            process.stdin.flush()
            succeeded, result = pickle.load(process.stdout)
        except (OSError, EOFError, ValueError, pickle.UnpicklingError) as exc:
            raise (self._hung() if hung.is_set() else self._died(process)) from exc
        finally:
            timer.cancel()
        with self._lock:
            self._idle.append(process)
        if not succeeded:
            raise WorkerTaskError(result)
        return result

    def _take(self) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._idle:
                return self._idle.pop()
            process = subprocess.Popen(
                # Without -P, modules of the current folder would be imported first.
                [sys.executable, "-P", "-m", "refunds_ops.audit.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
            self._all.append(process)
            return process

    def _hung(self) -> WorkerHungError:
        return WorkerHungError(
            f"A worker process did not answer within {self._task_seconds:g} seconds and was "
            "ended. A task takes about a second. Nothing is known about what it had not checked "
            "yet.",
            "Is the machine overloaded, or the disk of its temporary folder (TMPDIR) slow? Run it "
            "again with --workers 1.",
        )

    def _died(self, process: subprocess.Popen[bytes]) -> WorkerDiedError:
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=STOP_SECONDS)
        return WorkerDiedError(
            f"A worker process ended with exit status {process.returncode} before its work was "
            "done. Nothing is known about what it had not checked yet.",
            "Most often memory ran out. Run it again with --workers 1, or on a larger machine.",
        )


def _in_order(
    pool: Executor,
    function: Callable[..., Result],
    all_arguments: Iterable[tuple[Any, ...]],
    *,
    ahead: int,
) -> Iterator[Result]:
    """Results in order, at most ``ahead`` of them computed before the first is wanted."""
    pending: deque[Future[Result]] = deque()
    try:
        for arguments in all_arguments:
            pending.append(pool.submit(function, *arguments))
            if len(pending) >= ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for each in pending:
            each.cancel()
