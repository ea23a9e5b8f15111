"""A function in processes of its own, as many as are invoked at once. They can be killed."""

from __future__ import annotations

import json
import select
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

from tests.support.engines.pollers import InvocationError
from tests.support.engines.tools import ROOT

START_SECONDS = 60.0
STOP_SECONDS = 10.0


class Function:
    def __init__(
        self, handler: str, environment: Mapping[str, str], *, timeout_seconds: float, log: Path
    ) -> None:
        self._handler = handler
        self._environment = dict(environment)
        self._timeout_seconds = timeout_seconds
        self._log = log.open("ab")
        self._lock = threading.Lock()
        self._idle: list[subprocess.Popen[bytes]] = []
        self._all: list[subprocess.Popen[bytes]] = []
        self.invocations = 0

    def invoke(self, event: Any) -> Any:
        """Returns the function's response. Raises ``InvocationError``."""
        worker = self._take()
        try:
            call = {"event": event, "seconds": self._timeout_seconds}
            _write(worker, call)
            answer = _read(worker, self._timeout_seconds)
        except InvocationError:
            self._discard(worker)
            raise
        with self._lock:
            self._idle.append(worker)
            self.invocations += 1
        if "error" in answer:
            raise InvocationError(answer["error"])
        return answer["result"]

    def kill_one(self, random: Random) -> bool:
        """``kill -9`` of one process, idle or in the middle of an invocation. False: none runs."""
        with self._lock:
            running = [worker for worker in self._all if worker.poll() is None]
        if not running:
            return False
        random.choice(running).kill()
        return True

    def process_ids(self) -> list[int]:
        with self._lock:
            return [worker.pid for worker in self._all if worker.poll() is None]

    def close(self) -> None:
        with self._lock:
            workers, self._all, self._idle = self._all, [], []
        for worker in workers:
            _end(worker)
        self._log.close()

    def _take(self) -> subprocess.Popen[bytes]:
        with self._lock:
            while self._idle:
                worker = self._idle.pop()
                if worker.poll() is None:
                    return worker
                self._all.remove(worker)
                _end(worker)
        worker = subprocess.Popen(
            [sys.executable, "-m", "tests.support.engines.worker", self._handler],
            cwd=ROOT,
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            # Ctrl-C is for the run, which still needs its workers to end well.
            process_group=0,
        )
        with self._lock:
            self._all.append(worker)
        try:
            _read(worker, START_SECONDS)
        except InvocationError:
            self._discard(worker)
            raise
        return worker

    def _discard(self, worker: subprocess.Popen[bytes]) -> None:
        with self._lock:
            if worker in self._all:
                self._all.remove(worker)
        _end(worker)


def _end(worker: subprocess.Popen[bytes]) -> None:
    worker.kill()
    worker.wait(STOP_SECONDS)
    for pipe in (worker.stdin, worker.stdout):
        if pipe is not None:
            try:
                pipe.close()
            except BrokenPipeError:
                continue


def _write(worker: subprocess.Popen[bytes], call: Any) -> None:
    assert worker.stdin is not None
    try:
        worker.stdin.write(json.dumps(call).encode() + b"\n")
        worker.stdin.flush()
    except OSError as exc:
        raise InvocationError("the process ended") from exc


def _read(worker: subprocess.Popen[bytes], seconds: float) -> Any:
    assert worker.stdout is not None
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        # A worker writes one line at a time and nothing in between, so a readable pipe has a line.
        ready, _, _ = select.select([worker.stdout], [], [], left)
        if ready:
            if line := worker.stdout.readline():
                return json.loads(line)
            raise InvocationError("the process ended")
    raise InvocationError("the function timed out")
