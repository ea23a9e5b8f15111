"""Every part of src/refunds over one stack in moto."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from itertools import count

from tests.support.builders import FakeClock, InlinePool
from tests.support.fake_gateway import FakeGateway
from tests.support.moto_stack import Stack

from refunds.audit.failures_bucket import FailureStore
from refunds.audit.outcome_events import OutcomeBus
from refunds.domain.clock import Deadline
from refunds.domain.refund import Refund
from refunds.gateways.routing import Gateways
from refunds.processing.dead_letters import DeadLetterArchiver
from refunds.processing.processor import Processor
from refunds.processing.queue import RefundQueue
from refunds.processing.reconciler import Reconciler
from refunds.processing.reserver import Reserver
from refunds.processing.settler import Settler
from refunds.tables.audit_trail import AuditTable
from refunds.tables.ledger import LedgerTable
from refunds.tables.refunds import RefundsTable
from refunds.tables.state import Control
from refunds.wiring.protocol import Protocol
from refunds.wiring.reconcile_refunds import build_reconciler


@dataclass
class World:
    """Every part of src/refunds over a stack in moto, a fake gateway and a fake clock."""

    stack: Stack
    clock: FakeClock = field(default_factory=FakeClock)
    gateway: FakeGateway = field(default_factory=FakeGateway)

    def __post_init__(self) -> None:
        clients, stack = self.stack.clients, self.stack
        tokens = count(1)
        self.refunds = RefundsTable(clients.dynamodb, stack.refunds_table)
        self.ledger = LedgerTable(clients.dynamodb, stack.ledger_table)
        self.audit = AuditTable(clients.dynamodb, stack.audit_table)
        self.control = Control(clients.dynamodb, stack.ledger_table)
        self.gateways = Gateways([self.gateway])
        self.reserver = Reserver(self.ledger, self.gateways)
        self.settler = Settler(
            refunds=self.refunds,
            ledger=self.ledger,
            reserver=self.reserver,
            gateways=self.gateways,
            clock=self.clock,
            new_token=lambda: f"token-{next(tokens)}",
            processed_by="ProcessRefund:7",
            recheck_after=timedelta(minutes=5),
        )
        self.processor = Processor(
            refunds=self.refunds,
            ledger=self.ledger,
            audit=self.audit,
            reserver=self.reserver,
            settler=self.settler,
            gateways=self.gateways,
            clock=self.clock,
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
    def archiver(self) -> DeadLetterArchiver:
        return DeadLetterArchiver(
            client=self.stack.clients.sqs,
            queue_url=self.stack.dead_letter_queue_url,
            refunds=self.refunds,
            settler=self.settler,
            failures=self.failures,
            clock=self.clock,
        )

    @cached_property
    def reconciler(self) -> Reconciler:
        return build_reconciler(
            Protocol(
                refunds=self.refunds,
                ledger=self.ledger,
                audit=self.audit,
                control=self.control,
                gateways=self.gateways,
                reserver=self.reserver,
                settler=self.settler,
            ),
            self.archiver,
            clock=self.clock,
            pool=InlinePool(),
        )

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
