"""What every page needs: the stack, who looks at it, and what has been read already."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from concurrent.futures import TimeoutError as NotInTimeError
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from refunds_console.jobs import Job
from refunds_console.recent import RecentRefunds
from refunds_console.security import Session
from refunds_ops.audit import sources
from refunds_ops.backup.signatures import PublicKey
from refunds_ops.dates import Zone
from refunds_ops.stack.stack import Stack
from refunds_ops.terminal import explain

READERS = 12
"""The number of parallel reads from AWS, for all pages together."""
PART_SECONDS = 8.0
"""How long a page waits for one of its parts."""

PATIENCE_SECONDS = 0.15
"""How long a page that is read again every few seconds waits for its parts."""

T = TypeVar("T")


@dataclass(frozen=True)
class Part(Generic[T]):
    """One part of a page: its value, or why it can't be shown. The other parts are shown."""

    value: T | None = None
    problem: str = ""
    pending: bool = False
    """It has not been read yet."""


@dataclass
class Console:
    stack: Stack
    zone: Zone
    session: Session
    allow_changes: bool
    recent: RecentRefunds
    parts_pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(READERS))
    """Reads the parts of pages."""
    inner_pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(READERS))
    """Reads the pieces of one part. It is separate, because a pool that waits for itself would wait
    for ever."""
    checks: dict[str, Job[Any]] = field(default_factory=dict)
    """Checks that people start from a page, by name."""
    _signing_key: PublicKey | None = None
    _reading: dict[str, Future[Any]] = field(default_factory=dict)
    _live: dict[str, Part[Any]] = field(default_factory=dict)
    _clients: dict[str, Any] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def get_ready(self) -> None:
        """Make the clients before somebody waits for them, since each takes a while to load."""
        stack = self.stack
        for client in (stack.dynamodb, stack.sqs, stack.s3, stack.functions):
            assert client
        self.client("cloudwatch")

    def client(self, service: str) -> Any:
        """A client of a service that only the console's pages need; made once."""
        with self._lock:
            if service not in self._clients:
                self._clients[service] = self.stack.new_client(service)
            return self._clients[service]

    def read(self, parts: Mapping[str, Callable[[], Any]]) -> dict[str, Part[Any]]:
        """Read the parts of a page at the same time."""
        started = {name: self.parts_pool.submit(read) for name, read in parts.items()}
        return {name: _part(future, PART_SECONDS) for name, future in started.items()}

    def read_live(self, parts: Mapping[str, Callable[[], Any]]) -> dict[str, Part[Any]]:
        """The same for a page that is read again every few seconds, so that no slow part delays it.
        A part that takes longer than ``PATIENCE_SECONDS`` is shown as it was before, and updated
        the next time."""
        with self._lock:
            for name, read in parts.items():
                if name not in self._reading:
                    self._reading[name] = self.parts_pool.submit(read)
            reading = {name: self._reading[name] for name in parts}
        wait(reading.values(), PATIENCE_SECONDS)
        for name, future in reading.items():
            if future.done():
                self._live[name] = _part(future, 0)
                with self._lock:
                    self._reading.pop(name, None)
        return {name: self._live.get(name, Part(pending=True)) for name in parts}

    def signing_key(self) -> PublicKey | None:
        """The key that signs the backups, asked of KMS once; None when the stack signs nothing."""
        with self._lock:
            if self._signing_key is None:
                self._signing_key = sources.public_key(self.stack, None)
            return self._signing_key


def _part(future: Future[Any], seconds: float) -> Part[Any]:
    try:
        return Part(future.result(seconds))
    except NotInTimeError:
        return Part(problem=f"No answer within {seconds:.0f} s.")
    except Exception as exc:  # A part that fails must not affect the others.
        return Part(problem=explain(exc)[0])
