"""Every part of src/refunds over one stack in moto."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from itertools import count
from typing import Any

from tests.support.builders import FakeClock, InlinePool
from tests.support.fake_gateway import FakeGateway
from tests.support.moto_stack import Stack

from refunds.audit.failures_bucket import FailureStore
from refunds.audit.outcome_events import OutcomeBus
from refunds.domain.clock import Deadline
from refunds.domain.limits import NO_LIMITS, Limits
from refunds.domain.refund import Refund
from refunds.environment import TableNames
from refunds.gateways.contract import Gateway
from refunds.gateways.routing import Gateways, Route
from refunds.processing.dead_letters import DeadLetterArchiver
from refunds.processing.paid_refunds import PaidRefunds
from refunds.processing.queue import RefundQueue
from refunds.processing.reconciler import Reconciler
from refunds.tables.state import Control
from refunds.wiring.protocol import Protocol, build_protocol
from refunds.wiring.reconcile_refunds import build_reconciler
from refunds.wiring.surroundings import Surroundings


class Unreported:
    """Metrics and a log that nobody reads."""

    def add_metric(self, name: str, unit: str, value: float) -> None: ...

    def flush_metrics(self) -> None: ...

    def info(self, msg: str, **fields: Any) -> None: ...

    warning = info
    error = info


@dataclass
class World:
    """Every part of src/refunds over a stack in moto, a fake gateway and a fake clock."""

    stack: Stack
    clock: FakeClock = field(default_factory=FakeClock)
    gateway: FakeGateway = field(default_factory=FakeGateway)

    def __post_init__(self) -> None:
        self.control = Control(self.stack.clients.dynamodb, self.stack.ledger_table)
        # As the tables of a stack that is long in use; a new one looks every refund up first.
        self.control.set_look_up_first(self.clock.now() - timedelta(days=1))
        self._protocol = protocol = self.protocol(self.gateway)
        self.refunds = protocol.refunds
        self.ledger = protocol.ledger
        self.audit = protocol.audit
        self.gateways = protocol.gateways
        self.reserver = protocol.reserver
        self.evidence = protocol.evidence
        self.settler = protocol.settler
        self.processor = protocol.processor

    def protocol(
        self,
        *gateways: Gateway,
        routes: Sequence[Route] = (),
        processed_by: str = "ProcessRefund:7",
        tokens: str = "token",
        not_ready_for: timedelta = timedelta(0),
        limits: Limits = NO_LIMITS,
    ) -> Protocol:
        """The refund protocol over this world's tables, as a function's wiring builds it."""
        stack, numbers = self.stack, count(1)
        return build_protocol(
            TableNames(stack.refunds_table, stack.ledger_table, stack.audit_table),
            Gateways(gateways, routes),
            self.surroundings(new_token=lambda: f"{tokens}-{next(numbers)}"),
            processed_by=processed_by,
            recheck_after=timedelta(minutes=5),
            not_ready_for=not_ready_for,
            limits=limits,
        )

    def surroundings(self, *, new_token: Callable[[], str]) -> Surroundings:
        clients: Any = self.stack.clients
        return Surroundings(
            clients=clients,
            clock=self.clock,
            pool=InlinePool(),
            new_token=new_token,
            random=lambda: 0.5,
            open_gateways=lambda settings: [self.gateway],
            metrics=Unreported(),
            log=Unreported(),
        )

    @cached_property
    def failures(self) -> FailureStore:
        return FailureStore(self.stack.clients.s3, self.stack.failures_bucket, self.clock)

    @cached_property
    def bus(self) -> OutcomeBus:
        return OutcomeBus(self.stack.clients.events, self.stack.bus_name)

    @cached_property
    def queue(self) -> RefundQueue:
        return RefundQueue(
            client=self.stack.clients.sqs,
            queue_url=self.stack.queue_url,
            dead_letter_queue_url=self.stack.dead_letter_queue_url,
            bus=self.bus,
            processor=self.processor,
            first_retry_seconds=2,
            random=lambda: 0.5,
        )

    @cached_property
    def paid(self) -> PaidRefunds:
        return PaidRefunds(
            refunds=self.refunds,
            recorder=self.settler.recorder,
            evidence=self.evidence,
            clock=self.clock,
        )

    @cached_property
    def archiver(self) -> DeadLetterArchiver:
        return DeadLetterArchiver(
            client=self.stack.clients.sqs,
            queue_url=self.stack.dead_letter_queue_url,
            refunds=self.refunds,
            settler=self.settler,
            processor=self.processor,
            failures=self.failures,
            clock=self.clock,
        )

    @cached_property
    def reconciler(self) -> Reconciler:
        return build_reconciler(self._protocol, self.archiver, clock=self.clock, pool=InlinePool())

    def deadline(self, seconds: float = 59.0) -> Deadline:
        """The deadline of an invocation with this many seconds left."""
        return Deadline.after(self.clock, seconds)

    def stored(self, refund_id: str = "refund-1") -> Refund:
        found = self.refunds.get(refund_id)
        assert found is not None
        return found

    def put(self, there: Refund, *, held: int | None = None) -> Refund:
        """Store a refund and reserve its amount, or ``held``."""
        assert self.refunds.put_new(there) is None
        amount = there.amount_minor if held is None else held
        if amount and not self.ledger.reserve(there.transaction_id, there.refund_id, amount):
            self.open_ledger(there.transaction_id, there.refund_id, amount)
        return there

    def open_ledger(self, transaction_id: str, refund_id: str, amount_minor: int) -> None:
        assert self.ledger.open(
            transaction_id,
            captured_minor=10_000,
            remaining_minor=10_000,
            currency="USD",
            refund_id=refund_id,
            amount_minor=amount_minor,
        )

    def remaining(self, transaction_id: str = "payment-1") -> int | None:
        found = self.ledger.get(transaction_id)
        return None if found is None else found.remaining

    def held(self, refund_id: str = "refund-1", transaction_id: str = "payment-1") -> int | None:
        """What the ledger reserves for a refund: 0 once released, None if it never reserved."""
        found = self.ledger.get(transaction_id)
        return None if found is None else found.reservations.get(refund_id)
