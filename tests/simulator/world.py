"""One simulated world: the services, the functions, the gateway and the checker, wired together."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from tests.simulator.at_rest import AtRest
from tests.simulator.aws import S3, EventBridge, Secret, Wire
from tests.simulator.dynamodb import DynamoDB, Index, Table
from tests.simulator.functions import GATEWAYS, Environment, Functions, Services
from tests.simulator.gateway import Flair
from tests.simulator.gateway_records import Moved, Paid
from tests.simulator.invariants import Checker
from tests.simulator.kernel import Kernel
from tests.simulator.ledger_rules import LedgerChecker
from tests.simulator.limit_rules import LimitChecker
from tests.simulator.network import Network
from tests.simulator.rules import UNFINISHED
from tests.simulator.sources import QueueSource, StreamSource
from tests.simulator.sqs import DAY, SQS, Message, Queue
from tests.simulator.tap import Tap
from tests.simulator.watch import Watch
from tests.support.builders import person

from refunds.audit.outcome_events import INTAKE_EVENTS
from refunds.domain.clock import Deadline, from_rfc3339, rfc3339
from refunds.domain.limits import NO_LIMITS, Limits
from refunds.domain.refund import Status
from refunds.processing.deferral import RESENT
from refunds.processing.review import Reasons, Reviewer
from refunds.settings import GatewaySettings
from refunds.tables.state import LOOK_UP_FIRST
from refunds.tables.wire import item_to_wire

BEGINNING = datetime(2020, 1, 1, tzinfo=UTC)

SCHEDULE_SECONDS = 300.0
"""Of the reconciler, by default."""

IN_FLIGHT_SECONDS = 2 * 3600.0
"""A person decides only when nothing can be under way any more."""


class World:
    """``max_receives`` … ``page_size`` are what differs between deployments and gateways.

    ``new_tables``: those of a stack that was just deployed.
    """

    def __init__(  # noqa: PLR0913 - its parts, each by keyword
        self,
        seed: int,
        *,
        trace: bool = False,
        attempts: int = 3,
        max_receives: int = 100,
        batch_size: int = 10,
        concurrency: int = 3,
        lanes: int = 2,
        enforces_balance: bool = True,
        page_size: int = 100,
        new_tables: bool = False,
        gateways: GatewaySettings = GATEWAYS,
        limits: Limits = NO_LIMITS,
        kernel: Kernel | None = None,
    ) -> None:
        self.kernel = kernel = kernel or Kernel(seed, trace=trace)
        wire = Wire(kernel, attempts)
        self.refunds = Table(
            kernel, "Refunds", ("refund_id",), Index("open-refunds", "open_shard", "check_at")
        )
        self.ledger = Table(kernel, "Ledger", ("transaction_id",))
        self.audit = Table(kernel, "Audit", ("transaction_id", "entry_id"))
        if not new_tables:
            # As a stack that is long in use: its tables know every refund that a message may be of.
            self.ledger.items[(LOOK_UP_FIRST,)] = item_to_wire(
                {"transaction_id": LOOK_UP_FIRST, "look_up_first_until": rfc3339(BEGINNING)}
            )
        self.dlq = Queue("dlq", visibility_seconds=30, retention_seconds=14 * DAY)
        self.queue = Queue(
            "queue",
            visibility_seconds=360,
            retention_seconds=7 * DAY,
            max_receives=max_receives,
            dead_letters=self.dlq,
        )
        self.sqs = SQS(kernel, wire, [self.queue, self.dlq])
        self.bus = EventBridge(kernel, wire)
        self.s3 = S3(wire)
        self.secret = Secret()
        self.flair = Flair(kernel, self.secret, enforces_balance, page_size)
        self.network = Network(kernel, self.flair)
        self.services = Services(
            kernel=kernel,
            wire=wire,
            dynamodb=DynamoDB(kernel, wire, [self.refunds, self.ledger, self.audit]),
            sqs=self.sqs,
            bus=self.bus,
            s3=self.s3,
            secret=self.secret,
            network=self.network,
            gateways=gateways,
            limits=limits,
        )
        self.functions = Functions(self.services)
        self.source = QueueSource(
            kernel,
            self.sqs,
            self.queue,
            self.functions,
            batch_size=batch_size,
            concurrency=concurrency,
        )
        self.tap = self.services.tap = Tap(kernel, wire, self.source, concurrency)
        # At least once, and in no time; or it is lost, and the schedule has to do.
        self.bus.on_gateway_down.append(
            lambda: kernel.after(kernel.random.random(), self._stop_requests)
        )
        self.stream = StreamSource(kernel, self.functions, lanes=lanes)
        self.refunds.on_write.append(self.stream.write)
        self.checker = Checker(
            kernel=kernel,
            refunds=self.refunds,
            ledger=self.ledger,
            audit=self.audit,
            sqs=self.sqs,
            queue=self.queue,
            dlq=self.dlq,
            flair=self.flair,
            network=self.network,
            bus=self.bus,
            s3=self.s3,
            stream=self.stream,
        )
        LedgerChecker(self.checker)
        self.limits = LimitChecker(
            kernel=kernel,
            limits=limits,
            refunds=self.refunds,
            ledger=self.ledger,
            flair=self.flair,
        )
        self.watch = Watch(self)

    # --- what people and other systems do -------------------------------------------------------

    def pay(self, transaction_id: str, captured: int, currency: str = "USD", **more: Any) -> Paid:
        paid = Paid(transaction_id, currency, captured, **more)
        self.flair.payments[transaction_id] = paid
        return paid

    def send(self, body: dict[str, Any] | str) -> Message:
        """A producer sends a message."""
        text = body if isinstance(body, str) else json.dumps(body)
        message = self.sqs.enqueue(self.queue, text)
        self.kernel.counts["messages"] += 1
        self.kernel.log("send", f"{message.id} {text[:120]}")
        return message

    def empty(self, *tables: Table) -> None:
        """The tables lose every item, as those of a new stack or of a restore from long ago. What
        the checker knew of them goes, too; the gateway and the trail forget nothing."""
        for table in tables:
            self.services.wire.generations[table.name] += 1
            self.checker.lose(table)
            listeners, table.on_write = table.on_write, []
            for key in list(table.items):
                table.write(key, None)
            table.on_write = listeners
        if self.audit in tables and self.stream.drained():
            self.stream.forget()
        self.checker.forget()

    def redeploy(self, *, gradual_seconds: float = 0.0, **changes: Any) -> None:
        """The functions get other settings of their gateway. Environments that run go on; for
        ``gradual_seconds`` those of the last generation are still invoked, and started."""
        services = self.services
        services.former = services.gateways
        services.gateways = services.gateways._replace(**changes)
        services.generation += 1
        services.gradual_until = self.kernel.now + gradual_seconds

    def resend(self, message: Message) -> Message:
        """An operator sends an archived message again, with the mark that says when it was sent."""
        sent_at = rfc3339(datetime.fromtimestamp(message.sent_at, UTC))
        mark = {"DataType": "String", "StringValue": sent_at}
        return self.sqs.enqueue(self.queue, message.body, {RESENT: mark})

    def reconcile(self) -> None:
        """The schedule fires."""
        self.functions.invoke(
            "reconcile",
            lambda env, deadline: env.reconcile_refunds.handle({}, deadline),
            lambda result: None,
            lambda: None,
        )

    def _stop_requests(self) -> None:
        if self.kernel.fault("gateway-down event lost"):
            return
        event = {"detail-type": INTAKE_EVENTS[0]}
        self.functions.invoke(
            "reconcile",
            lambda env, deadline: env.reconcile_refunds.handle(event, deadline),
            lambda result: None,
            lambda: None,
        )

    def redrive(self) -> None:
        """An operator moves what is in the DLQ back, but for what was refused."""
        for message in list(self.dlq.messages.values()):
            if "error_code" not in message.attributes and message.visible_at <= self.kernel.now:
                self.kernel.log("redrive", f"{message.id} to queue, by an operator")
                self.kernel.counts["messages redriven"] += 1
                self.sqs.move(message, self.queue)

    def review(self) -> None:
        """A person decides on what is in review, by the gateway's own ledger."""
        for (refund_id,), item in list(self.refunds.items.items()):
            if item["status"]["S"] == "IN_REVIEW":
                self.functions.invoke(
                    "operator",
                    lambda env, deadline, refund_id=refund_id: self._review(  # type: ignore[misc]
                        env, deadline, refund_id
                    ),
                    lambda result: None,
                    lambda: None,
                )

    def _review(self, env: Environment, deadline: Deadline, refund_id: str) -> None:
        refund = env.protocol.refunds.get(refund_id)
        if refund is None or refund.status is not Status.IN_REVIEW:
            return
        there = self.flair.of(refund_id)
        decision, evidence = _decide(there)
        since = self.kernel.now - from_rfc3339(refund.updated_at).timestamp()
        if decision is None or since < IN_FLIGHT_SECONDS:
            return
        self.kernel.counts["reviews"] += 1
        self.kernel.log("review", f"{refund_id}: {decision}")
        protocol = env.protocol
        Reviewer(protocol.refunds, protocol.settler, protocol.ledger).decide(
            refund_id,
            decision,
            Reasons(
                who=person("jo"),
                why="the gateway's dashboard shows it",
                evidence=evidence.id if evidence else "no such refund there",
            ),
            deadline,
            against_gateway=True,
        )

    # --- the end --------------------------------------------------------------------------------

    def settle(self) -> None:
        """No more faults, and time enough for all that is open; then the last checks."""
        kernel = self.kernel
        kernel.faults_on = False
        kernel.log("faults off", "from here on nothing goes wrong")
        quiet = 0
        for _ in range(120):
            # What is retried is due within the hour; what nobody can settle, within days.
            waits = bool(self.queue.messages) or not self.stream.drained()
            self.run_for(3700 if waits else 6 * 3600)
            if self.stream.given_up:
                given_up, self.stream.given_up = self.stream.given_up, []
                self.stream.replay(given_up)
                quiet = 0
            self.reconcile()
            self.review()
            self.run_for(600)
            quiet = 0 if self._open() else quiet + 1
            if quiet == 2:  # once more, for the sweep to see what changed last
                break
        AtRest(self.checker).check()
        self.limits.settled()
        self.deal_with_failures()
        self.watch.check_quiet()

    def run_for(self, seconds: float) -> None:
        self.kernel.run(self.kernel.now + seconds)
        self.watch.check()

    def run_schedule(self, seconds: float) -> None:
        """Time passes, and the reconciler runs every five minutes, as its schedule says."""
        ends = self.kernel.now + seconds
        while self.kernel.now < ends:
            self.reconcile()
            self.run_for(min(SCHEDULE_SECONDS, ends - self.kernel.now))

    def deal_with_failures(self) -> None:
        """A person has looked at what the failures bucket holds, and puts it away."""
        for key in [key for key in self.s3.objects if not key.startswith("handled/")]:
            self.s3.objects["handled/" + key] = self.s3.objects.pop(key)

    def _open(self) -> bool:
        return bool(
            self.queue.messages
            or self.dlq.messages
            or self.flair.later
            or not self.stream.drained()
            or self.stream.given_up
            or any(
                # What ended here and is paid there waits for a person, who may never come.
                ("open_shard" in item and "seen_paid_at" not in item)
                or item["status"]["S"] in UNFINISHED
                for item in self.refunds.items.values()
            )
        )


def _decide(there: list[Moved]) -> tuple[Status | None, Moved | None]:
    live = [each for each in there if each.live]
    if any(each.status == "pending" for each in live):
        return None, None  # the gateway itself doesn't know yet
    ours = [each for each in live if each.ours] or live
    if ours:
        return Status.SUCCEEDED, ours[0]
    return Status.FAILED, None
