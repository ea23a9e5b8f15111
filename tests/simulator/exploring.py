"""The kernel of the explorer: who goes on, who begins and which step fails is decided by a script,
not by dice. And what a state is: what two schedules have to have in common to go on alike."""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from heapq import heapify
from random import Random
from typing import Any

from tests.simulator.kernel import Kernel, Process, Task
from tests.simulator.world import World

AT_ONCE_SECONDS = 0.5
"""Tasks that would go on within so long of each other may do so in any order."""

TOKEN = re.compile(r"\b[0-9a-f]{16}\b")

INSTANT = re.compile(r"\d{4}-\d\d-\d\dT[0-9:.]+Z|\d{10,}\.?\d*")

LOST = (
    "dynamodb answer lost",
    "sqs answer lost",
    "network loses the request",
    "network loses the answer",
    "network delays the request",
)
"""What can happen to a step beside a crash."""


ANSWERED = ", done "
"""The end of a step's name when its answer is there. What a task does from there to its next step
is its own, so it goes on at once: which of two such tasks goes on first is no decision. It may
still crash there."""

FOR_ONE = re.compile(
    r"lambda get mapping|dynamodb describe Refunds|s3 list|secrets get|sqs receive dlq"
    r"|dynamodb (get|put) Ledger #(sweep|look-up-first)"
)
"""Steps at what nobody else changes in these worlds."""

READS = re.compile(
    r"dynamodb (get|query|batch get|describe)|gateway GET|secrets get|s3 list|lambda get"
)
"""Steps that leave nothing behind."""

AT_RECORD = re.compile(r"dynamodb (get|put|update) Refunds ")
"""Where each refund has one delivery, nothing fails and nobody else acts, no other task reads or
writes a refund's record: such a step commutes with everyone's."""

SHARD_READ = re.compile(r"dynamodb query Refunds open-refunds (?P<shard>\d)")


class SeenError(BaseException):
    """This state has been gone on from already."""


class _Dice(Random):
    """Says always the same; tokens differ by who asks and how often."""

    def __init__(self, kernel: ExploringKernel) -> None:
        super().__init__(0)
        self._kernel = kernel
        self._asked: Counter[str] = Counter()

    def random(self) -> float:
        return 0.01

    def uniform(self, a: float, b: float) -> float:
        return (a + b) / 2

    def randrange(self, *bounds: Any) -> int:
        return 0

    def randint(self, a: int, b: int) -> int:
        return a

    def shuffle(self, x: Any) -> None:
        """Leaves it as it is."""

    def choice(self, seq: Any) -> Any:
        return seq[0]

    def getrandbits(self, k: int) -> int:
        task = self._kernel.task()
        who = task.process.name if task is not None else "world"
        self._asked[who] += 1
        digest = hashlib.sha256(f"{who} {self._asked[who]}".encode()).digest()
        made = int.from_bytes(digest[: k // 8], "big")
        if task is not None:
            self._kernel.names.learn(task.process, f"{made:016x}")
        return made


@dataclass
class Decisions:
    """``script``: what is decided first; ``made``: what was decided in all; ``open``: what was
    decided otherwise nowhere yet."""

    script: list[int]
    seen: set[bytes]
    made: list[int] = field(default_factory=list)
    open: list[list[int]] = field(default_factory=list)
    state: Callable[[], bytes] = bytes

    def choose(self, options: int, what: str) -> int:
        if options < 2:
            return 0
        if len(self.made) < len(self.script):
            chosen = self.script[len(self.made)]
        else:
            self.cut_if_seen(f"{what} {options}")
            self.open += [[*self.made, other] for other in range(1, options)]
            chosen = 0
        self.made.append(chosen)
        return chosen

    def cut_if_seen(self, what: str) -> None:
        """Raises ``SeenError`` when another schedule has gone on from here."""
        state = self.state() + what.encode()
        if state in self.seen:
            raise SeenError
        self.seen.add(state)


class ExploringKernel(Kernel):
    """A kernel that decides by script who runs next, who joins in, and which step fails."""

    def __init__(self, decisions: Decisions, faults: int, *, trace: bool) -> None:
        super().__init__(0, trace=trace)
        self.random = _Dice(self)
        self.decisions = decisions
        self.faults_left = faults
        self.exploring = False
        self.wrong_amount = False
        self.others: list[tuple[str, Callable[[], None]]] = []
        """Who has not begun yet, by name."""
        self.read: dict[Task, str] = {}
        self.names = _Names()
        self.next_step: dict[Task, str] = {}
        self.own_records = False
        self.shards: set[str] = set()
        self.begun: set[Process] = set()

    def fault(self, kind: str) -> bool:
        if kind == "gateway pays another amount" and self.wrong_amount:
            self.wrong_amount = False
            return True
        task = self.task()
        if (
            not (self.exploring and self.faults_left and (kind == "crash" or kind in LOST))
            or (kind == "crash" and not self._can_differ_by_crash(task))
            # A response is lost when nobody of ours is at work.
            or (task is None and kind != "network loses the answer")
            or (task is not None and _is_background(task.process))
        ):
            return False
        if not self.decisions.choose(2, kind):
            return False
        self.faults_left -= 1
        self.counts["fault " + kind] += 1
        self.log("fault", kind)
        return True

    def run(self, until: float = float("inf")) -> None:
        while self.exploring and self._queue and self._queue[0][0] <= until:
            tasks = self._ready()
            chosen = self.decisions.choose(len(tasks) + (len(self.others) if tasks else 0), "who")
            if chosen >= len(tasks) > 0:
                self.others.pop(chosen - len(tasks))[1]()
                continue
            event = tasks[chosen] if tasks else self._queue[0]
            self._queue.remove(event)
            heapify(self._queue)
            self.now = max(self.now, event[0])
            self._happen(event[2], event[3])
        super().run(until)

    def observed(self, what: Any) -> None:
        task = self.task()
        if task is not None:
            before = self.read.get(task, "")
            self.read[task] = _digest(f"{before} {self.names.local(task.process, repr(what))}")

    def step(self, name: str, seconds: float, of: str = "") -> None:
        self.observed(name)
        if (task := self.task()) is not None:
            self.next_step[task] = f"{name} {of}"
        super().step(name, seconds, of)

    def _can_differ_by_crash(self, task: Task | None) -> bool:
        """Whether a crash here can leave anything else behind than the next one to come, or the
        last one that was offered: not when the task has written nothing in between. What others do
        meanwhile comes in any order with a crash."""
        if task is None:
            return False
        name = self.next_step[task]
        if task.process not in self.begun:
            self.begun.add(task.process)
            return True
        return ANSWERED in name and not READS.match(name)

    def pending(self) -> list[str]:
        """What is bound to happen: who goes on at once, in any order, then the rest in its order.

        How far a task has come is in what it has read.
        """
        events = [
            (at, getattr(what, "__qualname__", "") if ticket < 0 else self.has_read(what), ticket)
            for at, _, what, ticket in sorted(self._queue)
            if (ticket < 0 and not getattr(what, "dead", bool)())
            or (ticket >= 0 and what.process.alive and what.ticket == ticket)
        ]
        until = (events[0][0] if events else 0.0) + AT_ONCE_SECONDS
        soon = sorted(name for at, name, ticket in events if at <= until and ticket >= 0)
        return [*soon, "", *(name for at, name, ticket in events if at > until or ticket < 0)]

    def has_read(self, task: Task) -> str:
        """What tells a task: its function, and what it has read. Two workers that have read the
        same are one."""
        return f"{_function_of(task.process)} {self.read.get(task, '')}"

    def processes(self) -> dict[Process, tuple[str, ...]]:
        """The machines at work, each by what its tasks have read."""
        alive = defaultdict[Process, list[str]](list)
        for task in self.read:
            if task:  # one that has ended is false
                alive[task.process].append(self.has_read(task))
        return {process: tuple(sorted(tasks)) for process, tasks in alive.items()}

    def _ready(self) -> list[Any]:
        """The tasks that may go on now, in the order in which they would."""
        events = sorted(self._queue)
        if not events or events[0][3] < 0:
            return []
        until = events[0][0] + AT_ONCE_SECONDS
        return self._that_matter(
            [
                each
                for each in events
                if each[0] <= until
                and each[3] >= 0
                and each[2].process.alive
                and each[2].ticket == each[3]
                and not _is_background(each[2].process)
            ]
        )

    def _that_matter(self, events: list[Any]) -> list[Any]:
        """The first whose step commutes with everyone's, or all of them."""
        for event in events:
            if (name := self.next_step.get(event[2])) is None:
                return [event]  # it begins, and what it does up to its first step is its own
            empty = (read := SHARD_READ.match(name)) and read["shard"] not in self.shards
            own = self.own_records and AT_RECORD.match(name)
            if name.endswith(ANSWERED) or FOR_ONE.match(name) or empty or own:
                return [event]
        return events


class _Names:
    """Attempts' tokens, by the names that each machine has for them: in the order in which it came
    to know them. So it does not matter which of two workers is which."""

    def __init__(self) -> None:
        self._known: dict[Process, dict[str, str]] = {}

    def learn(self, process: Process, token: str) -> str:
        known = self._known.setdefault(process, {})
        return known.setdefault(token, f"token {len(known)}")

    def local(self, process: Process, text: str) -> str:
        """``text`` with the names that ``process`` has for tokens."""
        return TOKEN.sub(lambda found: self.learn(process, found[0]), text)

    def common(self, text: str, processes: Mapping[Process, tuple[str, ...]]) -> str:
        """``text`` with each token as those name it who know it, and the tokens that only they
        know."""

        def name(token: str) -> str:
            return repr(
                sorted(
                    (tasks, self._known[process][token])
                    for process, tasks in processes.items()
                    if token in self._known.get(process, ())
                )
            )

        known = {token for process in processes for token in self._known.get(process, ())}
        return TOKEN.sub(lambda found: name(found[0]), text) + repr(sorted(map(name, known)))


def _function_of(process: Process) -> str:
    return process.name.partition("-")[0]


def _is_background(process: Process) -> bool:
    """WriteAudit goes on in one order: nothing of the protocol waits for it."""
    return process.name.startswith("audit")


def _digest(text: str) -> str:
    return hashlib.blake2b(INSTANT.sub("T", text).encode(), digest_size=12).hexdigest()


def state_of(world: World, kernel: ExploringKernel) -> bytes:
    """What two schedules have in common that go on alike. No instants are part of it, and neither
    which of two workers, or of two copies of a message, is which."""
    flair, processes = world.flair, kernel.processes()
    parts: tuple[Any, ...] = (
        world.refunds.items,
        world.ledger.items,
        world.refunds.index and sorted(world.refunds.index.entries),
        sorted((each.body, each.receive_count, str(each.queue and each.queue.name), str(each.gone))
               for each in world.sqs.all.values()),
        [(each.reference, each.amount, each.status) for each in flair.refunds],
        [(key, use.response is None) for key, use in flair.keys.items()],
        sorted(processes.values()),
        kernel.pending(),
        kernel.faults_left,
        [name for name, _ in kernel.others],
    )  # fmt: skip
    text = kernel.names.common(repr(parts), processes)
    return hashlib.blake2b(INSTANT.sub("T", text).encode(), digest_size=12).digest()
