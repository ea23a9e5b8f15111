"""Checks that take longer than a page may: one of each kind at a time, its result kept."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from refunds.domain.clock import rfc3339
from refunds_ops.dates import utc_now
from refunds_ops.terminal import explain

T = TypeVar("T")

OnProgress = Callable[[str, int, int], None]
"""What is being read, and how many of how many; 0 of 0 when that is unknown."""


@dataclass
class Job(Generic[T]):
    """``check`` runs in a thread of its own; the page shows how far it is, then what it found."""

    check: Callable[[OnProgress], T]
    running: bool = False
    progress: str = ""
    started_at: str = ""
    ended_at: str = ""
    result: T | None = None
    problem: str = ""
    _thread: threading.Thread | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self) -> bool:
        """False when it is running already."""
        with self._lock:
            if self.running:
                return False
            self.running = True
        self.started_at, self.problem, self.progress = rfc3339(utc_now()), "", "starting"
        self._thread = threading.Thread(target=self._run, name="console-check", daemon=True)
        self._thread.start()
        return True

    def join(self, seconds: float) -> None:
        """Wait for its end, at most this long."""
        if self._thread is not None:
            self._thread.join(seconds)

    def _run(self) -> None:
        try:
            self.result = self.check(self._on_progress)
        except Exception as exc:
            self.problem = " ".join((explain(exc)[0], *explain(exc)[1]))
        finally:
            self.ended_at = rfc3339(utc_now())
            self.running = False

    def _on_progress(self, what: str, done: int, total: int) -> None:
        counted = f" {done:,} of {total:,}" if total else (f" {done:,}" if done else "")
        self.progress = f"{what}{counted}"
