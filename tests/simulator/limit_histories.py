"""Random histories with limits on: requests around them, approvals by anybody at any moment, and
exceptions that change meanwhile. The faults are those of every history."""

from __future__ import annotations

from random import Random
from typing import Any

from tests.simulator.functions import Environment
from tests.simulator.histories import FAULTS, Outcome, at, keep_apart, random_request
from tests.simulator.kernel import Violation
from tests.simulator.world import World

from refunds.domain.clock import Deadline
from refunds.domain.identity import Identity
from refunds.domain.limits import LimitException, Limits
from refunds.gateways.contract import GatewayUnavailableError
from refunds.processing import limit_checks
from refunds.processing.approval import ApprovalError

HOUR, DAY = 3600.0, 86_400.0
LONGEST_PAUSE_SECONDS = 4000.0
RUNS_LOST_AT_MOST = 3
"""In a row. With a run every five minutes, as deployed, so many are nothing."""
"""Between two runs of the reconciler while a history goes on. Every alarm of what these histories
check looks at an hour at a time, so it may be on so much later."""

PEOPLE = ("7", "shop", "jo", "kim", "lee")
"""``agent:7`` requests and ``AROASHOP:shop`` sends: these two may decide nothing."""

CURRENCIES = ("USD", "JPY")

LIMITS_EVERY = 4
"""Each fourth seed, but the one after those at the edges, plays a history with limits."""


def run_limits(seed: int, *, trace: bool = False) -> Outcome:
    """One history with limits; the same seed gives the same history."""
    dice = Random(seed * 6007 + 3)
    world = World(
        seed,
        trace=trace,
        attempts=dice.choice((1, 3, 3)),
        max_receives=dice.choice((3, 10, 100, 100)),
        batch_size=dice.choice((1, 3, 10)),
        concurrency=dice.choice((2, 3, 5)),
        lanes=1,
        page_size=dice.choice((2, 100)),
        limits=random_limits(dice),
    )
    kernel = world.kernel
    if dice.random() < 0.9:
        share = dice.choice((0.1, 0.3, 0.6))
        kernel.fault_rates = {
            name: highest * dice.random()
            for name, highest in FAULTS.items()
            if dice.random() < share
        }
        keep_apart(kernel.fault_rates)
    violation: Violation | None = None
    often = limit_checks.SETTLE_FROM
    try:
        # What is settled leaves a counter as late as it may, or at once.
        limit_checks.SETTLE_FROM = dice.choice((1, 1, 2, often))
        _play(world, dice)
    except Violation as found:
        violation = found
        kernel.log("VIOLATION", str(found))
    finally:
        limit_checks.SETTLE_FROM = often
        kernel.faults_on = False
        kernel.close()
    return Outcome(seed, kernel.counts, kernel.trace or [], violation)


def random_limits(dice: Random) -> Limits:
    def amounts(*choices: int) -> dict[str, int] | None:
        if dice.random() < 0.4:
            return None
        # Now and then a currency is forgotten: its refunds all wait.
        named = CURRENCIES if dice.random() < 0.9 else CURRENCIES[:1]
        return {currency: dice.choice(choices) for currency in named}

    if dice.random() < 0.4:  # all is counted, and little is over a limit
        return Limits(
            user_day={"USD": dice.choice((300, 900)), "JPY": 600},
            day={"USD": dice.choice((600, 1500)), "JPY": 900} if dice.random() < 0.6 else None,
        )
    limits = Limits(
        per_refund=amounts(150, 500),
        user_day=amounts(300, 600, 900),
        day=amounts(400, 800, 1500),
        user_count=dice.choice((None, 1, 2, 4)),
        approve_above=amounts(200, 700),
        second_approval_above=amounts(100, 600),
        approval_days=dice.choice((1, 1, 3)),
    )
    return limits if limits.on else Limits(user_day={"USD": 300, "JPY": 300})


def _play(world: World, dice: Random) -> None:  # noqa: C901 - the dice, in the order they fall
    world.watch.later_seconds = (1 + RUNS_LOST_AT_MOST) * LONGEST_PAUSE_SECONDS
    if dice.random() < 0.4:
        world.run_for(DAY - dice.choice((2, 30, 600)))  # just before midnight
    payments = [f"tx{number}" for number in range(dice.choice((1, 2, 4)))]
    for transaction_id in payments:
        world.pay(transaction_id, dice.choice((300, 1000)), dice.choice(("USD", "USD", "JPY")))
    busy_seconds = dice.choice((1, 3, 60, 1800, 30 * HOUR))
    sent: list[dict[str, Any] | str] = []
    for number in range(dice.choice((2, 4, 9, 14))):
        body = random_request(dice, f"r{number}", payments, world, sent)
        if isinstance(body, dict):
            body["user_id"] = dice.choice(("u1", "u1", "u1", "u2"))
            if "amount_minor" in body and dice.random() < 0.5:
                body["amount_minor"] = dice.randint(1, 120)
        sent.append(body)
        for _ in range(dice.choice((1, 1, 1, 2, 3))):
            at(world, dice.random() * busy_seconds, lambda body=body: world.send(body))
    for _ in range(dice.choice((0, 0, 1, 2))):
        _change_exceptions(world, dice, dice.random() * busy_seconds)
    for _ in range(dice.randint(2, 12)):
        _decide(world, dice, dice.random() * dice.choice((busy_seconds, 6 * HOUR, 4 * DAY)))
    _pass_time(world, busy_seconds)
    for _ in range(dice.randint(1, 4)):
        world.run_for(dice.uniform(200, LONGEST_PAUSE_SECONDS))
        world.reconcile()
    for _ in range(dice.choice((0, 2, 5))):
        _pass_time(world, dice.uniform(HOUR, 30 * HOUR))
        if dice.random() < 0.3:
            world.redrive()
        if dice.random() < 0.3:
            world.review()
    world.settle()


def _pass_time(world: World, seconds: float) -> None:
    """With a run of the reconciler about each hour: what one puts off by an hour is due at the
    next. (With the schedule it is looked at within five minutes of that.)"""
    ends = world.kernel.now + seconds
    while world.kernel.now < ends:
        world.run_for(min(HOUR + 60, ends - world.kernel.now))
        world.reconcile()


def person(name: str) -> Identity:
    return Identity(
        arn=f"arn:aws:sts::123456789012:assumed-role/Reviewer/{name}",
        account="123456789012",
        user_id=f"AROAREVIEWER:{name}",
    )


def decide(world: World, refund_id: str, name: str, *, approve: bool = True) -> None:
    """A person approves a refund, or denies it; whatever comes of it."""

    def body(env: Environment, deadline: Deadline) -> None:
        approvals, seen = env.protocol.approvals, {"evidence": "the order"}
        try:
            if approve:
                approvals.approve(refund_id, person(name), "known customer", seen)
            else:
                approvals.deny(refund_id, person(name), "unknown customer", seen, deadline)
        except (ApprovalError, GatewayUnavailableError) as refused:
            world.kernel.counts[f"refused to decide: {type(refused).__name__}"] += 1
            world.kernel.log("refused", f"{name} on {refund_id}: {refused}")

    world.functions.invoke("operator", body, lambda result: None, lambda: None)


def _decide(world: World, dice: Random, seconds: float) -> None:
    name, approve = dice.choice(PEOPLE), dice.random() < 0.8
    place = dice.random()

    def act() -> None:
        waiting = [
            refund_id
            for (refund_id,), item in world.refunds.items.items()
            if item["status"]["S"] == "AWAITING_APPROVAL"
        ]
        if waiting:
            decide(world, waiting[int(place * len(waiting))], name, approve=approve)

    world.kernel.after(seconds, act)


def change_exceptions(world: World, subject: str, exception: LimitException | None) -> None:
    def body(env: Environment, deadline: Deadline) -> None:
        control = env.protocol.control
        there = control.read_exceptions()
        new = there.changed(subject, exception, by="jo", why="a test", at="2026-03-01")
        control.write_exceptions(new, expected_version=there.version)

    world.functions.invoke("operator", body, lambda result: None, lambda: None)


def _change_exceptions(world: World, dice: Random, seconds: float) -> None:
    subject = dice.choice(("user:u1", "requester:agent:7", "sender:AROASHOP", "user:nobody"))
    exception = None
    if dice.random() < 0.8:
        amount = dice.choice((50, 400, 1200))
        exception = LimitException(
            per_refund={"USD": amount} if world.limits.limits.per_refund else None,
            user_day={"USD": amount} if world.limits.limits.user_day else None,
            user_count=dice.choice((1, 3, 6)) if world.limits.limits.user_count else None,
            by="jo",
            why="a test",
            at="2026-03-01",
        )
        highest = world.limits.highest
        for name, value in (
            ("per_refund", amount),
            ("user_day", amount),
            ("user_count", exception.user_count or 0),
        ):
            highest[name] = max(highest.get(name, 0), value)
    world.kernel.after(seconds, lambda: change_exceptions(world, subject, exception))
