"""How a scripted history of a fault is played, with its bounds.

Each is played once. Its metrics stay, so that a changed alarm is evaluated over them again without
playing anything: that is how mutants of alarms are caught.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any
from unittest.mock import patch

from tests.simulator.alarm_expectations import Expectations, Expected
from tests.simulator.alarms import Datapoints, Series, series
from tests.simulator.watch import HOUR, bound_of
from tests.simulator.world import World
from tests.support.expanded_template import STACK_NAME

QUIET_SECONDS = 26 * HOUR


@dataclass
class Played(Expectations):
    """A history of the simulator, and what is expected of the alarms."""

    world: World

    @property
    def data(self) -> dict[Series, Datapoints]:
        return self.world.watch.board.data

    @property
    def now(self) -> float:
        return self.world.kernel.now

    def expect(self, alarm: str, since: float, what: str | None = None) -> None:
        self.expected.append(Expected(alarm, since, since + bound_of(alarm, what).seconds))

    def report(self, where: Series, value: float, at: float | None = None) -> None:
        """What AWS reports of a service that is not simulated."""
        self.world.watch.board.add(where, self.now if at is None else at, value)

    def recovers(self, seconds: float = 4 * HOUR) -> None:
        """The cause is gone: some hours later everything is quiet."""
        self.world.run_schedule(seconds)
        self.quiet_from = self.now
        self.world.run_schedule(HOUR)


def request(refund_id: str = "r1", **changes: Any) -> dict[str, Any]:
    return {
        "refund_id": refund_id,
        "transaction_id": "tx1",
        "user_id": "u1",
        "amount_minor": 3,
        "currency": "USD",
        "reason": "order_cancelled",
        "requested_by": "agent:7",
    } | changes


History = Callable[[Played], None]
HISTORIES: dict[str, History] = {}


def history(play: History) -> History:
    HISTORIES[play.__name__.removeprefix("_").replace("_", " ")] = play
    return play


@cache
def played(name: str) -> Played:
    world = World(1, trace=True)
    world.kernel.max_events = 2_000_000
    world.pay("tx1", 1_000_000)
    played_ = Played(world=world)
    world.run_schedule(2 * HOUR)  # a new stack's first hours
    try:
        HISTORIES[name](played_)
    finally:
        played_.ends = world.kernel.now
        world.watch.advance()
        world.kernel.faults_on = False
        world.kernel.close()
    return played_


@contextmanager
def broken(owner: Any, name: str, error: Exception) -> Iterator[None]:
    """Production code with a bug in it."""

    def bug(*args: Any, **more: Any) -> Any:
        raise error

    with patch.object(owner, name, bug):
        yield


@contextmanager
def denied(world: World, *steps: str, code: str = "AccessDeniedException") -> Iterator[None]:
    world.services.wire.denied.update(dict.fromkeys(steps, code))
    try:
        yield
    finally:
        for step in steps:
            del world.services.wire.denied[step]


def stack_metric(metric: str) -> Series:
    return series("Refunds", metric, service=STACK_NAME)


def succeed(world: World) -> None:
    """The gateway settles whatever is pending there."""
    for moved in world.flair.refunds:
        if moved.status == "pending":
            moved.status, moved.ever_succeeded = "succeeded", True
