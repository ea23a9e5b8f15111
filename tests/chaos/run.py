"""Sends refunds while workers are killed and connections break, then checks every invariant.

The seed decides which requests are sent and which faults come, in which order. The moment at which
a fault meets a process is the machine's, so a seed repeats the plan and not each interleaving.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from tests.chaos.aws_errors import ErrorProxy
from tests.chaos.invariants import OPEN, scan, unraised_alarms, violations
from tests.chaos.toxics import Proxies
from tests.support.engines.pollers import InvocationError
from tests.support.engines.stack import EngineStack

CAPTURED_MINOR = 10_000
REFUNDS_A_PAYMENT = 8
# Shorter than the function's timeout: messages come back while they are still worked on.
VISIBILITY_SECONDS = 20
SETTLE_SECONDS = 300
MOST_SKEW_SECONDS = 120.0
STEP_SECONDS = 0.25
BATCH = 10
GATEWAY_FAULTS = (
    *("declined", "drop_before_commit", "error_503", "rate_limited", "pending_then_succeeded"),
    *("commit_then_drop", "commit_then_html_502", "commit_then_timeout", "truncated_json"),
)


@dataclass
class Sample:
    seconds: float
    settled: int
    memory_mb: float


@dataclass
class Result:
    requested: dict[str, str] = field(default_factory=dict)
    faults: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    samples: list[Sample] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    seconds: float = 0.0


class Run:
    def __init__(
        self,
        running: EngineStack,
        proxies: Proxies,
        seed: int,
        errors: Sequence[ErrorProxy] = (),
        clock_file: Path | None = None,
    ) -> None:
        self._running = running
        self._proxies = proxies
        self._errors = errors
        self._clock_file = clock_file
        self._random = Random(seed)
        self._result = Result()
        self._began = time.monotonic()
        self._faults: tuple[Callable[[], str | None], ...] = (
            self._kill,
            self._break_connection,
            self._gateway_fault,
            self._aws_error,
            self._jump,
        )

    def run(self, seconds: float, refunds: int | None, fault_rate: float) -> Result:
        """Send until ``refunds`` are sent or ``seconds`` have passed; then mend, wait and check.

        ``fault_rate``: the probability of a fault in each step.
        """
        stack = self._running.stack
        stack.sqs.set_queue_attributes(
            QueueUrl=stack["RefundQueueUrl"],
            Attributes={"VisibilityTimeout": str(VISIBILITY_SECONDS)},
        )
        mend_at = 0.0
        while self._elapsed() < seconds and (
            refunds is None or len(self._result.requested) < refunds
        ):
            self._send()
            if self._random.random() < fault_rate and (fault := self._fault()):
                self._result.faults[fault] += 1
                mend_at = mend_at or self._elapsed() + self._random.uniform(0.5, 3)
            if mend_at and self._elapsed() > mend_at:
                self._mend()
                mend_at = 0.0
            if self._random.random() < 0.1:
                self._reconcile()
                self._sample()
            time.sleep(STEP_SECONDS)
        self._settle()
        self._result.seconds = self._elapsed()
        self._sample()
        self._result.violations = violations(self._running, self._result.requested, CAPTURED_MINOR)
        self._result.violations += unraised_alarms(self._running)
        items = scan(self._running, "RefundsTableName")
        self._result.statuses = Counter(item["status"] for item in items)
        return self._result

    def _elapsed(self) -> float:
        return time.monotonic() - self._began

    def _send(self) -> None:
        """A batch of requests for one payment, some of them twice."""
        payment = f"pay_{self._random.getrandbits(48):012x}"
        self._running.sandbox.add_payment(payment, CAPTURED_MINOR, "USD")
        bodies = []
        for _ in range(REFUNDS_A_PAYMENT):
            refund_id = f"rf_{self._random.getrandbits(64):016x}"
            self._result.requested[refund_id] = payment
            bodies.append(_request(refund_id, payment, self._random.randint(1, 2_500)))
        bodies += self._random.sample(bodies, BATCH - REFUNDS_A_PAYMENT)
        stack = self._running.stack
        stack.sqs.send_message_batch(
            QueueUrl=stack["RefundQueueUrl"],
            Entries=[{"Id": str(n), "MessageBody": body} for n, body in enumerate(bodies)],
        )

    def _fault(self) -> str | None:
        return self._random.choice(self._faults)()

    def _kill(self) -> str | None:
        name = self._random.choice(("ProcessRefund", "WriteAudit", "ReconcileRefunds"))
        return f"kill {name}" if self._running.functions[name].kill_one(self._random) else None

    def _break_connection(self) -> str:
        return self._proxies.break_one(self._random)

    def _gateway_fault(self) -> str:
        kind = self._random.choice(GATEWAY_FAULTS)
        self._running.sandbox.add_fault(kind)
        return f"gateway {kind}"

    def _aws_error(self) -> str | None:
        return self._random.choice(self._errors).fail(self._random) if self._errors else None

    def _jump(self) -> str | None:
        """Every machine's wall clock, to within what the protocol says it can bear."""
        if self._clock_file is None:
            return None
        seconds = self._random.uniform(-MOST_SKEW_SECONDS, MOST_SKEW_SECONDS)
        self._clock_file.write_text(f"{seconds:.3f}")
        return "clock jumps back" if seconds < 0 else "clock jumps ahead"

    def _mend(self) -> None:
        self._proxies.mend()
        for proxy in self._errors:
            proxy.mend()

    def _reconcile(self) -> None:
        try:
            self._running.functions["ReconcileRefunds"].invoke({})
        except InvocationError:
            self._result.faults["reconciler ended"] += 1

    def _settle(self) -> None:
        """Mend everything, then wait until nothing is open, queued or without its entry."""
        self._mend()
        if self._clock_file is not None:
            self._clock_file.unlink(missing_ok=True)
        self._running.sandbox.remove_faults()
        deadline = time.monotonic() + SETTLE_SECONDS
        while time.monotonic() < deadline:
            self._reconcile()
            if self._nothing_left():
                return
            time.sleep(1)

    def _nothing_left(self) -> bool:
        stack = self._running.stack
        names: Any = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        queued = stack.sqs.get_queue_attributes(
            QueueUrl=stack["RefundQueueUrl"], AttributeNames=names
        )["Attributes"]
        if any(int(value) for value in queued.values()):
            return False
        items = scan(self._running, "RefundsTableName")
        if any(item["status"] in OPEN for item in items):
            return False
        entries = len(scan(self._running, "AuditTableName"))
        return entries >= sum(int(item["version"]) for item in items)

    def _sample(self) -> None:
        items = scan(self._running, "RefundsTableName")
        settled = sum(item["status"] not in OPEN for item in items)
        memory = sum(
            _resident_mb(pid)
            for function in self._running.functions.values()
            for pid in function.process_ids()
        )
        self._result.samples.append(Sample(self._elapsed(), settled, memory))


def _request(refund_id: str, payment: str, amount_minor: int) -> str:
    return json.dumps(
        {
            "refund_id": refund_id,
            "transaction_id": payment,
            "user_id": "user_ada",
            "amount_minor": amount_minor,
            "currency": "USD",
            "reason": "order_cancelled",
            "requested_by": "system:chaos",
        }
    )


def _resident_mb(pid: int) -> float:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return 0.0  # it has ended, or this system has no /proc
    return pages * 4096 / 2**20
