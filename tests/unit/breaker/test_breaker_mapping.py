"""The reconciler makes the event source mapping follow the circuit breaker."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from botocore.exceptions import ClientError
from tests.support.builders import NOW
from tests.support.fake_gateway import FakeGateway
from tests.support.world import World

from refunds.breaker.probe import gateway_trouble
from refunds.breaker.queue_mapping import IntakeKeeper, Switch
from refunds.domain.intake import (
    BreakerState,
    close_breaker,
    open_breaker,
    pause_intake,
    resume_intake,
)

MOST = 10


def _error(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": code}}, "UpdateEventSourceMapping")


@dataclass
class FakeMapping:
    """Lambda's control plane: one mapping. ``before_update`` runs just before an update."""

    state: str = "Enabled"
    concurrency: int = MOST
    updates: list[dict[str, Any]] = field(default_factory=list)
    before_update: Callable[[], None] = lambda: None

    def get_event_source_mapping(self, *, UUID: str) -> dict[str, Any]:  # noqa: N803
        assert UUID == "mapping-1"
        return {"State": self.state, "ScalingConfig": {"MaximumConcurrency": self.concurrency}}

    def update_event_source_mapping(self, *, UUID: str, **change: Any) -> dict[str, Any]:  # noqa: N803
        assert UUID == "mapping-1"
        self.before_update()
        if self.state.endswith("ing"):
            raise _error("ResourceInUseException")
        self.updates.append(change)
        self.state = "Enabled" if change["Enabled"] else "Disabled"
        if "ScalingConfig" in change:
            self.concurrency = change["ScalingConfig"]["MaximumConcurrency"]
        return {"State": "Enabling" if change["Enabled"] else "Disabling"}


@dataclass
class Reconciling:
    world: World
    mapping: FakeMapping = field(default_factory=FakeMapping)

    def __post_init__(self) -> None:
        client: Any = self.mapping
        self.switch = Switch(
            control=self.world.control,
            client=client,
            mapping_id="mapping-1",
            maximum_concurrency=MOST,
        )
        self.keeper = IntakeKeeper(
            control=self.world.control,
            switch=self.switch,
            gateways=[self.world.gateway],
            clock=self.world.clock,
            by="ReconcileRefunds:1",
        )

    def keep(self) -> None:
        self.keeper.keep(self.world.deadline(230))

    def trip(self) -> None:
        self.world.gateway.down = True
        self.world.control.change_intake(
            lambda intake: open_breaker(
                intake, "ProcessRefund:7", "HTTP 503", self.world.clock.now()
            )
        )


@pytest.fixture
def reconciling(world: World) -> Reconciling:
    return Reconciling(world)


def test_a_good_run_asks_no_gateway_and_leaves_the_mapping_alone(reconciling: Reconciling) -> None:
    reconciling.keep()
    assert reconciling.mapping.updates == []
    assert reconciling.world.gateway.calls == []


def test_an_outage_stops_the_queue_and_its_end_lets_it_flow_step_by_step(
    reconciling: Reconciling,
) -> None:
    world, mapping = reconciling.world, reconciling.mapping
    reconciling.trip()
    reconciling.keep()
    assert mapping.state == "Disabled"
    for _ in range(288):
        world.clock.advance(minutes=5)
        reconciling.keep()
        assert mapping.state == "Disabled"
    assert len(mapping.updates) == 1
    world.gateway.down = False
    steps = []
    for _ in range(4):
        world.clock.advance(minutes=5)
        reconciling.keep()
        steps.append((mapping.state, mapping.concurrency))
    assert steps == [("Enabled", 2), ("Enabled", 8), ("Enabled", 10), ("Enabled", 10)]
    assert world.control.intake().breaker is BreakerState.CLOSED


@pytest.mark.parametrize("state", ["Enabled", "Disabled"])
@pytest.mark.parametrize("breaker", ["closed", "open"])
def test_whatever_a_crash_left_the_next_run_makes_the_mapping_follow_the_state(
    reconciling: Reconciling, state: str, breaker: str
) -> None:
    reconciling.mapping.state = state
    reconciling.trip()
    if breaker == "closed":
        reconciling.world.control.change_intake(
            lambda intake: close_breaker(intake, "f", "it answers", NOW)
        )
    reconciling.keep()
    assert reconciling.mapping.state == ("Disabled" if breaker == "open" else "Enabled")


@pytest.mark.parametrize("state", ["Disabled", "Disabling"])
def test_a_queue_that_is_stopped_for_no_known_reason_waits_for_a_person(
    reconciling: Reconciling, state: str
) -> None:
    reconciling.mapping.state = state  # a person has paused, and the table was lost
    reconciling.keep()
    intake = reconciling.world.control.intake()
    assert (intake.paused, intake.paused_by) == (True, "ReconcileRefunds:1")
    assert "no record" in str(intake.paused_why)
    assert reconciling.mapping.state == state
    reconciling.mapping.state = "Disabled"
    reconciling.world.control.change_intake(lambda it: resume_intake(it, "ada", "checked", NOW))
    reconciling.keep()
    assert reconciling.mapping.state == "Enabled"


def test_a_pause_that_comes_between_reading_and_switching_wins(reconciling: Reconciling) -> None:
    world, mapping = reconciling.world, reconciling.mapping
    mapping.state = "Disabled"  # just resumed, say

    def pause_meanwhile() -> None:
        mapping.before_update = lambda: None
        world.control.change_intake(lambda intake: pause_intake(intake, "jo", "stop!", NOW))

    mapping.before_update = pause_meanwhile
    reconciling.keep()
    assert mapping.state == "Disabled"


def test_a_mapping_that_is_just_being_changed_is_switched_at_the_next_run(
    reconciling: Reconciling,
) -> None:
    reconciling.trip()
    reconciling.mapping.state = "Updating"
    assert not reconciling.switch.follow().settled
    reconciling.mapping.state = "Enabled"
    assert reconciling.switch.follow().settled
    assert reconciling.mapping.state == "Disabled"


def test_what_a_person_paused_is_never_resumed(reconciling: Reconciling) -> None:
    world, mapping = reconciling.world, reconciling.mapping
    world.control.change_intake(lambda intake: pause_intake(intake, "jo", "audit", NOW))
    reconciling.trip()
    world.gateway.down = False
    for _ in range(20):
        reconciling.keep()
        world.clock.advance(minutes=5)
        assert mapping.state == "Disabled"
    world.control.change_intake(lambda intake: resume_intake(intake, "jo", "done", NOW))
    reconciling.keep()
    assert mapping.state == "Enabled"


def test_with_two_gateways_one_that_answers_is_enough(world: World) -> None:
    other = FakeGateway()
    world.gateway.down = True
    assert gateway_trouble([world.gateway, other], world.clock, world.deadline()) is None
    other.down = True
    assert gateway_trouble([world.gateway, other], world.clock, world.deadline()) is not None
