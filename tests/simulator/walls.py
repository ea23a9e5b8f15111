"""Random histories at the edges: tables that forget, settings that change, a person who does not
wait, other systems, and gateways with lists that can't be trusted.

A history has a few *walls* beside a few ordinary faults. Each wall counts what it did, so that the
summary shows that it was hit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from random import Random
from typing import Any

from tests.simulator.functions import GATEWAYS
from tests.simulator.hasty_people import HastyPeople
from tests.simulator.histories import FAULTS, Outcome, keep_apart, random_request, run_history
from tests.simulator.kernel import Violation
from tests.simulator.limit_histories import LIMITS_EVERY, run_limits
from tests.simulator.restores import back_up, quietly, requests_flow, restore
from tests.simulator.rules import UNFINISHED
from tests.simulator.second_gateway import SECOND, TWO_GATEWAYS, host_of, second_gateway_registered
from tests.simulator.sqs import DAY, Message
from tests.simulator.world import World

from refunds.gateways.contract import Stage
from refunds.gateways.flair import FlairGateway
from refunds.settings import GatewaySettings

HOUR = 3600.0
LIST_FAULTS = {
    "gateway's list lags": 0.5,
    "gateway's row can't be read": 0.3,
    "gateway's page is empty": 0.3,
}
HIDES = frozenset({"gateway hides refunds", "gateway hides a refund once", *LIST_FAULTS})

ELSEWHERE = "https://elsewhere"
"""Another account of the first gateway."""

WALLS_EVERY = 4
"""Each fourth seed plays a history at the edges."""


def play(seed: int, *, trace: bool = False) -> Outcome:
    """The history of a seed: at the edges, with limits, or an ordinary one."""
    if seed % WALLS_EVERY == 0:
        return run_walls(seed, trace=trace)
    if seed % LIMITS_EVERY == 1:
        return run_limits(seed, trace=trace)
    return run_history(seed, trace=trace)


def run_walls(seed: int, *, trace: bool = False) -> Outcome:
    """One history at the edges; the same seed gives the same history."""
    dice = Random(seed * 5003 + 7)
    two = dice.random() < 0.3
    world = World(
        seed,
        trace=trace,
        attempts=dice.choice((1, 3, 3)),
        max_receives=dice.choice((3, 10, 100, 100)),
        batch_size=dice.choice((1, 3, 10)),
        concurrency=dice.choice((2, 3)),
        lanes=dice.choice((1, 2)),
        enforces_balance=dice.random() < 0.6,
        page_size=dice.choice((2, 3, 100)),
        new_tables=dice.random() < 0.3,
        gateways=TWO_GATEWAYS if two else GATEWAYS,
    )
    kernel = world.kernel
    violation: Violation | None = None
    try:
        with (
            second_gateway_registered(),
            _forgetful_gateway(forgets_declines=dice.random() < 0.2) as forgets,
        ):
            world.flair.forgets_declines = forgets
            kernel.counts["wall new tables"] += (  # as of a stack that was just deployed
                not world.ledger.items
            )
            kernel.counts["wall two gateways"] += two
            kernel.counts["wall gateway that forgets declines"] += forgets
            _Walls(world, dice, two_gateways=two).play()
    except Violation as found:
        violation = found
        kernel.log("VIOLATION", str(found))
    finally:
        kernel.faults_on = False
        kernel.close()
    return Outcome(seed, kernel.counts, kernel.trace or [], violation)


@contextmanager
def _forgetful_gateway(*, forgets_declines: bool) -> Iterator[bool]:
    remembers = FlairGateway.remembers_declines
    FlairGateway.remembers_declines = not forgets_declines
    try:
        yield forgets_declines
    finally:
        FlairGateway.remembers_declines = remembers


def _elsewhere(body: dict[str, Any], other: dict[str, Any] | str) -> bool:
    """Whether two requests share a refund id, and their payments are at two gateways. When the
    first one's record is lost, neither gateway nor trail shows it to the second."""
    return (
        isinstance(other, dict)
        and body["refund_id"] == other["refund_id"]
        and host_of(body["transaction_id"]) != host_of(other["transaction_id"])
    )


class _Walls:
    def __init__(self, world: World, dice: Random, *, two_gateways: bool) -> None:
        self.world = world
        self.dice = dice
        self.people = HastyPeople(world, dice, self._hit)
        self.payments = ["tx0", "tx1"][: dice.choice((1, 1, 2))]
        if two_gateways:
            self.payments.append(f"{SECOND}-tx")
        self.bodies: list[dict[str, Any] | str] = []
        self.trail_lost = False
        self.settings_changed = False
        self.busy_seconds = dice.choice((60, 1800))

    def play(self) -> None:
        world, dice, kernel = self.world, self.dice, self.world.kernel
        self._faults()
        for transaction_id in self.payments:
            world.pay(transaction_id, dice.choice((100, 1000)), host=host_of(transaction_id))
        for number in range(dice.randint(1, 4)):
            body = random_request(dice, f"r{number}", self.payments, world, self.bodies)
            if isinstance(body, dict) and any(_elsewhere(body, each) for each in self.bodies):
                continue
            self.bodies.append(body)
            for _ in range(dice.choice((1, 1, 2))):
                kernel.after(dice.random() * self.busy_seconds, partial(self._send, body))
        walls = self._walls()
        for _ in range(dice.randint(1, 4)):
            wall = dice.choice(walls)
            kernel.after(self._moment(), wall)
        self._pass_time()
        self._end()

    def _send(self, body: dict[str, Any] | str) -> None:
        self.world.send(body)

    def _moment(self) -> float:
        return self.dice.random() * self.dice.choice((60, self.busy_seconds, 3 * HOUR, 2 * DAY))

    def _faults(self) -> None:
        dice, kernel = self.dice, self.world.kernel
        share = dice.choice((0.0, 0.1, 0.3))
        kernel.fault_rates = {
            name: highest * dice.random()
            for name, highest in (FAULTS | LIST_FAULTS).items()
            if dice.random() < share or (name in LIST_FAULTS and dice.random() < 0.15)
        }
        if dice.random() < 0.3:  # something for a person to decide
            name = dice.choice(("gateway doubles a refund", "gateway pays another amount"))
            kernel.fault_rates[dice.choice((name, "gateway lies"))] = 0.5
        keep_apart(kernel.fault_rates)
        self.world.checker.gateway_hides = bool(HIDES & kernel.fault_rates.keys())

    def _walls(self) -> list[Callable[[], None]]:
        return [
            self._lose_tables,
            self._lose_tables,
            self._back_up,
            self._other_stage,
            self._other_account,
            self._other_routes,
            self._others_refund,
            self._others_refund,
            self._capture,
            self._archive_payment,
            self._look_at,
            self._look_at,
            self.people.decide,
            self.people.decide,
            self.people.correct,
            self._resend_one,
        ]

    def _hit(self, wall: str) -> None:
        self.world.kernel.counts[f"wall {wall}"] += 1
        self.world.kernel.log("wall", wall)

    # --- tables ---------------------------------------------------------------------------------

    def _lose_tables(self) -> None:
        world, dice = self.world, self.dice
        chosen = dice.choice(
            (
                (world.refunds, world.ledger),
                (world.refunds, world.ledger),
                (world.refunds,),
                (world.ledger,),
                (world.refunds, world.ledger, world.audit),
            )
        )
        if world.audit in chosen and self.settings_changed:
            # Nothing would be left that knows by which reference, and where, a refund began.
            chosen = (world.refunds, world.ledger)
        comes_back = dice.sample(self.bodies, dice.randint(0, len(self.bodies)))
        wait = [dice.choice((10, HOUR, 5 * DAY)) for _ in comes_back]

        def lose() -> None:
            self._hit("emptied: " + ", ".join(table.name for table in chosen))
            self.trail_lost |= world.audit in chosen
            world.empty(*chosen)
            requests_flow(world)
            for seconds, body in zip(wait, comes_back, strict=True):
                world.kernel.after(seconds, partial(self._again, body))

        quietly(world, lose)

    def _back_up(self) -> None:
        """A backup; later the tables are lost, or are not, and it is restored."""
        world, dice = self.world, self.dice
        later = self.dice.choice((60, HOUR, 3 * DAY))
        lost = dice.choice(((), (world.refunds,), (world.ledger,), (world.refunds, world.ledger)))
        backup = back_up(world)

        def put_back() -> None:
            if self.trail_lost:
                requests_flow(world)
                return
            if lost:
                world.empty(*lost)
            else:
                world.checker.forget()
            self._hit("restore after loss of: " + ", ".join(table.name for table in lost))
            restore(world, backup)

        world.kernel.after(later, lambda: quietly(world, put_back))

    def _again(self, body: dict[str, Any] | str) -> None:
        self._hit("an old message again")
        self.world.send(body)

    def _resend_one(self) -> None:
        """An archived message, up to 400 days later."""
        gone = [each for each in self.world.sqs.all.values() if each.gone is not None]
        if gone:
            self._resend(self.dice.choice(gone))

    def _resend(self, message: Message) -> None:
        if "error_code" not in message.attributes:
            self._hit("resent from the archive")
            self.world.resend(message)

    # --- settings -------------------------------------------------------------------------------

    def _deploy(self, wall: str, **changes: Any) -> None:
        self.settings_changed = True
        gradual = self.dice.choice((0.0, 0.0, 600.0, 2 * HOUR))
        self._hit(wall + (", side by side" if gradual else ""))
        self.world.redeploy(gradual_seconds=gradual, **changes)

    def _other_stage(self) -> None:
        if not self.trail_lost:
            self._deploy("stage changed", stage=Stage(self.dice.choice(("", "green", "blue"))))

    def _other_account(self) -> None:
        if self.trail_lost:
            return
        first, *others = self.world.services.gateways.accounts
        elsewhere = first._replace(url=ELSEWHERE)
        self._deploy("account changed", accounts=(elsewhere, *others))
        back = self.dice.choice((300, 2 * HOUR, DAY))
        self.world.kernel.after(back, self._first_account)

    def _first_account(self) -> None:
        self._deploy("account changed back", accounts=self._accounts().accounts)

    def _other_routes(self) -> None:
        if len(self.world.services.gateways.accounts) == 1 or self.trail_lost:
            return
        routes = self.world.services.gateways.routes
        self._deploy("routes changed", routes=() if routes else TWO_GATEWAYS.routes)

    def _accounts(self) -> GatewaySettings:
        two = len(self.world.services.gateways.accounts) > 1
        return TWO_GATEWAYS if two else GATEWAYS

    # --- other systems and the gateway ----------------------------------------------------------

    def _others_refund(self) -> None:
        paid = self.world.flair.payments[self.dice.choice(self.payments)]
        amount = self.dice.randint(1, max(1, paid.captured // 2))
        if self.dice.random() < 0.5:
            self._hit("another system's refund that fails late")
            self.world.flair.refund_by_others_in_vain(paid.id, amount)
        else:
            self._hit("another system's refund")
            self.world.flair.refund_by_others(paid.id, amount)

    def _capture(self) -> None:
        self._hit("second capture")
        self.world.flair.payments[self.dice.choice(self.payments)].captured += 500

    def _archive_payment(self) -> None:
        self._hit("payment archived at the gateway")
        self.world.flair.archived.add(self.dice.choice(self.payments))

    def _look_at(self) -> None:
        """Webhooks, of any refund and at any moment: three in a row."""
        for seconds in (0.0, 1.0, 40.0):
            self.world.kernel.after(seconds, self._webhook)

    def _webhook(self) -> None:
        refund_id = f"r{self.dice.randrange(4)}"
        if (refund_id,) in self.world.refunds.items:
            self._hit("webhook")
        event = {"look_at": refund_id}
        self.world.functions.invoke(
            "reconcile",
            lambda env, deadline: env.reconcile_refunds.handle(event, deadline),
            lambda result: None,
            lambda: None,
        )

    # --- time -----------------------------------------------------------------------------------

    def _pass_time(self) -> None:
        world, dice = self.world, self.dice
        world.run_for(self.busy_seconds)
        for _ in range(dice.randint(1, 4)):
            world.run_for(dice.uniform(200, 4000))
            self._people()
        for _ in range(dice.choice((0, 2, 3, 5))):
            world.run_for(dice.uniform(3600, 30 * HOUR))
            self._people()
        if dice.random() < 0.3:
            # Long after: all that a bucket and a queue may still bring back.
            for _ in range(21):  # the schedule goes on for as long as the queues keep anything
                world.reconcile()
                world.run_for(DAY)
            world.run_for(dice.choice((10, 100, 350)) * DAY)
            world.reconcile()
            world.run_for(HOUR)
            self.people.correct()
            for message in list(world.sqs.all.values()):
                if message.gone is not None and dice.random() < 0.5:
                    self._hit("resent long after")
                    self._resend(message)
            world.run_for(HOUR)

    def _people(self) -> None:
        if self.dice.random() < 0.7:
            self.world.reconcile()
        if self.dice.random() < 0.3:
            self.world.redrive()
        if self.dice.random() < 0.3:
            self.world.review()

    def _end(self) -> None:
        """What only a person can mend is mended: a refund's own account is configured again."""
        world = self.world
        world.run_for(3 * DAY)  # nothing that a wall has begun is under way any more
        world.kernel.faults_on = False
        world.flair.archived.clear()
        self._configure_accounts_of_unfinished()
        world.redeploy(accounts=self._accounts().accounts)
        world.settle()

    def _configure_accounts_of_unfinished(self) -> None:
        """An alarm says which account is asked for: its refunds end there, then it goes again."""
        first, *others = self._accounts().accounts
        for _ in range(3):
            waiting = [
                item
                for item in self.world.refunds.items.values()
                if item["status"]["S"] in UNFINISHED and item["gateway_account"]["S"] == ELSEWHERE
            ]
            if not waiting:
                return
            self._hit("account configured again for its refunds")
            self.world.redeploy(accounts=(first._replace(url=ELSEWHERE), *others))
            self.world.run_schedule(DAY)
