"""Random histories: which faults there are, what is asked for, and how long it goes on."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from random import Random
from typing import Any

from tests.simulator.gateway_records import Moved
from tests.simulator.kernel import Violation
from tests.simulator.world import World

FAULTS = {
    "crash": 0.02,
    "stall": 0.02,
    "clock skew": 0.5,
    "dynamodb throttled": 0.1,
    "dynamodb throttles a statement": 0.1,
    "dynamodb leaves keys out": 0.2,
    "dynamodb applied late": 0.05,
    "dynamodb answer lost": 0.08,
    "index lags": 0.5,
    "sqs throttled": 0.05,
    "sqs applied late": 0.05,
    "sqs answer lost": 0.1,
    "sqs delivers twice": 0.3,
    "sqs deletes in vain": 0.2,
    "sqs message comes back": 0.2,
    "events throttled": 0.1,
    "events not taken": 0.1,
    "events answer lost": 0.05,
    "s3 throttled": 0.1,
    "s3 answer lost": 0.1,
    "secrets throttled": 0.2,
    "stream replays": 0.2,
    "network refuses": 0.2,
    "network loses the request": 0.2,
    "network loses the answer": 0.3,
    "network delays the request": 0.2,
    "gateway slow": 0.3,
    "gateway says 429": 0.2,
    "gateway says 503": 0.2,
    "network answers with HTML": 0.1,
    "gateway hides refunds": 0.2,
    "gateway hides a refund once": 0.5,
    "gateway takes no orders": 0.2,
    "gateway declines a replay": 0.3,
    "gateway pays another amount": 0.05,
    "gateway pending": 0.5,
    "gateway failed at once": 0.1,
    "gateway reversal": 0.4,
    "gateway declines": 0.2,
    "gateway 500 without commit": 0.2,
    "gateway 500 after commit": 0.2,
    "gateway doubles a refund": 0.05,
    "gateway lies": 0.1,
}
"""Each fault's highest rate. A history has some of them: together all the time they would hide
each other."""


STORMY = (
    "crash",
    "dynamodb throttled",
    "network refuses",
    "network loses the request",
    "network loses the answer",
    "gateway says 503",
    "gateway hides refunds",
    "gateway takes no orders",
    "gateway slow",
)
"""What can be so for hours on end."""


@dataclass
class Outcome:
    """What a history was like. ``violation`` is None when all held."""

    seed: int
    counts: Counter[str]
    trace: list[str]
    violation: Violation | None


def run_history(seed: int, *, trace: bool = False) -> Outcome:
    """One whole history; the same seed gives the same history."""
    dice = Random(seed * 7919 + 1)
    world = World(
        seed,
        trace=trace,
        attempts=dice.choice((1, 3, 3)),
        max_receives=dice.choice((3, 5, 10, 100, 100)),
        batch_size=dice.choice((1, 3, 10)),
        concurrency=dice.choice((2, 3, 5)),
        lanes=dice.choice((1, 2)),
        enforces_balance=dice.random() < 0.6,
        page_size=dice.choice((2, 3, 100)),
    )
    kernel = world.kernel
    if dice.random() < 0.95:
        share = dice.choice((0.1, 0.3, 0.6))
        kernel.fault_rates = {
            name: highest * dice.random()
            for name, highest in FAULTS.items()
            if dice.random() < share
        }
        keep_apart(kernel.fault_rates)
    violation: Violation | None = None
    try:
        _play(world, dice)
    except Violation as found:
        violation = found
        kernel.log("VIOLATION", str(found))
    finally:
        kernel.faults_on = False
        kernel.close()
    return Outcome(seed, kernel.counts, kernel.trace or [], violation)


def _play(world: World, dice: Random) -> None:  # noqa: C901 - the dice, in the order they fall
    payments = [f"tx{number}" for number in range(dice.choice((1, 1, 2)))]
    for transaction_id in payments:
        world.pay(
            transaction_id,
            dice.choice((100, 1000)),
            dice.choice(("USD", "USD", "JPY")),
            status="captured" if dice.random() < 0.97 else dice.choice(("authorized", "voided")),
        )
    sent: list[dict[str, Any] | str] = []
    busy_seconds = dice.choice((3, 120, 1800))
    crowd = dice.random() < 0.1
    if crowd:  # many at once for the same money
        payments, busy_seconds = payments[:1], 2
    for number in range(8 if crowd else dice.randint(1, 5)):
        body = random_request(dice, f"r{number}", payments, world, sent)
        sent.append(body)
        for _ in range(dice.choice((1, 1, 1, 2, 3))):
            at(world, dice.random() * busy_seconds, lambda body=body: world.send(body))
    for _ in range(dice.choice((0, 0, 1, 2))):
        paid = world.flair.payments[dice.choice(payments)]
        amount = dice.randint(1, max(1, paid.captured // 2))
        at(
            world,
            dice.random() * busy_seconds,
            lambda paid=paid, amount=amount: world.flair.refund_by_others(paid.id, amount),
        )
    if dice.random() < 0.1:
        paid = world.flair.payments[dice.choice(payments)]
        at(world, dice.random() * busy_seconds, lambda: setattr(paid, "status", "disputed"))
    if dice.random() < 0.05:
        at(world, dice.random() * busy_seconds, lambda: setattr(world.secret, "value", "key-2"))
    for _ in range(dice.choice((0, 0, 1, 2))):
        _storm(world, dice, busy_seconds)
    chance = dice.random()
    if chance < 0.03:
        _outlast_the_key(world, dice)
    elif chance < 0.06:
        _decline_what_was_paid(world)
    _pass_time(world, dice, busy_seconds, days=6 if chance < 0.03 else dice.choice((0, 0, 0, 3, 6)))
    world.settle()


def _storm(world: World, dice: Random, busy_seconds: float) -> None:
    """For a while, what goes wrong goes wrong nearly always."""
    kernel = world.kernel
    calm = dict(kernel.fault_rates)
    storm = dict.fromkeys(dice.sample(STORMY, dice.randint(1, 3)), dice.choice((0.5, 0.9, 1.0)))
    if "crash" in storm:
        storm["crash"] = 0.1
    stormy = calm | storm
    keep_apart(stormy)

    def begin() -> None:
        kernel.log("storm", ", ".join(storm))
        kernel.fault_rates = stormy

    def end() -> None:
        kernel.log("storm", "is over")
        kernel.fault_rates = calm

    start = dice.random() * busy_seconds
    at(world, start, begin)
    at(world, start + dice.choice((60, 600, 7200, 26 * 3600)), end)


def _outlast_the_key(world: World, dice: Random) -> None:
    """Until the gateway has forgotten the key it takes no orders, nor for longer shows what it
    has."""
    hours = dice.uniform(23, 27) * 3600
    closed = {"gateway takes no orders": 1.0, "gateway hides refunds": 1.0}
    _when_money_has_moved(
        world,
        [
            (0, {"network loses the answer": 1.0} | closed),
            (30, closed),
            (hours, {"gateway hides refunds": 1.0}),
            (hours + 3 * 3600, {}),
        ],
    )


def _decline_what_was_paid(world: World) -> None:
    """The gateway's list is behind, once, and it looks at the balance before the key."""
    behind = {"gateway hides a refund once": 1.0, "gateway declines a replay": 1.0}
    _when_money_has_moved(
        world, [(0, {"network loses the answer": 1.0} | behind), (10, behind), (3600, {})]
    )


def _when_money_has_moved(world: World, storms: list[tuple[float, dict[str, float]]]) -> None:
    """Right after the first movement of money, one storm after the other: from when (in seconds
    after it), and what."""
    kernel = world.kernel
    calm = dict(kernel.fault_rates)
    begun = False

    def weather(faults: dict[str, float]) -> None:
        kernel.log("storm", ", ".join(faults) or "is over")
        kernel.fault_rates = calm | faults
        keep_apart(kernel.fault_rates)

    def moved(_: Moved) -> None:
        nonlocal begun
        if begun or not kernel.faults_on:
            return
        begun = True
        for seconds, faults in storms:
            if seconds:
                at(world, seconds, lambda faults=faults: weather(faults))
            else:
                weather(faults)

    world.flair.on_movement.append(moved)


def keep_apart(rates: dict[str, float]) -> None:
    """A gateway that declines what it paid and hides that it did leaves no evidence at all: then
    no protocol could know, and rule 8 takes its word."""
    if "gateway hides refunds" in rates:
        rates.pop("gateway declines a replay", None)


def random_request(
    dice: Random,
    refund_id: str,
    payments: list[str],
    world: World,
    sent: list[dict[str, Any] | str],
) -> dict[str, Any] | str:
    """A request; now and then one that can't be done, can't be read, or takes another's id."""
    earlier = [body for body in sent if isinstance(body, dict)]
    if earlier and dice.random() < 0.15:
        other = dice.choice(earlier)
        change = dice.choice(
            (
                {"amount_minor": dice.randint(1, 100)},
                {"transaction_id": dice.choice(payments)},
                {"user_id": "someone-else"},
            )
        )
        return other | change
    if dice.random() < 0.04:
        return dice.choice(('{"refund_id": 1}', "no json", '{"a": NaN}'))
    transaction_id = dice.choice(payments) if dice.random() < 0.97 else "tx-unknown"
    paid = world.flair.payments.get(transaction_id)
    body: dict[str, Any] = {
        "refund_id": refund_id,
        "transaction_id": transaction_id,
        "user_id": "u1",
        "currency": paid.currency if paid and dice.random() < 0.97 else "EUR",
        "reason": "order_cancelled",
        "requested_by": "agent:7",
    }
    if dice.random() < 0.8:
        body["amount_minor"] = max(1, int((paid.captured if paid else 100) * dice.random()))
    return body


def _pass_time(world: World, dice: Random, busy_seconds: float, *, days: int) -> None:
    """Minutes, then hours, then perhaps days, with a reconciler that sometimes is not run."""
    world.run_for(busy_seconds)
    for _ in range(dice.randint(0, 4)):
        world.run_for(dice.uniform(200, 4000))
        if dice.random() < 0.7:
            world.reconcile()
            if dice.random() < 0.2:
                world.reconcile()
        if dice.random() < 0.3:
            world.redrive()
        if dice.random() < 0.3:
            world.review()
    for _ in range(days):
        world.run_for(dice.uniform(3600, 30 * 3600))
        if dice.random() < 0.8:
            world.reconcile()
        if dice.random() < 0.3:
            world.redrive()
        if dice.random() < 0.3:
            world.review()


def at(world: World, seconds: float, action: Any) -> None:
    world.kernel.after(seconds, action)
