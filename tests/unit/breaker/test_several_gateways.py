"""With several gateways, one that is down holds up nobody else's requests."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from tests.support.builders import FakeClock
from tests.support.fake_gateway import FakeGateway
from tests.support.world import World

from refunds.breaker.breaker import (
    DEFER_SECONDS,
    OPEN_STATE_CACHE,
    RECOVERY_DEFER_SECONDS,
    Breaker,
    GatewayCalls,
    Hold,
    WatchedGateway,
)
from refunds.breaker.queue_mapping import IntakeKeeper, Switched
from refunds.domain.clock import Deadline
from refunds.domain.intake import (
    OPEN_AFTER_FAILED_PAYMENTS,
    OPEN_AT_LEAST,
    PROBE_AFTER_FAILED_PAYMENTS,
    STEP_AT_LEAST,
    BreakerState,
    Intake,
    close_breaker,
    open_breaker,
    pause_intake,
    recovering_share,
)
from refunds.gateways.contract import (
    GatewayMisconfiguredError,
    GatewayUnavailableError,
    Misconfiguration,
    Misconfigured,
    RefundOrder,
)
from refunds.gateways.routing import Gateways, Route
from refunds.tables.state import Control

MOST = 100


class Acme(FakeGateway):
    name = "acme"


class FakeSwitch:
    maximum_concurrency = MOST

    def __init__(self, control: Control) -> None:
        self._control = control

    def mapping_state(self) -> str:
        return "Enabled"

    def follow(self) -> Switched:
        return Switched(self._control.intake(), "Enabled", settled=True)


class Two:
    """Flair takes all payments but ``acme-…``."""

    def __init__(self, world: World) -> None:
        self.control, self.clock = world.control, world.clock
        self.flair, self.acme = FakeGateway(), Acme()
        self.dice = 0.0
        self.announced: list[Intake] = []
        self.calls = GatewayCalls()
        self.breaker = self.environment()
        self.keeper = IntakeKeeper(
            control=self.control,
            switch=FakeSwitch(self.control),  # type: ignore[arg-type]
            gateways=[self.flair, self.acme],
            clock=self.clock,
            by="ReconcileRefunds:1",
        )

    def environment(self) -> Breaker:
        watched = [WatchedGateway(each, self.calls) for each in (self.flair, self.acme)]
        self.gateways = Gateways(watched, [Route("acme-", "acme")])
        return Breaker(
            control=self.control,
            gateways=self.gateways,
            calls=self.calls,
            clock=self.clock,
            by="ProcessRefund:7",
            announce=self.announced.append,
            random=lambda: self.dice,
        )

    def deadline(self) -> Deadline:
        return Deadline.after(self.clock, 60)

    def read(self, *payments: str) -> Intake | None:
        """A batch that reads these payments."""
        self.breaker.before_batch()
        for payment in payments:
            gateway = self.gateways.for_new(payment)
            try:
                gateway.get_payment(payment, self.deadline())
            except GatewayUnavailableError:
                continue
        return self.breaker.after_batch(self.deadline())

    def acme_goes_down(self) -> Intake | None:
        self.acme.down = True
        return self.read(*(f"acme-{n}" for n in range(PROBE_AFTER_FAILED_PAYMENTS)), "tx-1")

    def states(self) -> dict[str, BreakerState]:
        names = {"queue": None, "flair": "flair", "acme": "acme"}
        return {name: self.control.intake(item).breaker for name, item in names.items()}


@pytest.fixture
def two(world: World) -> Two:
    return Two(world)


CLOSED, OPEN, RECOVERING = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.RECOVERING


def test_one_that_is_down_opens_its_own_breaker_while_the_other_answers(two: Two) -> None:
    result = two.acme_goes_down()

    assert two.states() == {"queue": CLOSED, "flair": CLOSED, "acme": OPEN}
    assert result is not None
    assert str(result.why).startswith("acme: ")
    assert two.announced == [result]


def test_only_the_requests_of_the_one_that_is_down_wait(two: Two) -> None:
    two.acme_goes_down()

    assert two.breaker.hold("tx-1") is None
    assert two.breaker.hold("acme-1") == Hold("acme is down", DEFER_SECONDS, send_again=True)
    two.dice = 0.999
    held = two.breaker.hold("acme-1")
    assert held is not None
    assert DEFER_SECONDS * 0.6 < held.seconds < DEFER_SECONDS * 0.7


def test_every_environment_learns_of_it_within_a_minute(two: Two) -> None:
    other = two.environment()
    other.before_batch()
    two.acme_goes_down()
    assert other.hold("acme-1") is None

    two.clock.advance(seconds=OPEN_STATE_CACHE.total_seconds())
    other.before_batch()
    assert other.hold("acme-1") is not None


def test_a_person_can_hold_one_gateway(two: Two) -> None:
    two.control.change_intake(
        lambda there: pause_intake(there, "jo", "why", two.clock.now()), "acme"
    )
    two.breaker.before_batch()

    assert two.breaker.hold("acme-1") is not None
    assert two.breaker.hold("tx-1") is None
    # What has begun there is still settled: the gateway answers.
    assert two.keeper.keep(two.deadline()).gateways_down == ()


def test_a_recovering_gateway_gets_a_growing_share(two: Two) -> None:
    two.acme_goes_down()
    two.acme.down = False
    shares = []
    for step in (OPEN_AT_LEAST, STEP_AT_LEAST, STEP_AT_LEAST, STEP_AT_LEAST):
        two.clock.advance(seconds=step.total_seconds())
        two.keeper.keep(two.deadline())
        shares.append(recovering_share(two.control.intake("acme")))
    assert shares == [2 / 16, 8 / 16, 1.0, 1.0]
    assert two.states()["acme"] is CLOSED


@pytest.mark.parametrize(("dice", "waits"), [(0.1, False), (0.2, True)])
def test_the_rest_of_a_recovering_gateways_requests_wait_a_little(
    two: Two, dice: float, waits: bool
) -> None:
    two.acme_goes_down()
    two.acme.down = False
    two.clock.advance(seconds=OPEN_STATE_CACHE.total_seconds())
    two.keeper.keep(two.deadline())
    two.breaker.before_batch()
    two.dice = dice

    held = two.breaker.hold("acme-1")
    assert (held is not None) == waits
    if held is not None:
        assert held.seconds <= RECOVERY_DEFER_SECONDS


def test_the_queue_stops_only_while_every_gateway_is_down(two: Two) -> None:
    two.acme_goes_down()
    held = two.keeper.keep(two.deadline()).held_gateways
    assert held == ("acme",)
    assert two.keeper.keep(two.deadline()).gateways_down == ("acme",)
    assert two.states()["queue"] is CLOSED

    two.flair.down = True
    two.read(*(f"tx-{n}" for n in range(PROBE_AFTER_FAILED_PAYMENTS)))
    two.keeper.keep(two.deadline())
    assert two.states() == {"queue": OPEN, "flair": OPEN, "acme": OPEN}

    two.flair.down = False
    two.clock.advance(seconds=OPEN_AT_LEAST.total_seconds())
    two.keeper.keep(two.deadline())
    assert two.states() == {"queue": CLOSED, "flair": RECOVERING, "acme": OPEN}


def test_closing_keeps_a_persons_pause(two: Two) -> None:
    now = two.clock.now()
    held = pause_intake(open_breaker(Intake(), "me", "down", now), "jo", "why", now)

    assert close_breaker(held, "me", "back", now).breaker is CLOSED
    assert close_breaker(held, "me", "back", now).paused
    assert close_breaker(Intake(), "me", "back", now) == Intake()


def test_successes_at_one_do_not_hide_failures_at_the_other(two: Two) -> None:
    two.acme.down = True
    for number in range(PROBE_AFTER_FAILED_PAYMENTS):
        two.read(f"acme-{number}", "tx-1", "tx-2")

    assert two.states()["acme"] is OPEN


def test_a_success_forgets_only_its_own_gateways_failures(two: Two) -> None:
    two.acme.down = True
    two.read("acme-1", "acme-2", "tx-1")
    assert two.control.intake("acme").failing == ("acme-1", "acme-2")
    two.acme.down = False
    two.read("acme-1")

    assert two.control.intake("acme").failing == ()


# A gateway that refuses us


class Refuses(FakeGateway):
    """Lists as usual, but refuses payments and refunds: a key of the wrong mode does that."""

    def get_payment(self, transaction_id: str, deadline: Deadline) -> Any:
        raise GatewayMisconfiguredError(Misconfiguration.KEY_OF_WRONG_MODE)

    def create_refund(self, order: RefundOrder, deadline: Deadline, **more: Any) -> Any:
        return Misconfigured(Misconfiguration.KEY_OF_WRONG_MODE)


@pytest.mark.parametrize("creates", [False, True])
def test_a_misconfiguration_stops_requests_early_and_names_itself(
    world: World, creates: bool
) -> None:
    calls, clock = GatewayCalls(), FakeClock()
    gateway = WatchedGateway(Refuses(), calls)
    breaker = Breaker(
        control=world.control,
        gateways=Gateways([gateway]),
        calls=calls,
        clock=clock,
        by="ProcessRefund:7",
        announce=lambda intake: None,
        random=lambda: 0.0,
    )
    deadline = Deadline.after(clock, 60)
    for number in range(PROBE_AFTER_FAILED_PAYMENTS):
        if creates:
            order = RefundOrder(f"r{number}", f"p{number}", 1, "USD", "other", f"r{number}")
            gateway.create_refund(order, deadline, not_after=clock.now() + timedelta(hours=1))
        else:
            with pytest.raises(GatewayMisconfiguredError):
                gateway.get_payment(f"p{number}", deadline)
    breaker.after_batch(deadline)

    state = world.control.intake()
    assert PROBE_AFTER_FAILED_PAYMENTS < OPEN_AFTER_FAILED_PAYMENTS
    assert state.breaker is OPEN
    assert state.why == "flair: misconfigured: key_of_wrong_mode"
    assert breaker.hold("p1") == Hold("the gateway is down", 60.0, send_again=False)
