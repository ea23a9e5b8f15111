"""What the unit tests are made of: small builders, a clock that stands still, a fake gateway and
the tables, queues and buckets of one stack in moto."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import count
from typing import TYPE_CHECKING, Any, Literal

from refunds.audit.failures_bucket import FailureStore
from refunds.audit.outcome_events import OutcomeBus
from refunds.domain.clock import Deadline, rfc3339
from refunds.domain.refund import Item, Refund, Status
from refunds.domain.request import RefundRequest
from refunds.gateways.contract import (
    Accepted,
    Answer,
    GatewayRefund,
    GatewayStatus,
    GatewayUnavailableError,
    Payment,
    PaymentStatus,
    RefundOrder,
    RefundPage,
)
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
from refunds.tables.wire import item_from_wire

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_events import EventBridgeClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient

REGION: Literal["eu-central-1"] = "eu-central-1"
NOW = datetime(2026, 11, 23, 7, 10, tzinfo=UTC)

VISA = "4111111111111111"
EMAIL = "jane.doe.1987@customers.example.com"
SECRET = "sk_live_planted_in_a_test"  # noqa: S105 - no secret: planted to see that it stays in


class _LeftOut:
    def __repr__(self) -> str:
        return "LEFT_OUT"  # the same in every process: pytest-xdist compares the ids of tests


LEFT_OUT: Any = _LeftOut()
"""Given to a factory for a field: the field is not there."""


class FakeClock:
    """Stands still until told."""

    def __init__(self, now: datetime = NOW) -> None:
        self._now = now
        self._seconds = 1000.0

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._seconds

    def set(self, now: datetime) -> None:
        """Put the wall clock only, as a machine's may be."""
        self._now = now

    def advance(self, **span: float) -> None:
        """``advance(hours=3)``, as ``timedelta`` has it."""
        delta = timedelta(**span)
        self._now += delta
        self._seconds += delta.total_seconds()


class InlinePool:
    """One after the other, in this thread."""

    def map(self, fn: Callable[[Any], Any], *iterables: Iterable[Any]) -> Iterable[Any]:
        return map(fn, *iterables)


def body(**changes: Any) -> dict[str, Any]:
    """A message's fields, all of the required ones and an amount."""
    fields = {
        "refund_id": "refund-1",
        "transaction_id": "payment-1",
        "user_id": "user-1",
        "amount_minor": 2500,
        "currency": "USD",
        "reason": "requested_by_customer",
        "requested_by": "agent:anna",
    } | changes
    return {name: value for name, value in fields.items() if value is not LEFT_OUT}


def request(**changes: Any) -> RefundRequest:
    return RefundRequest.model_validate(body(**changes))


def refund(**changes: Any) -> Refund:
    """A stored refund: claimed, its attempt still under its lease, unless told otherwise."""
    fields: dict[str, Any] = {
        **body(),
        "status": Status.PROCESSING,
        "processed_by": "ProcessRefund:7",
        "gateway": "flair",
        "created_at": rfc3339(NOW),
        "updated_at": rfc3339(NOW),
        "version": 1,
        "fingerprint": request().fingerprint(),
        "attempt_token": "token-of-another",
        "lease_until": rfc3339(NOW + timedelta(seconds=70)),
        "key_used_at": rfc3339(NOW),
    } | changes
    return Refund(**{name: value for name, value in fields.items() if value is not LEFT_OUT})


def payment(**changes: Any) -> Payment:
    fields: dict[str, Any] = {
        "transaction_id": "payment-1",
        "status": PaymentStatus.CAPTURED,
        "currency": "USD",
        "captured_minor": 10_000,
        "refunded_minor": 0,
    } | changes
    return Payment(**fields)


def shown(**changes: Any) -> GatewayRefund:
    """A refund as the gateway shows it, in agreement with ``body()``."""
    fields: dict[str, Any] = {
        "gateway_refund_id": "gw-1",
        "transaction_id": "payment-1",
        "reference": "refund-1",
        "amount_minor": 2500,
        "currency": "USD",
        "status": GatewayStatus.SUCCEEDED,
    } | changes
    return GatewayRefund(**fields)


class FakeGateway:
    """A gateway in memory. ``answers`` are given, in order, in place of its own to the next calls
    that create a refund; an answer that is a function is called with the order."""

    name = "flair"
    key_lifetime = timedelta(hours=24)
    finds_by_reference = True
    is_asynchronous = True
    can_reverse = True
    requests_per_second = None
    timeout_seconds = 15.0

    def __init__(self) -> None:
        self.payments: dict[str, Payment] = {"payment-1": payment()}
        self.refunds: list[GatewayRefund] = []
        self.answers: list[Answer | Callable[[RefundOrder], Answer]] = []
        self.orders: list[RefundOrder] = []
        self.not_after: datetime | None = None
        self.calls: list[str] = []
        self.down = False
        self.on_call: Callable[[str], None] = lambda name: None
        self.page_size = 100

    def _called(self, name: str) -> None:
        self.calls.append(name)
        self.on_call(name)
        if self.down:
            raise GatewayUnavailableError("HTTP 503", 7.0)

    def get_payment(self, transaction_id: str, deadline: Deadline) -> Payment | None:
        self._called("get_payment")
        return self.payments.get(transaction_id)

    def create_refund(
        self, order: RefundOrder, deadline: Deadline, *, not_after: datetime
    ) -> Answer:
        self.calls.append("create_refund")
        self.on_call("create_refund")
        self.orders.append(order)
        self.not_after = not_after
        if self.answers:
            answer = self.answers.pop(0)
            return answer(order) if callable(answer) else answer
        return Accepted(self.move(order))

    def move(
        self, order: RefundOrder, status: GatewayStatus = GatewayStatus.SUCCEEDED
    ) -> GatewayRefund:
        """Move the money: once for a reference, as the idempotency key has it."""
        for there in self.refunds:
            if there.reference == order.refund_id:
                return there
        made = GatewayRefund(
            gateway_refund_id=f"gw-{len(self.refunds) + 1}",
            transaction_id=order.transaction_id,
            reference=order.refund_id,
            amount_minor=order.amount_minor,
            currency=order.currency,
            status=status,
        )
        self.refunds.append(made)
        return made

    def find_refunds(
        self, refund_id: str, transaction_id: str, deadline: Deadline
    ) -> tuple[GatewayRefund, ...]:
        self._called("find_refunds")
        return tuple(each for each in self.refunds if each.reference == refund_id)

    def list_refunds(
        self,
        deadline: Deadline,
        *,
        transaction_id: str | None = None,
        created_from: datetime | None = None,
        cursor: str | None = None,
    ) -> RefundPage:
        self._called("list_refunds")
        listed = [each for each in self.refunds if transaction_id in (None, each.transaction_id)]
        start = int(cursor or 0)
        end = start + self.page_size
        return RefundPage(tuple(listed[start:end]), str(end) if end < len(listed) else None)


_stacks = count(1)


@dataclass(frozen=True)
class Clients:
    dynamodb: DynamoDBClient
    sqs: SQSClient
    s3: S3Client
    events: EventBridgeClient


class Stack:
    """One stack's tables in moto, empty, under names of its own; the rest is there once asked for.

    Everything on the bus with source ``refunds`` goes to the events queue.
    """

    def __init__(self, clients: Clients) -> None:
        self.clients = clients
        self._number = next(_stacks)
        self.refunds_table = f"Refunds-{self._number}"
        self.ledger_table = f"Ledger-{self._number}"
        self.audit_table = f"PaymentAuditTrail-{self._number}"
        self._create_tables()

    @classmethod
    def create(cls, clients: Clients) -> Stack:
        return cls(clients)

    @cached_property
    def queue_url(self) -> str:
        return self._new_queue("refund-requests")

    @cached_property
    def dead_letter_queue_url(self) -> str:
        return self._new_queue("dead-letters")

    @cached_property
    def events_queue_url(self) -> str:
        return self._new_queue("events-seen")

    @cached_property
    def failures_bucket(self) -> str:
        return self._new_bucket("failures")

    @cached_property
    def backup_bucket(self) -> str:
        return self._new_bucket("backups")

    @cached_property
    def bus_name(self) -> str:
        name, events = f"refunds-{self._number}", self.clients.events
        events.create_event_bus(Name=name)
        events.put_rule(Name="all", EventBusName=name, EventPattern='{"source": ["refunds"]}')
        arn = self.clients.sqs.get_queue_attributes(
            QueueUrl=self.events_queue_url, AttributeNames=["QueueArn"]
        )["Attributes"]["QueueArn"]
        events.put_targets(Rule="all", EventBusName=name, Targets=[{"Id": "1", "Arn": arn}])
        return name

    def _new_queue(self, name: str) -> str:
        return self.clients.sqs.create_queue(QueueName=f"{name}-{self._number}")["QueueUrl"]

    def _new_bucket(self, name: str) -> str:
        bucket = f"{name}-{self._number}"
        self.clients.s3.create_bucket(
            Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION}
        )
        return bucket

    def _create_tables(self) -> None:
        keys: dict[str, tuple[str, ...]] = {
            self.refunds_table: ("refund_id",),
            self.ledger_table: ("transaction_id",),
            self.audit_table: ("transaction_id", "entry_id"),
        }
        for table, names in keys.items():
            more: dict[str, Any] = {}
            attributes = [*names]
            if table == self.refunds_table:
                attributes += ["open_shard", "check_at"]
                more["GlobalSecondaryIndexes"] = [
                    {
                        "IndexName": "open-refunds",
                        "KeySchema": _key_schema("open_shard", "check_at"),
                        "Projection": {"ProjectionType": "KEYS_ONLY"},
                    }
                ]
            self.clients.dynamodb.create_table(
                TableName=table,
                KeySchema=_key_schema(*names),
                AttributeDefinitions=[
                    {"AttributeName": name, "AttributeType": "S"} for name in attributes
                ],
                BillingMode="PAY_PER_REQUEST",
                **more,
            )

    def items(self, table: str) -> list[Item]:
        found = self.clients.dynamodb.scan(TableName=table, ConsistentRead=True)["Items"]
        return [item_from_wire(item) for item in found]

    def messages(self, queue_url: str) -> list[dict[str, Any]]:
        """What can be received now, taken out of the queue."""
        found: list[Any] = []
        while got := self.clients.sqs.receive_message(
            QueueUrl=queue_url, MaxNumberOfMessages=10, MessageAttributeNames=["All"]
        ).get("Messages"):
            found += got
        return found

    def dead_letters(self) -> list[dict[str, Any]]:
        return self.messages(self.dead_letter_queue_url)

    def events(self) -> list[dict[str, Any]]:
        """What has come out of the bus: ``detail-type`` and ``detail`` of each."""
        return [json.loads(message["Body"]) for message in self.messages(self.events_queue_url)]

    def kept(self, bucket: str) -> dict[str, Any]:
        """Key and JSON content of all that was kept in S3."""
        s3 = self.clients.s3
        listed = s3.list_objects_v2(Bucket=bucket).get("Contents", [])
        return {
            each["Key"]: json.loads(s3.get_object(Bucket=bucket, Key=each["Key"])["Body"].read())
            for each in listed
        }

    def send(self, content: Any) -> dict[str, Any]:
        """Put a message into the refund queue and take it out as Lambda would: the record of an
        SQS event. ``content`` is text as it stands, or what becomes JSON."""
        text = content if isinstance(content, str) else json.dumps(content)
        self.clients.sqs.send_message(QueueUrl=self.queue_url, MessageBody=text)
        return self.receive()

    def receive(self) -> dict[str, Any]:
        got: Any = self.clients.sqs.receive_message(
            QueueUrl=self.queue_url,
            MessageSystemAttributeNames=["All"],
            VisibilityTimeout=360,
        )["Messages"]
        (message,) = got
        return {
            "messageId": message["MessageId"],
            "receiptHandle": message["ReceiptHandle"],
            "body": message["Body"],
            "attributes": message["Attributes"],
            "messageAttributes": {},
            "eventSource": "aws:sqs",
            "eventSourceARN": f"arn:aws:sqs:{REGION}:123456789012:refund-requests",
            "awsRegion": REGION,
        }


def _key_schema(*names: str) -> Any:
    kinds = ("HASH", "RANGE")
    return [
        {"AttributeName": name, "KeyType": kind} for name, kind in zip(names, kinds, strict=False)
    ]


@dataclass
class World:
    """All of src/refunds put together over a stack in moto, a fake gateway and a still clock."""

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
        return Reconciler(
            refunds=self.refunds,
            settler=self.settler,
            gateways=self.gateways,
            control=self.control,
            clock=self.clock,
            pool=InlinePool(),
            archiver=self.archiver,
        )

    def deadline(self, seconds: float = 59.0) -> Deadline:
        """What is left of an invocation."""
        return Deadline.after(self.clock, seconds)

    def stored(self, refund_id: str = "refund-1") -> Refund:
        found = self.refunds.get(refund_id)
        assert found is not None
        return found

    def put(self, there: Refund, *, held: int | None = None) -> Refund:
        """A refund that is there already, with its reservation (its amount, unless told)."""
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
        """What a refund holds: 0 once released, None when it never reserved."""
        found = self.ledger.get(transaction_id)
        return None if found is None else found.reservations.get(refund_id)
