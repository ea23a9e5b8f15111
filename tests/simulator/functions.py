"""The functions in their environments: production code, built as the handlers build it.

An invocation is a process with a deadline. When it crashes or runs out of time it just stops;
whoever invoked it hears nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, cast

from tests.simulator.aws import S3, CachedSecret, EventBridge, Secret, Wire
from tests.simulator.dynamodb import DynamoDB
from tests.simulator.gateway import Network
from tests.simulator.kernel import Clock, Kernel, Process, TaskPool
from tests.simulator.sqs import SQS
from tests.simulator.tap import MAPPING_ID, Tap

from refunds.audit.failures_bucket import FailureStore
from refunds.audit.outcome_events import GATEWAY_DOWN, OutcomeBus, gateway_down_event
from refunds.audit.writer import AuditWriter, handle_stream_batch
from refunds.breaker.breaker import Breaker, GatewayCalls, WatchedGateway
from refunds.breaker.queue_mapping import IntakeKeeper, Switch
from refunds.domain.clock import Deadline
from refunds.gateways.flair import FlairGateway
from refunds.gateways.routing import Gateways
from refunds.lambda_runtime import deadline_of
from refunds.processing.dead_letters import DeadLetterArchiver
from refunds.processing.processor import Processor
from refunds.processing.queue import RefundQueue, handle_batch
from refunds.processing.reconciler import Reconciler, Summary
from refunds.processing.reserver import Reserver
from refunds.processing.settler import Settler
from refunds.tables.audit_trail import AuditTable
from refunds.tables.ledger import LedgerTable
from refunds.tables.refunds import RefundsTable
from refunds.tables.state import Control

TIMEOUT_SECONDS = {"process": 60.0, "audit": 60.0, "reconcile": 240.0, "operator": 600.0}
"""As template.yaml has them; a person is patient."""

GATEWAY_TIMEOUT_SECONDS = 15.0


@dataclass
class Services:
    """Everything outside the functions."""

    kernel: Kernel
    wire: Wire
    dynamodb: DynamoDB
    sqs: SQS
    bus: EventBridge
    s3: S3
    secret: Secret
    network: Network
    tap: Tap | None = None
    """Lambda's control plane for the queue's mapping; None in a world without a breaker."""


class Context:
    """Lambda's context, as far as it is asked."""

    def __init__(self, kernel: Kernel, seconds: float) -> None:
        self._kernel = kernel
        self._ends_at = kernel.now + seconds

    def get_remaining_time_in_millis(self) -> int:
        return int((self._ends_at - self._kernel.now) * 1000)


class Environment:
    """One environment of a function: what a handler's module builds when it is imported."""

    def __init__(self, services: Services, function: str, number: int) -> None:
        kernel = services.kernel
        self.function = function
        self.name = f"{function}-{number}"
        skew = kernel.random.uniform(-2, 2)
        if kernel.fault("clock skew"):
            skew = kernel.random.uniform(-100, 100)
        self.clock = Clock(kernel, skew)
        self.frozen_at = kernel.now
        self.pool = TaskPool(kernel)
        boto3: Any = services
        tables = cast(Any, services.dynamodb)
        self.refunds = RefundsTable(tables, "Refunds")
        self.ledger = LedgerTable(tables, "Ledger")
        self.audit = AuditTable(tables, "Audit")
        self.control = Control(tables, "Ledger")
        self.bus = OutcomeBus(boto3.bus, "bus")
        self.failures = FailureStore(boto3.s3, "failures", self.clock)
        self.gateway = FlairGateway(
            base_url="https://flair",
            api_key=CachedSecret(services.secret, self.clock, services.wire),
            transport=services.network,
            clock=self.clock,
            timeout_seconds=GATEWAY_TIMEOUT_SECONDS,
        )
        self.calls = GatewayCalls()
        gateways = Gateways([WatchedGateway(self.gateway, self.calls)])
        reserver = Reserver(self.ledger, gateways)
        self.settler = Settler(
            refunds=self.refunds,
            ledger=self.ledger,
            reserver=reserver,
            gateways=gateways,
            clock=self.clock,
            new_token=lambda: f"{kernel.random.getrandbits(64):016x}",
            processed_by=f"{function}:1",
            recheck_after=timedelta(seconds=300),
        )
        self.processor = Processor(
            refunds=self.refunds,
            ledger=self.ledger,
            audit=self.audit,
            reserver=reserver,
            settler=self.settler,
            gateways=gateways,
            clock=self.clock,
        )
        self.queue = RefundQueue(
            client=boto3.sqs,
            queue_url="queue",
            dead_letter_queue_url="dlq",
            bus=self.bus,
            processor=self.processor,
            first_retry_seconds=2,
            random=kernel.random.random,
            hold_seconds=lambda: self.breaker.hold_seconds() if services.tap else None,
        )
        self.breaker = Breaker(
            control=self.control,
            gateways=gateways,
            calls=self.calls,
            clock=self.clock,
            by=f"{function}:1",
            announce=lambda intake: self.bus.publish([gateway_down_event(intake)]),
        )
        self.tap = services.tap
        if self.tap is not None:
            self.switch = Switch(
                control=self.control,
                client=cast(Any, self.tap),
                mapping_id=MAPPING_ID,
                maximum_concurrency=self.tap.most,
            )
            self.keeper = IntakeKeeper(
                control=self.control,
                switch=self.switch,
                gateways=gateways,
                clock=self.clock,
                by=f"{function}:1",
            )
        self.reconciler = Reconciler(
            refunds=self.refunds,
            settler=self.settler,
            gateways=gateways,
            control=self.control,
            clock=self.clock,
            pool=self.pool,
            archiver=DeadLetterArchiver(
                client=boto3.sqs,
                queue_url="dlq",
                refunds=self.refunds,
                settler=self.settler,
                failures=self.failures,
                clock=self.clock,
            ),
        )
        self.writer = AuditWriter(audit=self.audit, failures=self.failures, clock=self.clock)

    # What the handlers do, less their logging and metrics.

    def process(self, event: dict[str, Any], deadline: Deadline) -> dict[str, Any]:
        response = handle_batch(
            event["Records"],
            self.queue,
            deadline,
            self.pool,
            lambda record, result: None,
            look_up_first=self.control.look_up_first(self.clock.now()),
        )
        if self.tap is not None:
            with suppress(Exception):
                self.breaker.after_batch(deadline)
        return response

    def write_audit(self, event: dict[str, Any], deadline: Deadline) -> dict[str, Any]:
        return handle_stream_batch(
            event["Records"], self.writer, self.bus, self.pool, lambda record, result: None
        )

    def reconcile(self, event: dict[str, Any], deadline: Deadline) -> Summary | None:
        if self.tap is not None:
            with suppress(Exception):
                self.keeper.keep(deadline)
            if event.get("detail-type") == GATEWAY_DOWN:
                return None
        return self.reconciler.run(deadline)


Body = Callable[[Environment, Deadline], Any]
Done = Callable[[Any], None]


@dataclass
class Functions:
    """Lambda: environments that are kept warm or not, and invocations that end or don't."""

    services: Services
    idle: dict[str, list[Environment]] = field(default_factory=dict)
    started: int = 0

    def invoke(self, function: str, body: Body, done: Done, over: Callable[[], None]) -> None:
        """Run ``body`` in an environment. ``done`` with its result or exception, unless it stops
        before; ``over`` in any case."""
        kernel = self.services.kernel
        environment = self._environment(function)
        environment.clock.frozen_seconds += kernel.now - environment.frozen_at
        seconds = TIMEOUT_SECONDS[function]
        deadline = deadline_of(cast(Any, Context(kernel, seconds)), environment.clock)
        self.started += 1
        process = Process(f"{environment.name}/{self.started}")
        kernel.counts[f"invocations of {function}"] += 1
        results: list[Any] = []
        finished = False

        def run() -> None:
            try:
                results.append(body(environment, deadline))
            except Exception as exc:
                kernel.tell("error", f"{type(exc).__name__}: {exc}")
                kernel.counts["invocations that failed"] += 1
                results.append(exc)
            kernel.step(f"{function} returns", 0.005)

        def end() -> None:
            nonlocal finished
            finished = True
            environment.frozen_at = kernel.now
            self.idle.setdefault(function, []).append(environment)
            done(results[0])
            over()

        def out_of_time() -> None:
            if finished:
                return
            if process.alive:
                kernel.counts[f"timeouts of {function}"] += 1
                kernel.tell("time out", process.name)
                kernel.kill(process)
            over()

        kernel.spawn(process, run, done=end)
        kernel.after(seconds, out_of_time)

    def _environment(self, function: str) -> Environment:
        warm = self.idle.get(function)
        if warm and self.services.kernel.random.random() < 0.8:
            return warm.pop(self.services.kernel.random.randrange(len(warm)))
        self.started += 1
        return Environment(self.services, function, self.started)
