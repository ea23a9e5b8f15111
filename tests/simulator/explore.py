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
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from tests.simulator.exploring import Decisions, ExploringKernel, SeenError, state_of
from tests.simulator.kernel import Violation
from tests.simulator.scripting import HOUR, MINUTE, decide
from tests.simulator.world import World

from refunds.domain.refund import Status
from refunds.tables.refunds import shard_of


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
    decisions = Decisions(script, seen)
    kernel = ExploringKernel(decisions, small.faults, trace=trace)
    world = World(0, kernel=kernel, batch_size=1, concurrency=small.workers)
    decisions.state = lambda: state_of(world, kernel)
    kernel.own_records = small.deliveries == 1 and not small.faults and not small.others
    kernel.shards = {shard_of(f"r{number}") for number in range(len(small.amounts))}
    stream = _Stream(world)
    world.pay("tx1", 1000)
    for number, amount in enumerate(small.amounts):
        for _ in range(small.deliveries):
            world.send(_request(f"r{number}", amount))
    kernel.wrong_amount = small.wrong_amount
    acts = {"reconciler": world.reconcile, "person": lambda: _decide(world)}
    kernel.others = [(other, acts[other]) for other in small.others]
    try:
        kernel.exploring = True
        world.run_for(HOUR)
        while kernel.others:  # whoever has not begun in between begins now
            kernel.others.pop(decisions.choose(len(kernel.others), "who is next"))[1]()
            world.run_for(MINUTE)
        kernel.exploring = False
        if not trace:
            decisions.cut_if_seen("the end")
        stream.flow()
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


class _Stream:
    """Holds the stream's records back while schedules are explored. Nothing of the protocol waits
    for WriteAudit, and in these worlds no schedule reads what it writes."""

    def __init__(self, world: World) -> None:
        self._write = world.stream.write
        self._held: list[Any] = []
        self._world = world
        place = world.refunds.on_write.index(self._write)
        world.refunds.on_write[place] = self._hold

    def _hold(self, *change: Any) -> None:
        self._held.append(change)

    def flow(self) -> None:
        listeners = self._world.refunds.on_write
        listeners[listeners.index(self._hold)] = self._write
        for change in self._held:
            self._write(*change)


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
