"""The circuit breakers in ProcessRefund: which gateways may be called, and which calls show that
one is down.

Each gateway has its own breaker, so that an outage of one never delays the requests of another.

With one gateway configured, an open breaker stops the queue (``queue_mapping.py``). Nothing is read
or written while calls succeed. A batch in which every call failed writes one item.

With several, the queue stays on, and requests for a gateway that is down are sent again with a
delay (``processing/deferral.py``). Each environment reads the breakers once a minute. The queue
stops only while every gateway is down.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from threading import Lock
from typing import NamedTuple, TypeVar

from refunds.breaker.probe import gateway_trouble
from refunds.domain.clock import Clock, Deadline
from refunds.domain.intake import (
    OPEN_AFTER_FAILED_PAYMENTS,
    BreakerState,
    Intake,
    forget_failures,
    open_breaker,
    record_failures,
    recovering_share,
    should_probe,
)
from refunds.gateways.contract import (
    Answer,
    Gateway,
    GatewayMisconfiguredError,
    GatewayRefund,
    GatewayUnavailableError,
    KeyTooOld,
    Misconfiguration,
    Misconfigured,
    Payment,
    RefundOrder,
    RefundPage,
    Retryable,
    Unknown,
)
from refunds.gateways.routing import Gateways
from refunds.tables.state import Control

T = TypeVar("T")

HOLD_SECONDS = 60.0
"""The delay of a message that was delivered while the queue was being stopped."""

DEFER_SECONDS = 900.0
"""The delay of a request whose gateway is down: SQS's maximum. It is also the longest that a
request waits after its gateway is back."""

RECOVERY_DEFER_SECONDS = 120.0
"""The delay of a request that is not yet in the share that a recovering gateway gets."""

OPEN_STATE_CACHE = timedelta(seconds=60)
"""How long an environment uses the breakers' states before it reads them again."""


@dataclass
class _Calls:
    """The calls to one gateway since the last batch."""

    answered: dict[str, bool] = field(default_factory=dict)
    """For each payment, whether its last call was answered."""
    misconfigured: Misconfiguration | None = None


class GatewayCalls:
    """For each gateway and payment, whether the last call was answered. Threads share it."""

    def __init__(self) -> None:
        self._calls: dict[str, _Calls] = {}
        self._lock = Lock()

    def note(
        self,
        gateway: str,
        transaction_id: str,
        *,
        answered: bool,
        misconfigured: Misconfiguration | None = None,
    ) -> None:
        with self._lock:
            calls = self._calls.setdefault(gateway, _Calls())
            calls.answered[transaction_id] = answered
            calls.misconfigured = misconfigured or calls.misconfigured

    def take(self) -> Mapping[str, _Calls]:
        """The calls since the last time, by gateway."""
        with self._lock:
            taken, self._calls = self._calls, {}
        return taken


class WatchedGateway:
    """A gateway whose calls are noted. Changes nothing else."""

    def __init__(self, gateway: Gateway, calls: GatewayCalls) -> None:
        self._gateway = gateway
        self._calls = calls

    @property
    def name(self) -> str:
        return self._gateway.name

    @property
    def account(self) -> str:
        return self._gateway.account

    @property
    def key_lifetime(self) -> timedelta:
        return self._gateway.key_lifetime

    @property
    def remembers_declines(self) -> bool:
        return self._gateway.remembers_declines

    @property
    def shows_refunds(self) -> bool:
        return self._gateway.shows_refunds

    @property
    def look_up_lag(self) -> timedelta:
        return self._gateway.look_up_lag

    @property
    def can_reverse(self) -> bool:
        return self._gateway.can_reverse

    @property
    def body_format(self) -> int:
        return self._gateway.body_format

    @property
    def timeout_seconds(self) -> float:
        return self._gateway.timeout_seconds

    def reference_for(self, refund_id: str) -> str:
        return self._gateway.reference_for(refund_id)

    def get_payment(self, transaction_id: str, deadline: Deadline) -> Payment | None:
        return self._noted(
            transaction_id, lambda: self._gateway.get_payment(transaction_id, deadline)
        )

    def create_refund(
        self, order: RefundOrder, deadline: Deadline, *, not_after: datetime
    ) -> Answer:
        answer = self._gateway.create_refund(order, deadline, not_after=not_after)
        if not isinstance(answer, KeyTooOld):  # Nothing was sent.
            self._calls.note(
                self.name,
                order.transaction_id,
                answered=not isinstance(answer, Retryable | Misconfigured | Unknown),
                misconfigured=answer.reason if isinstance(answer, Misconfigured) else None,
            )
        return answer

    def find_refunds(
        self, reference: str, transaction_id: str, deadline: Deadline
    ) -> tuple[GatewayRefund, ...]:
        return self._noted(
            transaction_id,
            lambda: self._gateway.find_refunds(reference, transaction_id, deadline),
        )

    def list_refunds(
        self,
        deadline: Deadline,
        *,
        transaction_id: str | None = None,
        created_from: datetime | None = None,
        cursor: str | None = None,
    ) -> RefundPage:
        return self._noted(
            transaction_id,
            lambda: self._gateway.list_refunds(
                deadline, transaction_id=transaction_id, created_from=created_from, cursor=cursor
            ),
        )

    def _noted(self, transaction_id: str | None, call: Callable[[], T]) -> T:
        try:
            result = call()
        except GatewayUnavailableError as exc:
            if transaction_id is not None:
                reason = exc.reason if isinstance(exc, GatewayMisconfiguredError) else None
                self._calls.note(self.name, transaction_id, answered=False, misconfigured=reason)
            raise
        if transaction_id is not None:
            self._calls.note(self.name, transaction_id, answered=True)
        return result


class Hold(NamedTuple):
    """A request must not be tried now, but in ``seconds``."""

    reason: str
    seconds: float
    send_again: bool
    """Send the message again with a delay, rather than put it back: a message that waits for a
    gateway must not use up its receives, nor stay in flight."""


class Breaker:
    """``by`` is who opens the breaker, for its history. ``announce`` informs the reconciler.
    ``random`` gives 0 ≤ x < 1."""

    def __init__(  # noqa: PLR0913 - its parts, each by keyword
        self,
        *,
        control: Control,
        gateways: Gateways,
        calls: GatewayCalls,
        clock: Clock,
        by: str,
        announce: Callable[[Intake], None],
        random: Callable[[], float],
    ) -> None:
        self._control = control
        self._gateways = gateways
        self._by_name = {gateway.name: gateway for gateway in gateways}
        self._calls = calls
        self._clock = clock
        self._by = by
        self._announce = announce
        self._random = random
        self._failing: set[str] = set()
        self._open_until: datetime | None = None
        self._states: dict[str, Intake] = {}
        self._states_until: datetime | None = None

    @property
    def _several(self) -> bool:
        return len(self._by_name) > 1

    def before_batch(self) -> None:
        """Read the breakers of several gateways, unless they were read within the last minute."""
        now = self._clock.now()
        if self._several and (self._states_until is None or now >= self._states_until):
            self._states = {name: self._control.intake(name) for name in self._by_name}
            self._states_until = now + OPEN_STATE_CACHE

    def hold(self, transaction_id: str) -> Hold | None:
        """Whether a request about the payment must wait; None when its gateway may be called."""
        if self._open_until is not None and self._clock.now() < self._open_until:
            return Hold("the gateway is down", HOLD_SECONDS, send_again=False)
        if not self._several:
            return None
        name = self._gateways.for_new(transaction_id).name
        state = self._states.get(name, Intake())
        if not state.flows:
            # Spread over a third of the time, so that requests that were deferred together do not
            # return together.
            seconds = DEFER_SECONDS * (1 - self._random() / 3)
            return Hold(f"{name} is down", seconds, send_again=True)
        if self._random() >= recovering_share(state):
            seconds = RECOVERY_DEFER_SECONDS * (1 - self._random() / 2)
            return Hold(f"{name} recovers", seconds, send_again=True)
        return None

    def after_batch(self, deadline: Deadline) -> Intake | None:
        """Count how the batch's calls went. Returns the state of a breaker that this has opened."""
        result: Intake | None = None
        for name, calls in self._calls.take().items():
            result = self._after_calls(name, calls, deadline) or result
        return result

    def _after_calls(self, name: str, calls: _Calls, deadline: Deadline) -> Intake | None:
        failed = [payment for payment, answered in calls.answered.items() if not answered]
        item = name if self._several else None
        if len(failed) < len(calls.answered):
            self._forget_failures(name, item)
            return None
        now = self._clock.now()
        before = self._control.intake(item)
        trouble: str | None = None
        if should_probe(before, record_failures(before, failed, now), now):
            trouble = self._trouble(name, calls, deadline)

        def count(intake: Intake) -> Intake:
            more = record_failures(intake, failed, now)
            if trouble is not None:
                return open_breaker(more, self._by, trouble, now)
            if len(more.failing) >= OPEN_AFTER_FAILED_PAYMENTS:
                why = f"{name}: calls for {OPEN_AFTER_FAILED_PAYMENTS} payments failed"
                return open_breaker(more, self._by, why, now)
            return more

        before, after = self._control.change_intake(count, item)
        if after.failing:
            self._failing.add(name)
        if after.breaker is not BreakerState.OPEN:
            return None
        if self._several:
            self._states[name] = after
        else:
            self._open_until = now + OPEN_STATE_CACHE
        if before.breaker is BreakerState.OPEN:
            return None
        self._announce(after)
        return after

    def _trouble(self, name: str, calls: _Calls, deadline: Deadline) -> str | None:
        # A gateway that refuses us may still answer the probe: a key of the wrong mode can list.
        if calls.misconfigured is not None:
            return f"{name}: misconfigured: {calls.misconfigured.value}"
        return gateway_trouble([self._by_name[name]], self._clock, deadline)

    def _forget_failures(self, name: str, item: str | None) -> None:
        # Only if this environment has recorded failures: otherwise every successful batch would
        # cost a read.
        if name in self._failing:
            self._control.change_intake(forget_failures, item)
            self._failing.discard(name)
