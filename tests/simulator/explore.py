"""``python -m tests.simulator.explore``: every schedule of a small world, not a sample of them.

At each step of I/O the explorer decides who runs next, whether somebody else begins now (the
reconciler, a webhook, a person), and whether this step is the one that fails. Each decision is a
number; a schedule is a list of them. A schedule is replayed from the start, then goes on with new
decisions, and every decision that was not taken becomes a schedule of its own. A state that was
seen before is not gone on from.

A state is what all parties have in common (tables, queues, the gateway's ledger), what each task
has read so far, and which decisions are left. Instants are no part of it: two states that differ by
milliseconds are one.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heapify
from random import Random
from typing import Any

from tests.simulator.kernel import Kernel, Process, Task, Violation
from tests.simulator.scripting import HOUR, MINUTE, decide
from tests.simulator.world import World

from refunds.domain.refund import Status
from refunds.tables.refunds import shard_of

AT_ONCE_SECONDS = 0.5
"""Tasks that would go on within so long of each other may do so in any order."""

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

AT_RECORD = re.compile(r"dynamodb (get|put|update) Refunds ")
"""Where each refund has one delivery, nothing fails and nobody else acts, no other task reads or
writes a refund's record: such a step commutes with everyone's."""

SHARD_READ = re.compile(r"dynamodb query Refunds open-refunds (?P<shard>\d)")


class SeenError(BaseException):
    """This state has been gone on from already."""


@dataclass(frozen=True)
class Small:
    """A small world. ``faults``: how many steps fail; ``others``: who else acts, at any step."""

    name: str
    deliveries: int = 2
    workers: int = 2
    faults: int = 0
    others: tuple[str, ...] = ()
    amounts: tuple[int, ...] = (300,)
    """One request for each, of one payment of 1,000."""
    wrong_amount: bool = False
    """The gateway pays another amount than it was asked for, so that a person has to decide."""


WORLDS = (
    Small("two deliveries"),
    Small("one fault", deliveries=1, faults=1),
    Small("one fault, reconciler", deliveries=1, faults=1, others=("reconciler",)),
    Small("two refunds of one payment", deliveries=1, amounts=(600, 600)),
    Small("two deliveries, one fault", faults=1),
    Small("two deliveries, reconciler", others=("reconciler",)),
    Small(
        "a refund in review, reconciler, person",
        deliveries=1,
        others=("reconciler", "person"),
        wrong_amount=True,
    ),
    Small("two deliveries, one fault, reconciler", faults=1, others=("reconciler",)),
    Small(
        "a refund in review, one fault, reconciler, person",
        deliveries=1,
        faults=1,
        others=("reconciler", "person"),
        wrong_amount=True,
    ),
    Small(
        "two deliveries, one fault, reconciler, person",
        faults=1,
        others=("reconciler", "person"),
        wrong_amount=True,
    ),
)


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
        return int.from_bytes(digest[: k // 8], "big")


@dataclass
class _Decisions:
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

    def __init__(self, decisions: _Decisions, faults: int, *, trace: bool) -> None:
        super().__init__(0, trace=trace)
        self.random = _Dice(self)
        self.decisions = decisions
        self.faults_left = faults
        self.exploring = False
        self.wrong_amount = False
        self.others: list[Callable[[], None]] = []
        self.read: dict[Task, Any] = {}
        self.next_step: dict[Task, str] = {}
        self.own_records = False
        self.shards: set[str] = set()

    def fault(self, kind: str) -> bool:
        if kind == "gateway pays another amount" and self.wrong_amount:
            self.wrong_amount = False
            return True
        task = self.task()
        if (
            not (self.exploring and self.faults_left and (kind == "crash" or kind in LOST))
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
                self.others.pop(chosen - len(tasks))()
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
            before = self.read.get(task, b"")
            self.read[task] = _digest(f"{before!r} {what!r}")

    def step(self, name: str, seconds: float, of: str = "") -> None:
        self.observed(name)
        if (task := self.task()) is not None:
            self.next_step[task] = f"{name} {of}"
        super().step(name, seconds, of)

    def pending(self) -> list[str]:
        """What is bound to happen: who goes on at once, in any order, then the rest in its order.

        How far a task has come is in what it has read, so its name is enough.
        """
        events = [
            (at, getattr(what, "__qualname__", "") if ticket < 0 else what.process.name, ticket)
            for at, _, what, ticket in sorted(self._queue)
            if ticket < 0 or (what.process.alive and what.ticket == ticket)
        ]
        until = (events[0][0] if events else 0.0) + AT_ONCE_SECONDS
        soon = sorted(name for at, name, ticket in events if at <= until and ticket >= 0)
        return [*soon, "", *(name for at, name, ticket in events if at > until or ticket < 0)]

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


def _is_background(process: Process) -> bool:
    """WriteAudit goes on in one order: nothing of the protocol waits for it."""
    return process.name.startswith("audit")


def _digest(text: str) -> bytes:
    return hashlib.blake2b(INSTANT.sub("T", text).encode(), digest_size=12).digest()


def _state(world: World, kernel: ExploringKernel) -> bytes:
    flair = world.flair
    parts: tuple[Any, ...] = (
        world.refunds.items,
        world.ledger.items,
        sorted(world.audit.items),
        world.refunds.index and sorted(world.refunds.index.entries),
        [(each.id, each.receive_count, each.queue and each.queue.name, each.gone)
         for each in world.sqs.all.values()],
        [(each.reference, each.amount, each.status) for each in flair.refunds],
        [(key, use.response is None) for key, use in flair.keys.items()],
        sorted((task.process.name, read) for task, read in kernel.read.items() if task),
        kernel.pending(),
        kernel.faults_left,
        len(kernel.others),
    )  # fmt: skip
    return _digest(repr(parts))


@dataclass
class Found:
    """What the exploration of one world came to."""

    schedules: int = 0
    cut: int = 0
    states: int = 0
    left: int = 0
    steps: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    violation: Violation | None = None
    script: list[int] = field(default_factory=list)
    trace: list[str] = field(default_factory=list)


def explore(small: Small, seconds: float) -> Found:
    """Every schedule of ``small``, depth first, for at most so long; stops at a violation."""
    found, seen, waiting = Found(), set[bytes](), [list[int]()]
    ends = time.monotonic() + seconds
    while waiting and found.violation is None and time.monotonic() < ends:
        play(small, waiting.pop(), seen, waiting, found)
    found.states, found.left = len(seen), len(waiting)
    if found.violation is not None:
        play(small, found.script, set(), [], found, trace=True)
    return found


def play(  # noqa: PLR0913 - one schedule's world
    small: Small,
    script: list[int],
    seen: set[bytes],
    waiting: list[list[int]],
    found: Found,
    *,
    trace: bool = False,
) -> None:
    """One schedule: as ``script`` decides, then always the first choice."""
    decisions = _Decisions(script, seen)
    kernel = ExploringKernel(decisions, small.faults, trace=trace)
    world = World(0, kernel=kernel, batch_size=1, concurrency=small.workers)
    decisions.state = lambda: _state(world, kernel)
    kernel.own_records = small.deliveries == 1 and not small.faults and not small.others
    kernel.shards = {shard_of(f"r{number}") for number in range(len(small.amounts))}
    world.pay("tx1", 1000)
    for number, amount in enumerate(small.amounts):
        for _ in range(small.deliveries):
            world.send(_request(f"r{number}", amount))
    kernel.wrong_amount = small.wrong_amount
    acts = {"reconciler": world.reconcile, "person": lambda: _decide(world)}
    kernel.others = [acts[other] for other in small.others]
    try:
        kernel.exploring = True
        world.run_for(HOUR)
        while kernel.others:  # whoever has not begun in between begins now
            kernel.others.pop(decisions.choose(len(kernel.others), "who is next"))()
            world.run_for(MINUTE)
        kernel.exploring = False
        if not trace:
            decisions.cut_if_seen("the end")
        world.settle()
        _ends_well(world, small)
        found.schedules += 1
    except SeenError:
        found.cut += 1
    except Violation as violation:
        found.violation, found.script = violation, decisions.made
        found.trace = kernel.trace or []
    finally:
        kernel.exploring = False
        kernel.faults_on = False
        kernel.close()
    found.steps += len(decisions.made)
    found.faults.update({name: n for name, n in kernel.counts.items() if name[:5] == "fault"})
    waiting += decisions.open


def _request(refund_id: str, amount: int) -> dict[str, Any]:
    return {
        "refund_id": refund_id,
        "transaction_id": "tx1",
        "user_id": "u1",
        "amount_minor": amount,
        "currency": "USD",
        "reason": "order_cancelled",
        "requested_by": "agent:7",
    }


def _decide(world: World) -> None:
    """A person decides at once, on what is in review, that it was paid."""
    for (refund_id,), item in list(world.refunds.items.items()):
        if item["status"]["S"] == "IN_REVIEW":
            decide(world, Status.SUCCEEDED, refund_id)


def _ends_well(world: World, small: Small) -> None:
    """Each refund that fits is paid once, whatever happened."""
    if small.wrong_amount:
        if sum(each.live for each in world.flair.refunds) != 1:
            raise Violation("the end", f"{world.flair.refunds} is paid")
        return
    live = sum(each.amount for each in world.flair.refunds if each.live)
    fits = 0
    for amount in small.amounts:
        fits += amount if fits + amount <= 1000 else 0
    if live != fits:
        raise Violation("the end", f"{live} is paid and {fits} was to be")


def main() -> int:
    """Returns 0 when nothing was found, 1 with a finding."""
    parser = argparse.ArgumentParser(prog="explore", description=__doc__)
    parser.add_argument("--world", type=int, help=f"1 to {len(WORLDS)}; all of them by default")
    parser.add_argument("--seconds", type=float, default=300, help="for all worlds together")
    asked = parser.parse_args()
    worlds = WORLDS if asked.world is None else (WORLDS[asked.world - 1],)
    ends = time.monotonic() + asked.seconds
    for place, small in enumerate(worlds):
        share = (ends - time.monotonic()) / (len(worlds) - place)
        found = explore(small, share)
        if found.violation is not None:
            print("\n".join(found.trace[-80:]))
            print(f"VIOLATION in {small.name}: {found.violation}; decisions {found.script}")
            return 1
        print(_summary(small, found))
    print(
        "Explored: every order of requests to AWS and the gateway by all parties, every moment at "
        "which the reconciler or a person begins, and a fault at every request and answer. A task "
        "goes on at once from an answer to its next request.\n"
        "Not explored: other orders of WriteAudit, lags of the index, throttling, more than one "
        "fault; what follows after the first hour goes on in one order."
    )
    return 0


def _summary(small: Small, found: Found) -> str:
    whole = "exhaustive" if not found.left else f"stopped by the clock, {found.left:,} not begun"
    faults = ", ".join(f"{name[6:]} {count:,}" for name, count in sorted(found.faults.items()))
    return (
        f"{small.name}: {found.schedules:,} schedules to their end, {found.cut:,} cut off at a "
        f"state that was seen, {found.states:,} states, {found.steps:,} decisions"
        f"{'; ' + faults if faults else ''}: no violation, {whole}"
    )


if __name__ == "__main__":
    sys.exit(main())
