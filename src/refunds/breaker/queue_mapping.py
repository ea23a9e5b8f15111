"""Making the queue's event source mapping follow the intake's state, and closing the breaker again.

The state in the table comes first, the mapping follows. Whatever dies in between, the next run
compares the two again: the mapping is never left otherwise than the state says.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from refunds.breaker.breaker import gateway_trouble
from refunds.domain.clock import Clock, Deadline
from refunds.domain.intake import Intake, may_probe, probed, wanted
from refunds.gateways.contract import Gateway
from refunds.tables.state import Control

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient

MAX_ROUNDS = 3
"""Times that the mapping is set because the state changed meanwhile."""

MIN_LEFT_SECONDS = 15.0

RUNNING = frozenset({"Creating", "Enabled", "Enabling", "Updating"})
"""States of a mapping that brings requests, or is about to."""


@dataclass(frozen=True)
class Switched:
    """``mapping_state`` is Lambda's word for the mapping; ``settled`` whether the mapping is (or is
    about to be) as ``intake`` asks. If not, it was just being changed: switch again."""

    intake: Intake
    mapping_state: str
    settled: bool


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
        """Make the mapping as the state says."""
        for _ in range(MAX_ROUNDS):
            intake = self._control.intake()
            state, updated = self._set(intake)
            if state is None:
                break
            if not updated:
                return Switched(intake, state, settled=True)
            # Whoever changed the state between our read and our update may have switched before us.
            again = self._control.intake()
            if self._wanted(again) == self._wanted(intake):
                return Switched(again, state, settled=True)
        return Switched(self._control.intake(), "being changed", settled=False)

    def mapping_state(self) -> str:
        """Lambda's word for it: Enabled, Disabled, or on the way to one of them."""
        return str(self._client.get_event_source_mapping(UUID=self._mapping_id)["State"])

    def _wanted(self, intake: Intake) -> Any:
        return wanted(intake, self.maximum_concurrency)

    def _set(self, intake: Intake) -> tuple[str | None, bool]:
        """The mapping's state, and whether it was updated for that; None when it can't be now."""
        want = self._wanted(intake)
        there = self._client.get_event_source_mapping(UUID=self._mapping_id)
        state = there["State"]
        concurrency = there.get("ScalingConfig", {}).get("MaximumConcurrency")
        if state == "Disabled" and not want.enabled:
            return state, False
        if state == "Enabled" and want.enabled and concurrency == want.concurrency:
            return state, False
        change: Any = {"Enabled": want.enabled}
        if want.enabled:
            change["ScalingConfig"] = {"MaximumConcurrency": want.concurrency}
        try:
            answer = self._client.update_event_source_mapping(UUID=self._mapping_id, **change)
        except ClientError as exc:
            if exc.response["Error"]["Code"] == "ResourceInUseException":
                return None, False  # Lambda is still busy with the change before this one
            raise
        return str(answer["State"]), True


class IntakeKeeper:
    """The reconciler's part: asks a gateway that was down whether it is back, opens the queue step
    by step, and keeps the mapping as the state says. What a person has paused stays paused."""

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
        """One look. Safe at any time, by several at once, and after any crash."""
        now = self._clock.now()
        if may_probe(self._control.intake(), now) and deadline.left_seconds() > MIN_LEFT_SECONDS:
            trouble = gateway_trouble(self._gateways, self._clock, deadline)
            self._control.change_intake(
                lambda intake: probed(
                    intake, trouble, self._switch.maximum_concurrency, self._by, now
                )
            )
        return self._switch.follow()
