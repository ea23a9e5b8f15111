"""People who do not wait: they decide on refunds at once, and against what the gateway shows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from tests.simulator.functions import Environment
from tests.simulator.world import World
from tests.support.builders import person

from refunds.domain.clock import Deadline
from refunds.domain.refund import Status
from refunds.gateways.contract import GatewayUnavailableError
from refunds.processing.review import Reasons, Reviewer, ReviewError

HOUR = 3600.0


@dataclass
class HastyPeople:
    """``hit`` counts what they did."""

    world: World
    dice: Random
    hit: Callable[[str], None]

    def decide(self) -> None:
        """A person who decides at once on what comes into review during the next hours."""
        for seconds in (0.0, 60.0, HOUR, 6 * HOUR, 30 * HOUR):
            self.world.kernel.after(seconds, self._decide_now)

    def _decide_now(self) -> None:
        for (refund_id,), item in list(self.world.refunds.items.items()):
            if item["status"]["S"] == "IN_REVIEW":
                to = self.dice.choice((Status.SUCCEEDED, Status.FAILED))
                self._person(refund_id, to, against=self.dice.random() < 0.5)

    def correct(self) -> None:
        for (refund_id,), item in list(self.world.refunds.items.items()):
            if item["status"]["S"] in ("FAILED", "REJECTED"):
                self._person(refund_id, None)

    def _person(self, refund_id: str, to: Status | None, *, against: bool = False) -> None:
        """Someone decides ``to``; None: corrects what ended here and is paid at the gateway."""
        reasons = Reasons(person("jo"), why="in a hurry", evidence="a customer's word")

        def decide(env: Environment, deadline: Deadline) -> None:
            self.world.checker.careless.add(refund_id)
            protocol = env.protocol
            reviewer = Reviewer(protocol.refunds, protocol.settler, protocol.ledger)
            try:
                if to is None:
                    reviewer.correct(refund_id, reasons, deadline)
                else:
                    reviewer.decide(refund_id, to, reasons, deadline, against_gateway=against)
            except (ReviewError, GatewayUnavailableError):
                self.world.kernel.counts["a person is refused"] += 1
            else:
                self.hit(f"careless decision: {to}" if to else "corrected")

        self.world.functions.invoke("operator", decide, lambda result: None, lambda: None)
