"""One of two gateways is down, for a day unless told otherwise. The other must not notice.

The same time is played with and without the outage, and the longest wait of the other gateway's
requests is compared.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from random import Random

from tests.simulator.functions import GATEWAYS
from tests.simulator.gateway_records import Moved
from tests.simulator.histories import Outcome
from tests.simulator.kernel import Violation
from tests.simulator.second_gateway import SECOND, TWO_GATEWAYS, host_of, second_gateway_registered
from tests.simulator.world import World

from refunds.domain.intake import BreakerState, Intake
from refunds.tables.wire import item_from_wire

HOUR = 3600.0
OUTAGE_SECONDS = 24 * HOUR
SCHEDULE_SECONDS = 300.0
MAX_EVENTS = 400_000
A_BATCH_SECONDS = 5.0
MAX_RECEIVES_BEFORE_IT_OPENS = 10

OUTAGES = ("refuses", "is silent", "answers 503")


@dataclass(frozen=True)
class Day:
    longest_wait_seconds: float
    """From a request for the gateway that stays up to its payment."""
    longest_wait_after_outage_seconds: float
    """From the end of the outage to the last payment of what waited for it."""
    deferred: int
    dead_letters: int
    most_receives: int
    unpaid: int
    all_closed: bool
    mapping_stopped: int

    @property
    def faults(self) -> list[str]:
        """What must not come of an outage of one of two gateways."""
        faults = {
            "the other gateway's requests waited": self.longest_wait_seconds
            > GATEWAYS.timeout_seconds + A_BATCH_SECONDS,
            "what waited is not paid soon after": self.longest_wait_after_outage_seconds > HOUR,
            "waiting used up receives": self.most_receives > MAX_RECEIVES_BEFORE_IT_OPENS,
            "dead letters": self.dead_letters > 0,
            "a refund is not paid": self.unpaid > 0,
            "a breaker is open for ever": not self.all_closed,
            "the queue was stopped": self.mapping_stopped > 0,
        }
        return [fault for fault, is_so in faults.items() if is_so]


def play_day(
    seed: int,
    *,
    outage: str | None,
    outage_seconds: float = OUTAGE_SECONDS,
    requests: int = 24,
) -> Day:
    """Requests for both gateways, by turns; ``outage`` is how the second one is down."""
    world = World(seed, max_receives=20, concurrency=3, gateways=TWO_GATEWAYS)
    kernel, dice = world.kernel, Random(seed)
    sent_at: dict[str, float] = {}
    paid_at: dict[str, float] = {}

    def paid(moved: Moved) -> None:
        paid_at.setdefault(moved.reference, kernel.now)

    world.flair.on_movement.append(paid)

    def send(number: int) -> None:
        payment = f"{SECOND if number % 2 else 'tx'}-{number}"
        world.pay(payment, 100, host=host_of(payment))
        sent_at[f"r{number}"] = kernel.now
        world.send(
            {
                "refund_id": f"r{number}",
                "transaction_id": payment,
                "user_id": "u1",
                "amount_minor": 60,
                "currency": "USD",
                "reason": "order_cancelled",
                "requested_by": "agent:7",
            }
        )

    kernel.faults_on = False
    kernel.max_events = MAX_EVENTS
    began = kernel.now
    for number in range(requests):
        # Some at once, so that the outage is noticed; the rest over the outage.
        at = 60 + dice.uniform(0, 20) if number < 14 else dice.uniform(100, outage_seconds)
        kernel.after(at, lambda number=number: send(number))  # type: ignore[misc]
    world.network.outage, world.network.outage_at = outage, f"https://{SECOND}"
    while kernel.now - began < outage_seconds:
        world.run_for(SCHEDULE_SECONDS)
        world.reconcile()
    world.network.outage = None
    ended = kernel.now
    while kernel.now - ended < 3 * HOUR:
        world.run_for(SCHEDULE_SECONDS)
        world.reconcile()
    states = [_intake(world, item) for item in ("#intake", "#intake#flair", f"#intake#{SECOND}")]
    others = [name for name in sent_at if int(name[1:]) % 2 == 0]
    held = [name for name in sent_at if int(name[1:]) % 2]
    day = Day(
        longest_wait_seconds=max(paid_at.get(name, kernel.now) - sent_at[name] for name in others),
        longest_wait_after_outage_seconds=max(
            paid_at.get(name, kernel.now) - max(ended, sent_at[name]) for name in held
        ),
        deferred=kernel.counts["messages deferred"],
        dead_letters=kernel.counts["messages to the DLQ"],
        most_receives=max(message.receive_count for message in world.sqs.all.values()),
        unpaid=sum(name not in paid_at for name in sent_at),
        all_closed=all(state.breaker is BreakerState.CLOSED for state in states),
        mapping_stopped=kernel.counts["mapping disabled"],
    )
    world.settle()
    kernel.close()
    return day


def run_one_of_two_down(seed: int, *, trace: bool = False) -> Outcome:
    """A day without the second gateway as a history: its faults are violations of rule 13."""
    violation: Violation | None = None
    try:
        with second_gateway_registered():
            day = play_day(seed, outage=OUTAGES[seed % len(OUTAGES)])
        if day.faults:
            violation = Violation("rule 13", "; ".join(day.faults))
    except Violation as found:
        violation = found
    return Outcome(seed, Counter(), [], violation)


def _intake(world: World, item: str) -> Intake:
    wire = world.ledger.items.get((item,))
    return Intake.from_item(item_from_wire(wire)) if wire else Intake()
