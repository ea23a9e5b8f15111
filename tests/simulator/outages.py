"""The gateway is down for a day while requests keep coming, and now and then a person pauses.

Every request must end settled, none in the DLQ and none paid twice; they wait in the queue
untouched; what a person has paused stands still until a person resumes; and in the end requests
flow as before.
"""

from __future__ import annotations

from datetime import UTC, datetime
from random import Random

from tests.simulator.functions import Environment
from tests.simulator.histories import Outcome
from tests.simulator.kernel import Violation
from tests.simulator.world import World

from refunds.domain.clock import Deadline, from_rfc3339
from refunds.domain.intake import BreakerState, Intake, pause_intake, resume_intake
from refunds.tables.wire import item_from_wire

HOUR = 3600.0
OUTAGE_SECONDS = 24 * HOUR
SCHEDULE_SECONDS = 300.0
MAX_RECEIVES = 20
"""Of a queue that would not outlive the day message by message: a hundred in the template."""

FOLLOWS_SECONDS = HOUR
"""Twelve runs of the reconciler: by then the mapping is as the state says, whatever crashed."""

FAULTS = {
    "crash": 0.01,
    "clock skew": 0.3,
    "dynamodb throttled": 0.05,
    "dynamodb applied late": 0.03,
    "dynamodb answer lost": 0.05,
    "index lags": 0.3,
    "sqs throttled": 0.03,
    "sqs answer lost": 0.05,
    "events throttled": 0.1,
    "events answer lost": 0.05,
    "gateway-down event lost": 0.5,
    "lambda throttled": 0.2,
    "lambda applied late": 0.2,
    "lambda answer lost": 0.2,
    "network loses the answer": 0.02,
    "gateway says 429": 0.02,
    "gateway slow": 0.05,
}


def run_outage(seed: int, *, trace: bool = False) -> Outcome:
    """One day of outage; the same seed gives the same day."""
    dice = Random(seed * 6007 + 3)
    most = dice.choice((2, 5, 10))
    world = World(
        seed,
        trace=trace,
        attempts=dice.choice((1, 3)),
        max_receives=MAX_RECEIVES,
        concurrency=most,
    )
    kernel = world.kernel
    kernel.fault_rates = {name: rate * dice.random() for name, rate in FAULTS.items()}
    violation: Violation | None = None
    try:
        _Day(world, dice).play()
    except Violation as found:
        violation = found
        kernel.log("VIOLATION", str(found))
    finally:
        kernel.faults_on = False
        kernel.close()
    return Outcome(seed, kernel.counts, kernel.trace or [], violation)


class _Day:
    def __init__(self, world: World, dice: Random) -> None:
        self.world = world
        self.dice = dice
        self.sent: list[str] = []
        self.pauses = 0
        self.touched = 0

    def play(self) -> None:
        world, dice, kernel = self.world, self.dice, self.world.kernel
        requests = dice.randint(30, 60)
        for number in range(requests):
            kernel.after(dice.uniform(0, 30 * HOUR), lambda number=number: self._send(number))  # type: ignore[misc]
        # Enough of them at once for the outage to be noticed, whatever else comes when.
        for number in range(requests, requests + 12):
            kernel.after(2 * HOUR + dice.uniform(0, 600), lambda number=number: self._send(number))  # type: ignore[misc]
        begins = dice.uniform(HOUR, 2 * HOUR)
        kernel.after(begins, self._outage_begins)
        kernel.after(begins + OUTAGE_SECONDS, self._outage_ends)
        if dice.random() < 0.5:
            pause_at = dice.uniform(0, 30 * HOUR)
            kernel.after(pause_at, lambda: self._person(pause_intake))
            kernel.after(pause_at + dice.uniform(2, 6) * HOUR, lambda: self._person(resume_intake))
        for _ in range(int(40 * HOUR / SCHEDULE_SECONDS)):
            world.run_for(SCHEDULE_SECONDS)
            world.reconcile()
            self._mapping_follows()
        kernel.faults_on = False
        for _ in range(int(2 * HOUR / SCHEDULE_SECONDS)):
            world.run_for(SCHEDULE_SECONDS)
            world.reconcile()
        # Claimed as the outage began, a refund's key may have expired by its end: for a person.
        world.review()
        world.run_for(SCHEDULE_SECONDS)
        self._ends_well()
        world.settle()

    def _send(self, number: int) -> None:
        name = f"tx{number}"
        self.world.pay(name, 100)
        self.sent.append(f"r{number}")
        self.world.send(
            {
                "refund_id": f"r{number}",
                "transaction_id": name,
                "user_id": "u1",
                "amount_minor": 60,
                "currency": "USD",
                "reason": "order_cancelled",
                "requested_by": "agent:7",
            }
        )

    def _outage_begins(self) -> None:
        self.world.network.outage = self.dice.choice(("refuses", "is silent", "answers 503"))
        self.world.kernel.log("outage", f"the gateway {self.world.network.outage}")

    def _outage_ends(self) -> None:
        self.world.network.outage = None
        self.world.kernel.log("outage", "is over")

    def _person(self, step: object) -> None:
        """`refunds pause` or `refunds resume`, until it has worked."""

        def switch(env: Environment, deadline: Deadline) -> None:
            now = datetime.fromtimestamp(self.world.kernel.now, UTC)
            change = pause_intake if step is pause_intake else resume_intake
            for _ in range(20):
                try:
                    env.protocol.control.change_intake(
                        lambda there: change(there, "jo", "why", now)
                    )
                    if env.switch.follow().settled:
                        return
                except Exception:
                    self.world.kernel.counts["a person tries again"] += 1
                self.world.kernel.pause(5)

        def again(result: object) -> None:
            done.append(result)

        def over() -> None:
            if not done:  # the machine died under it
                self._person(step)

        done: list[object] = []
        self.world.kernel.counts["a person switches"] += 1
        self.world.functions.invoke("operator", switch, again, over)

    def _intake(self) -> Intake:
        wire = self.world.ledger.items.get(("#intake",))
        return Intake.from_item(item_from_wire(wire)) if wire else Intake()

    def _mapping_follows(self) -> None:
        """An hour after the state has changed, the mapping is as it says."""
        intake, tap = self._intake(), self.world.tap
        changed = max(filter(None, (intake.since, intake.paused_at)), default=None)
        last = from_rfc3339(intake.history[-1]["at"]).timestamp() if intake.history else 0.0
        if changed is None or self.world.kernel.now - last < FOLLOWS_SECONDS + 100:
            return
        flows = tap.state in ("Enabled", "Enabling")
        if intake.paused and flows:
            raise Violation("rule 13", "requests flow, and a person has paused them")
        if flows != intake.flows:
            raise Violation("rule 13", f"the mapping is {tap.state}, the state says otherwise")

    def _ends_well(self) -> None:
        counts, intake, tap = self.world.kernel.counts, self._intake(), self.world.tap
        if counts["messages to the DLQ"]:
            raise Violation("rule 13", "a message went to the DLQ in the outage")
        if intake.breaker is not BreakerState.CLOSED or tap.state != "Enabled":
            raise Violation("rule 13", f"breaker {intake.breaker}, mapping {tap.state} for ever")
        if tap.concurrency != tap.most:
            raise Violation("rule 13", f"{tap.concurrency} batches at once for ever")
        for refund_id in self.sent:
            wire = self.world.refunds.items.get((refund_id,))
            # A person decides by the gateway's ledger; what was never paid there ends as FAILED.
            decided = wire is not None and "review" in wire
            if wire is None or wire["status"]["S"] not in ("SUCCEEDED", decided and "FAILED"):
                raise Violation("rule 13", f"{refund_id} is not settled", refund_id)
