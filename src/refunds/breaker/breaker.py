"""ProcessRefund's side of the circuit breaker: which calls to the gateway get through, and when
too few do.

There is one queue, so there is one breaker: with several gateways it is for when none is there.
Nothing is read or written while all is well. A batch of which no call got through writes one item;
the batch that finds the gateway down opens the breaker and says so on the bus, for the reconciler
to stop the queue (``queue_mapping.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from threading import Lock
from typing import TypeVar

from refunds.domain.clock import Clock, Deadline
from refunds.domain.intake import (
    TOO_MANY,
    BreakerState,
    Intake,
    counted,
    doubtful,
    got_through,
    opened,
)
from refunds.gateways.contract import (
    Answer,
    Gateway,
    GatewayRefund,
    GatewayUnavailableError,
    KeyTooOld,
    Misconfigured,
    Payment,
    RefundOrder,
    RefundPage,
    Retryable,
    Unknown,
)
from refunds.tables.state import Control

T = TypeVar("T")

PROBE_TRIES = 2
MIN_PROBE_SECONDS = 2.0

HOLD_SECONDS = 60.0
"""How long a message that was already on its way is put off: by then the queue stands still, and
it waits there untouched."""

BELIEVED = timedelta(seconds=60)
"""How long this environment takes the breaker for open without looking again."""


class GatewayCalls:
    """Of each payment, whether the last call for it was answered. Threads share it."""

    def __init__(self) -> None:
        self._answered: dict[str, bool] = {}
        self._lock = Lock()

    def note(self, transaction_id: str, *, answered: bool) -> None:
        with self._lock:
            self._answered[transaction_id] = answered

    def take(self) -> dict[str, bool]:
        """What was noted since the last time."""
        with self._lock:
            taken, self._answered = self._answered, {}
        return taken


class WatchedGateway:
    """A gateway whose calls are noted; it changes nothing."""

    def __init__(self, gateway: Gateway, calls: GatewayCalls) -> None:
        self._gateway = gateway
        self._calls = calls

    @property
    def name(self) -> str:
        return self._gateway.name

    @property
    def key_lifetime(self) -> timedelta:
        return self._gateway.key_lifetime

    @property
    def account(self) -> str:
        return self._gateway.account

    @property
    def remembers_declines(self) -> bool:
        return self._gateway.remembers_declines

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
        if not isinstance(answer, KeyTooOld):  # then nothing was sent
            failed = isinstance(answer, Retryable | Misconfigured | Unknown)
            self._calls.note(order.transaction_id, answered=not failed)
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
        except GatewayUnavailableError:
            if transaction_id is not None:
                self._calls.note(transaction_id, answered=False)
            raise
        if transaction_id is not None:
            self._calls.note(transaction_id, answered=True)
        return result


def gateway_trouble(gateways: Iterable[Gateway], clock: Clock, deadline: Deadline) -> str | None:
    """Why no gateway is of any use now; None as soon as one answers.

    Two cheap questions to each at most: which refunds it will have made since now (none).
    """
    trouble = "no time to ask"
    for gateway in gateways:
        for _ in range(PROBE_TRIES):
            within = deadline.within(gateway.timeout_seconds)
            if within.left_seconds() < min(MIN_PROBE_SECONDS, gateway.timeout_seconds / 2):
                return trouble
            try:
                gateway.list_refunds(within, created_from=clock.now())
            except GatewayUnavailableError as exc:
                trouble = f"{gateway.name}: {exc}"
            else:
                return None
    return trouble


class Breaker:
    """``by`` is who opens it, for its history; ``announce`` tells the reconciler."""

    def __init__(
        self,
        *,
        control: Control,
        gateways: Iterable[Gateway],
        calls: GatewayCalls,
        clock: Clock,
        by: str,
        announce: Callable[[Intake], None],
    ) -> None:
        self._control = control
        self._gateways = tuple(gateways)
        self._calls = calls
        self._clock = clock
        self._by = by
        self._announce = announce
        self._failing = False
        self._open_until: datetime | None = None

    def hold_seconds(self) -> float | None:
        """How long a message should be put off untried; None when the gateway may be called."""
        if self._open_until is not None and self._clock.now() < self._open_until:
            return HOLD_SECONDS
        return None

    def after_batch(self, deadline: Deadline) -> Intake | None:
        """Count what the batch's calls came to. Returns the state when this has opened the
        breaker."""
        answered = self._calls.take()
        failed = [payment for payment, through in answered.items() if not through]
        if len(failed) < len(answered):
            self._forget_failures()
            return None
        if not failed:
            return None
        now = self._clock.now()
        before = self._control.intake()
        trouble = None
        if doubtful(before, counted(before, failed, now), now):
            trouble = gateway_trouble(self._gateways, self._clock, deadline)

        def count(intake: Intake) -> Intake:
            more = counted(intake, failed, now)
            if trouble is not None:
                return opened(more, self._by, trouble, now)
            if len(more.failing) >= TOO_MANY:
                return opened(more, self._by, f"refunds of {TOO_MANY} payments failed", now)
            return more

        before, after = self._control.change_intake(count)
        self._failing = bool(after.failing)
        if after.breaker is not BreakerState.OPEN:
            return None
        self._open_until = now + BELIEVED
        if before.breaker is BreakerState.OPEN:
            return None
        self._announce(after)
        return after

    def _forget_failures(self) -> None:
        # Only where failures are known of: else each good batch would cost a read.
        if self._failing:
            self._control.change_intake(got_through)
            self._failing = False
