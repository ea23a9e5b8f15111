"""Makes the queue's event source mapping follow the queue's state, and closes the breakers again.

The state in the table changes first and the mapping follows. After a crash in between, the next run
compares the two again, so the mapping never stays different from the state.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import ClientError

from refunds.breaker.probe import gateway_trouble
from refunds.domain.clock import Clock, Deadline
from refunds.domain.intake import (
    BreakerState,
    Intake,
    after_probe,
    close_breaker,
    desired_mapping,
    may_probe,
    open_breaker,
    pause_intake,
)
from refunds.gateways.contract import Gateway
from refunds.tables.state import Control

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient

MAX_ROUNDS = 3
"""How often the mapping is set again because the state has changed meanwhile."""

MIN_LEFT_SECONDS = 15.0

RUNNING = frozenset({"Creating", "Enabled", "Enabling", "Updating"})
"""States of a mapping that delivers requests, or is about to."""

STOPPED = frozenset({"Disabled", "Disabling"})

REASON_LOST = (
    "requests were stopped, and the ledger table has no record of by whom and why. If it was lost, "
    "so are exceptions from limits and pauses of single gateways: set them again"
)


class Switched(NamedTuple):
    """``mapping_state`` is the state that Lambda reports. ``settled``: the mapping is, or is about
    to be, as ``intake`` asks. If it is not, another change is still in progress: switch again."""

    intake: Intake
    mapping_state: str
    settled: bool
    held_gateways: tuple[str, ...] = ()
    """With several gateways, those whose requests wait because they are down or a person paused
    them."""
    gateways_down: tuple[str, ...] = ()
    """Gateways that did not answer the last probe."""


class Switch:
    """The event source mapping ``mapping_id``, which feeds ProcessRefund from the queue."""

    def __init__(
        self, *, control: Control, client: LambdaClient, mapping_id: str, maximum_concurrency: int
    ) -> None:
        self._control = control
        self._client = client
        self._mapping_id = mapping_id
        self.maximum_concurrency = maximum_concurrency

    def follow(self) -> Switched:
        """Set the mapping to what the state says."""
        for _ in range(MAX_ROUNDS):
            intake = self._control.intake()
            state, updated = self._set(intake)
            if state is None:
                break
            if not updated:
                return Switched(intake, state, settled=True)
            # Another function may have changed the state, and switched the mapping, between our
            # read and our update.
            again = self._control.intake()
            if self._desired(again) == self._desired(intake):
                return Switched(again, state, settled=True)
        return Switched(self._control.intake(), "being changed", settled=False)

    def mapping_state(self) -> str:
        """The mapping's state: Enabled, Disabled, or changing to one of them."""
        return str(self._client.get_event_source_mapping(UUID=self._mapping_id)["State"])

    def _desired(self, intake: Intake) -> Any:
        return desired_mapping(intake, self.maximum_concurrency)

    def _set(self, intake: Intake) -> tuple[str | None, bool]:
        """The mapping's state, and whether it was updated. None: it can't be updated now."""
        desired = self._desired(intake)
        there = self._client.get_event_source_mapping(UUID=self._mapping_id)
        state = there["State"]
        concurrency = there.get("ScalingConfig", {}).get("MaximumConcurrency")
        if state == "Disabled" and not desired.enabled:
            return state, False
        if state == "Enabled" and desired.enabled and concurrency == desired.concurrency:
            return state, False
        change: Any = {"Enabled": desired.enabled}
        if desired.enabled:
            change["ScalingConfig"] = {"MaximumConcurrency": desired.concurrency}
        try:
            answer = self._client.update_event_source_mapping(UUID=self._mapping_id, **change)
        except ClientError as exc:
            if exc.response["Error"]["Code"] == "ResourceInUseException":
                return None, False  # Lambda still works on the previous change.
            raise
        return str(answer["State"]), True


class IntakeKeeper:
    """The reconciler's part: asks gateways that were down whether they are back, lets requests flow
    again step by step, and keeps the mapping as the state says. A person's pause stays."""

    def __init__(
        self,
        *,
        control: Control,
        switch: Switch,
        gateways: Iterable[Gateway],
        clock: Clock,
        by: str,
    ) -> None:
        self._control = control
        self._switch = switch
        self._gateways = tuple(gateways)
        self._clock = clock
        self._by = by

    def keep(self, deadline: Deadline) -> Switched:
        """Compare and correct once. Safe at any time, in parallel, and after a crash."""
        self._keep_stopped()
        if len(self._gateways) == 1:
            only = self._gateways[0]
            self._probe(only, None, deadline)
            switched = self._switch.follow()
            is_down = switched.intake.breaker is BreakerState.OPEN
            return switched._replace(gateways_down=(only.name,) if is_down else ())
        for gateway in self._gateways:
            self._probe(gateway, gateway.name, deadline)
        states = {gateway.name: self._control.intake(gateway.name) for gateway in self._gateways}
        all_down = all(state.breaker is BreakerState.OPEN for state in states.values())
        now = self._clock.now()
        # The queue stops only while no gateway is there. Each then recovers at its own pace.
        self._control.change_intake(
            lambda queue: (
                open_breaker(queue, self._by, "every gateway is down", now)
                if all_down
                else close_breaker(queue, self._by, "a gateway is back", now)
            )
        )
        held = tuple(name for name, state in states.items() if not state.flows)
        down = tuple(n for n, state in states.items() if state.breaker is BreakerState.OPEN)
        return self._switch.follow()._replace(held_gateways=held, gateways_down=down)

    def _keep_stopped(self) -> None:
        """If requests are stopped and the table does not say why, it was lost or the queue was
        stopped by hand: a person may have paused them. So a person must resume."""
        if self._control.intake().version or self._switch.mapping_state() not in STOPPED:
            return
        now = self._clock.now()
        self._control.change_intake(
            lambda intake: (
                intake if intake.version else pause_intake(intake, self._by, REASON_LOST, now)
            )
        )

    def _probe(self, gateway: Gateway, item: str | None, deadline: Deadline) -> None:
        now = self._clock.now()
        if deadline.left_seconds() <= MIN_LEFT_SECONDS:
            return
        if not may_probe(self._control.intake(item), now):
            return
        trouble = gateway_trouble([gateway], self._clock, deadline)
        self._control.change_intake(
            lambda intake: after_probe(
                intake, trouble, self._switch.maximum_concurrency, self._by, now
            ),
            item,
        )
