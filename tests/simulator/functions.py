"""The functions in their environments: production code, built as the handlers build it.

An invocation is a process with a deadline. When it crashes or runs out of time it just stops;
whoever invoked it hears nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from typing import Any, cast

from tests.simulator.aws import S3, CachedSecret, EventBridge, Secret, Wire
from tests.simulator.dynamodb import DynamoDB
from tests.simulator.kernel import Clock, Kernel, Process, TaskPool
from tests.simulator.network import Network
from tests.simulator.sqs import SQS
from tests.simulator.tap import AUDIT_MAPPING_ID, MAPPING_ID, Tap
from tests.simulator.telemetry import Metric, Telemetry

from refunds.audit.write_audit import WriteAudit
from refunds.audit_settings import WriteAuditSettings
from refunds.breaker.queue_mapping import Switch
from refunds.domain.clock import Deadline
from refunds.domain.limits import NO_LIMITS, Limits
from refunds.environment import TableNames
from refunds.gateways.contract import Stage
from refunds.gateways.routing import Gateways
from refunds.lambda_runtime import Clients, deadline_of
from refunds.processing.process_refund import ProcessRefund
from refunds.processing.reconcile_refunds import ReconcileRefunds
from refunds.settings import (
    GatewayAccount,
    GatewaySettings,
    ProcessRefundSettings,
    ReconcileRefundsSettings,
)
from refunds.wiring.gateways import GatewayAccess, open_gateways
from refunds.wiring.process_refund import build_process_refund
from refunds.wiring.protocol import Protocol, build_protocol
from refunds.wiring.reconcile_refunds import build_reconcile_refunds
from refunds.wiring.surroundings import Surroundings
from refunds.wiring.write_audit import build_write_audit

TIMEOUT_SECONDS = {"process": 60.0, "audit": 60.0, "reconcile": 240.0, "operator": 600.0}
"""As template.yaml has them; a person is patient."""

TABLES = TableNames(refunds="Refunds", ledger="Ledger", audit="Audit")

GATEWAYS = GatewaySettings(
    accounts=(GatewayAccount("flair", "https://flair", "the gateway's key"),),
    routes=(),
    stage=Stage(),
    timeout_seconds=15.0,
    recheck_after=timedelta(seconds=300),
)


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
    generation: int = 0
    """One more at each deployment; older environments get no further invocation."""
    gateways: GatewaySettings = GATEWAYS
    """The functions' settings; environments that start from now on have them."""
    former: GatewaySettings = GATEWAYS
    """The settings of the last generation, which serves as well until ``gradual_until``."""
    gradual_until: float = 0.0
    limits: Limits = NO_LIMITS
    metrics: list[Metric] = field(default_factory=list)
    """Every metric that the functions reported, in order."""
    aws_metrics: list[Metric] = field(default_factory=list)
    """What Lambda itself reports of the functions."""
    tap: Tap = field(init=False)
    """Lambda's control plane for the queue's mapping."""

    def starts(self) -> tuple[int, GatewaySettings]:
        """Generation and settings of an environment that starts now."""
        if self.kernel.now < self.gradual_until and self.kernel.random.random() < 0.5:
            self.kernel.counts["environments of the old generation"] += 1
            return self.generation - 1, self.former
        return self.generation, self.gateways

    def serves(self, generation: int) -> bool:
        gradual = self.kernel.now < self.gradual_until
        return generation == self.generation or (gradual and generation == self.generation - 1)


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
        self.generation, self._gateways = services.starts()
        self.name = f"{function}-{number}"
        skew = kernel.random.uniform(-2, 2)
        if kernel.fault("clock skew"):
            skew = kernel.random.uniform(-100, 100)
        self.clock = Clock(kernel, skew)
        self.frozen_at = kernel.now
        self.telemetry = telemetry = Telemetry(services.metrics, kernel, function)
        clients = Clients(
            dynamodb=cast(Any, services.dynamodb),
            events=cast(Any, services.bus),
            functions=cast(Any, services.tap),
            kms=cast(Any, None),
            s3=cast(Any, services.s3),
            sqs=cast(Any, services.sqs),
        )
        access = GatewayAccess(
            api_key=lambda account: CachedSecret(services.secret, self.clock, services.wire),
            transport=lambda account: services.network,
        )
        surroundings = Surroundings(
            clients=clients,
            clock=self.clock,
            pool=TaskPool(kernel),
            new_token=lambda: f"{kernel.random.getrandbits(64):016x}",
            random=kernel.random.random,
            open_gateways=lambda settings: open_gateways(settings, access, self.clock),
            metrics=telemetry,
            log=telemetry,
        )
        self._surroundings = surroundings
        self._most = services.tap.most
        self._limits = services.limits

    @cached_property
    def process_refund(self) -> ProcessRefund:
        settings = ProcessRefundSettings(
            tables=TABLES,
            gateways=self._gateways,
            queue_url="queue",
            dead_letter_queue_url="dlq",
            event_bus="bus",
            first_retry_seconds=2,
            not_ready_for=timedelta(minutes=15),
            processed_by=f"{self.function}:1",
            limits=self._limits,
        )
        return build_process_refund(settings, self._surroundings)

    @cached_property
    def reconcile_refunds(self) -> ReconcileRefunds:
        settings = ReconcileRefundsSettings(
            tables=TABLES,
            gateways=self._gateways,
            dead_letter_queue_url="dlq",
            failures_bucket="failures",
            requests_mapping_id=MAPPING_ID,
            audit_mapping_id=AUDIT_MAPPING_ID,
            maximum_concurrency=self._most,
            sweep_pages_at_once=3,
            processed_by=f"{self.function}:1",
            limits=self._limits,
        )
        return build_reconcile_refunds(settings, self._surroundings)

    @cached_property
    def write_audit(self) -> WriteAudit:
        return build_write_audit(
            WriteAuditSettings(
                audit_table="Audit",
                failures_bucket="failures",
                event_bus="bus",
                metrics_namespace="Refunds",
                metrics_service="refunds-test",
            ),
            clients=self._surroundings.clients,
            clock=self.clock,
            pool=self._surroundings.pool,
            metrics=self._surroundings.metrics,
            money=self.telemetry,
            log=self._surroundings.log,
        )

    @cached_property
    def protocol(self) -> Protocol:
        """What an operator's commands use."""
        return build_protocol(
            TABLES,
            Gateways(self._surroundings.open_gateways(self._gateways)),
            self._surroundings,
            processed_by=f"{self.function}:1",
            recheck_after=self._gateways.recheck_after,
            limits=self._limits,
        )

    @cached_property
    def switch(self) -> Switch:
        return Switch(
            control=self.protocol.control,
            client=self._surroundings.clients.functions,
            mapping_id=MAPPING_ID,
            maximum_concurrency=self._most,
        )


Body = Callable[[Environment, Deadline], Any]
Done = Callable[[Any], None]


@dataclass
class Functions:
    """Lambda: environments that are kept warm or not, and invocations that end or don't."""

    services: Services
    idle: dict[str, list[Environment]] = field(default_factory=dict)
    started: Counter[str] = field(default_factory=Counter)
    """How many environments and invocations there have been of each function. A name that depends
    on no other function's lets the explorer see that two states are one."""
    running: int = 0

    def invoke(self, function: str, body: Body, done: Done, over: Callable[[], None]) -> None:
        """Run ``body`` in an environment. ``done`` with its result or exception, unless it stops
        before; ``over`` in any case."""
        kernel = self.services.kernel
        environment = self._environment(function)
        environment.clock.frozen_seconds += kernel.now - environment.frozen_at
        seconds = TIMEOUT_SECONDS[function]
        deadline = deadline_of(cast(Any, Context(kernel, seconds)), environment.clock)
        self.started[function] += 1
        self.running += 1
        process = Process(f"{environment.name}/{self.started[function]}")
        kernel.counts[f"invocations of {function}"] += 1
        results: list[Any] = []
        finished = False

        def failed() -> None:
            self.services.aws_metrics.append(Metric(kernel.now, function, "Errors", "Count", 1))

        def run() -> None:
            environment.telemetry.begin()
            try:
                results.append(body(environment, deadline))
            except Exception as exc:
                kernel.log("error", f"{type(exc).__name__}: {exc}")
                kernel.counts["invocations that failed"] += 1
                results.append(exc)
                failed()
            environment.telemetry.flush()
            kernel.step(f"{function} returns", 0.005)

        def end() -> None:
            nonlocal finished
            finished = True
            self.running -= 1
            environment.frozen_at = kernel.now
            if self.services.serves(environment.generation):
                self.idle.setdefault(function, []).append(environment)
            done(results[0])
            over()

        def out_of_time() -> None:
            if finished:
                return
            failed()
            if process.alive:
                kernel.counts[f"timeouts of {function}"] += 1
                kernel.log("time out", process.name)
                kernel.kill(process)
            self.running -= 1
            over()

        out_of_time.dead = lambda: finished  # type: ignore[attr-defined]
        kernel.spawn(process, run, done=end)
        kernel.after(seconds, out_of_time)

    def _environment(self, function: str) -> Environment:
        warm = [
            each for each in self.idle.get(function, ()) if self.services.serves(each.generation)
        ]
        self.idle[function] = warm
        if warm and self.services.kernel.random.random() < 0.8:
            return warm.pop(self.services.kernel.random.randrange(len(warm)))
        self.started[function] += 1
        return Environment(self.services, function, self.started[function])
