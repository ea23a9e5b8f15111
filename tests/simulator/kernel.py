"""Virtual time and cooperative tasks: everything that happens, happens here, one thing at a time.

A ``Process`` is a machine that runs production code in one or more tasks (greenlets) and dies as a
whole. Whenever a task does I/O it pauses; what happens meanwhile is up to the seed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from heapq import heappop, heappush
from random import Random
from typing import Any, cast

from greenlet import getcurrent, greenlet

from refunds.lambda_runtime import POOL_WIDTH

START_SECONDS = datetime(2026, 3, 1, tzinfo=UTC).timestamp()
MAX_EVENTS = 90_000
"""A history that has not ended by then never will: a livelock."""


class Violation(BaseException):  # not an error of the code that it passes through
    """An invariant does not hold. Production code catches ``Exception``, so never this."""

    def __init__(self, invariant: str, what: str, subject: str = "") -> None:
        super().__init__(f"{invariant}: {what}")
        self.invariant = invariant
        self.what = what
        self.subject = subject

    def __reduce__(self) -> tuple[type[Violation], tuple[str, str, str]]:
        return type(self), (self.invariant, self.what, self.subject)


class KilledError(BaseException):
    """The machine that this task runs on has stopped."""


class Process:
    """A machine: an invocation of a function in its environment."""

    __slots__ = ("alive", "name", "tasks")

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.tasks: set[Task] = set()


class Task(greenlet):
    """A thread of a process. ``ticket`` tells a wake-up that is due from one that is stale."""

    process: Process
    ticket: int


class Mailbox:
    """Something that a task waits for."""

    __slots__ = ("message", "task", "ticket")

    def __init__(self) -> None:
        self.task: Task | None = None
        self.ticket = 0
        self.message: Any = None


class Kernel:
    """The event queue, the clock, the dice and the log of one history."""

    def __init__(self, seed: int, *, trace: bool = False) -> None:
        self.random = Random(seed)
        self.now = START_SECONDS
        self.counts: Counter[str] = Counter()
        self.trace: list[str] | None = [] if trace else None
        self.fault_rates: dict[str, float] = {}
        self.faults_on = True
        self.script: dict[str, list[bool]] = {}
        """What the next dice of a fault will say; ``crash at <step>`` is one too."""
        self.steps: list[str] | None = None
        """The steps of I/O that were made, when set to a list."""
        self.max_events = MAX_EVENTS
        self.events = 0
        self.max_events = MAX_EVENTS
        self._queue: list[tuple[float, int, Any, int]] = []
        self._doomed: list[Process] = []
        self._hub = getcurrent()
        self._acting: Task | None = None

    # --- time and tasks -------------------------------------------------------------------------

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """Have ``action`` happen later, whoever lives or dies. It may say with an attribute
        ``dead`` that it would do nothing any more."""
        self.events += 1
        heappush(self._queue, (self.now + seconds, self.events, action, -1))

    def spawn(
        self,
        process: Process,
        body: Callable[[], Any],
        *,
        done: Callable[[], None] | None = None,
        seconds: float = 0.0,
    ) -> None:
        """Run ``body`` as a task of ``process``; ``done`` when it has returned, not when killed."""

        def run() -> None:
            try:
                body()
            except KilledError:
                return
            finally:
                process.tasks.discard(task)
            if done is not None:
                done()

        task = Task(run, self._hub)
        task.process, task.ticket = process, 0
        process.tasks.add(task)
        self._wake(task, 0, seconds)

    def kill(self, process: Process) -> None:
        """Nothing of this process happens from now on."""
        process.alive = False
        self._doomed.append(process)

    def run(self, until: float = float("inf")) -> None:
        """Let things happen up to an instant (or until nothing is left to happen)."""
        queue = self._queue
        while queue and queue[0][0] <= until:
            at, _, what, ticket = heappop(queue)
            self.now = max(self.now, at)
            if self.events > self.max_events:
                raise Violation("liveness", f"no end after {self.max_events} events")
            self._happen(what, ticket)
        if until != float("inf") and until > self.now:
            self.now = until

    def _happen(self, what: Any, ticket: int) -> None:
        """An action, or a task that goes on if it still waits for just this."""
        if ticket < 0:
            what()
        elif what.ticket == ticket and what.process.alive:
            what.ticket += 1
            what.switch()
        if self._doomed:
            self._bury()

    def observed(self, what: Any) -> None:
        """The running task has read this. The explorer tells its states apart by it."""

    def close(self) -> None:
        """End what still waits, so that nothing of this history outlives it."""
        for _, _, what, ticket in self._queue:
            if ticket >= 0 and what.process.alive:
                self.kill(what.process)
        self._bury()
        self._queue.clear()

    def pause(self, seconds: float) -> None:
        """The running task waits; others go on."""
        task = self._running()
        self._wake(task, task.ticket, seconds)
        self._hub.switch()

    def wait(self, box: Mailbox, seconds: float) -> Any:
        """Wait for a message, at most so long; None when there was none."""
        if box.message is None:
            task = self._running()
            box.task, box.ticket = task, task.ticket
            self._wake(task, task.ticket, seconds)
            self._hub.switch()
        return box.message

    def post(self, box: Mailbox, message: Any) -> None:
        box.message = message
        if box.task is not None:
            self._wake(box.task, box.ticket, 0.0)

    def process(self) -> Process:
        return self._running().process

    def task(self) -> Task | None:
        """The task whose doing this is; None for what happens by itself."""
        # A greenlet that has ended is false.
        task = getcurrent() if self._acting is None else self._acting
        return task if isinstance(task, Task) else None

    def on_behalf(self, task: Task | None, action: Callable[[], None]) -> None:
        """Do what a task asked for and no longer waits for."""
        self._acting = task
        try:
            action()
        finally:
            self._acting = None

    def _running(self) -> Task:
        task = cast(Task, getcurrent())
        if not task.process.alive:
            raise KilledError
        return task

    def _wake(self, task: Task, ticket: int, seconds: float) -> None:
        self.events += 1
        heappush(self._queue, (self.now + seconds, self.events, task, ticket))

    def _bury(self) -> None:
        while self._doomed:
            for task in list(self._doomed.pop().tasks):
                if task:  # begun, and not yet ended
                    task.throw(KilledError)

    # --- what goes wrong ------------------------------------------------------------------------

    def fault(self, kind: str) -> bool:
        """Whether this fault strikes now."""
        if self.script.get(kind):
            return self.script[kind].pop(0)
        rate = self.fault_rates.get(kind)
        if rate is None or not self.faults_on or self.random.random() >= rate:
            return False
        self.counts["fault " + kind] += 1
        return True

    def step(self, name: str, seconds: float, of: str = "") -> None:
        """A step of I/O: time passes, others run, and the machine may stop right here.

        ``of``: which item, or the like; the explorer tells by it who has to do with whom.
        """
        task = self._running()
        if self.steps is not None:
            self.steps.append(name)
        if self.fault("crash") or (self.script and self.fault("crash at " + name)):
            self.counts["crash " + name] += 1
            self.log("crash", f"at {name}")
            self.kill(task.process)
            self._hub.switch()  # never to return, but to die
        if self.fault("stall") or (self.script and self.fault("stall at " + name)):
            seconds += self.random.uniform(1, 50)
        self._wake(task, task.ticket, seconds * (0.5 + self.random.random()))
        self._hub.switch()

    # --- the log --------------------------------------------------------------------------------

    def log(self, kind: str, what: str) -> None:
        """One line of the history."""
        if self.trace is None:
            return
        task = self.task()
        who = task.process.name if task is not None else "world"
        self.trace.append(f"{elapsed(self.now):>14}  {who:<12} {kind:<10} {what}")


def elapsed(now: float) -> str:
    """Time since the history's start: ``1d 02:03:04.5``."""
    seconds = now - START_SECONDS
    days, rest = divmod(seconds, 86400)
    hours, rest = divmod(rest, 3600)
    minutes, rest = divmod(rest, 60)
    return f"{int(days)}d {int(hours):02}:{int(minutes):02}:{rest:06.3f}"


class Clock:
    """The clocks of one environment: a wall clock that is off by its skew, and a monotonic one
    that stands still while the environment is frozen."""

    def __init__(self, kernel: Kernel, skew_seconds: float = 0.0) -> None:
        self._kernel = kernel
        self.skew_seconds = skew_seconds
        self.frozen_seconds = 0.0

    def now(self) -> datetime:
        return datetime.fromtimestamp(self._kernel.now + self.skew_seconds, UTC)

    def monotonic(self) -> float:
        return self._kernel.now - self.frozen_seconds


class TaskPool:
    """The thread pool of production code, as wide. ``map`` runs tasks of the calling process."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    def map(self, fn: Callable[[Any], Any], *iterables: Iterable[Any]) -> Iterable[Any]:
        calls = list(zip(*iterables, strict=False))
        waiting = iter(range(len(calls)))
        results: list[tuple[Any, Exception | None]] = [(None, None)] * len(calls)
        if len(calls) == 1:
            return iter([fn(*calls[0])])
        left = len(calls)
        finished = Mailbox()
        kernel = self._kernel

        def work() -> None:
            nonlocal left
            for place in waiting:
                try:
                    results[place] = (fn(*calls[place]), None)
                except Exception as exc:
                    results[place] = (None, exc)
                left -= 1
                if left == 0:
                    kernel.post(finished, True)

        for _ in range(min(len(calls), POOL_WIDTH)):
            kernel.spawn(kernel.process(), work, seconds=kernel.random.random() * 0.002)
        if calls:
            kernel.wait(finished, 1e6)
        return self._answers(results)

    @staticmethod
    def _answers(results: list[tuple[Any, Exception | None]]) -> Iterable[Any]:
        for value, error in results:
            if error is not None:
                raise error
            yield value
