"""Sends refunds while workers are killed and connections break, then checks every invariant.

The seed decides which requests are sent and which faults come, in which order. The moment at which
a fault meets a process is the machine's, so a seed repeats the plan and not each interleaving.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from tests.chaos.breakable import Breakable
from tests.chaos.invariants import (
    OPEN,
    full_disk,
    keep_evidence,
    replay_kept_records,
    scan,
    unraised_alarms,
    violations,
)
from tests.support.engines.pollers import InvocationError

from refunds.tables.refunds import OPEN_INDEX

CAPTURED_MINOR = 10_000
REFUNDS_A_PAYMENT = 8
# Shorter than the function's timeout: messages come back while they are still worked on.
VISIBILITY_SECONDS = 20
SETTLE_SECONDS = 600
MOST_SKEW_SECONDS = 120.0
STEP_SECONDS = 0.25
WAIT_STEP_SECONDS = 0.2
MAX_QUEUED = 150
BATCH = 10
EVIDENCE = Path(".local/chaos-evidence")
GATEWAY_FAULTS = (
    *("declined", "drop_before_commit", "error_503", "rate_limited", "pending_then_succeeded"),
    *("commit_then_drop", "commit_then_html_502", "commit_then_timeout", "truncated_json"),
)


@dataclass
class Sample:
    seconds: float
    sent: int
    settled: int
    memory_mb: float


@dataclass
class Result:
    requested: dict[str, str] = field(default_factory=dict)
    faults: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    samples: list[Sample] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    open_at_end: int = 0
    seconds: float = 0.0
    """Until everything was settled. The checks come after that."""


@dataclass(frozen=True)
class Load:
    """Send until ``refunds`` are sent or ``seconds`` have passed.

    ``fault_rate``: the probability of a fault with each batch. ``pause_seconds``: after each batch.
    ``regular_seconds``: between two runs of the reconciler, and two samples.
    """

    seconds: float
    refunds: int | None = None
    fault_rate: float = 0.5
    pause_seconds: float = STEP_SECONDS
    regular_seconds: float = 3.0


class Run:
    def __init__(
        self,
        breakable: Breakable,
        seed: int,
        on_sample: Callable[[Sample], None] = lambda sample: None,
    ) -> None:
        self._running = breakable.running
        self._proxies = breakable.proxies
        self._errors = breakable.errors
        self._disks = breakable.disks
        self._clock_file = breakable.clock_file
        self._on_sample = on_sample
        self._random = Random(seed)
        self._result = Result()
        self._began = time.monotonic()
        self._mend_at = 0.0
        self._regular_work_at = 0.0
        self._stopping = threading.Event()
        # Of its own, as EventBridge Scheduler is: one that hangs must not keep faults from ending.
        self._reconciler = ThreadPoolExecutor(1, "reconciler")
        self._reconciling: Future[None] | None = None
        self._faults: tuple[Callable[[], str | None], ...] = (
            self._kill,
            self._break_connection,
            self._gateway_fault,
            self._aws_error,
            self._jump,
            self._fill_disk,
        )

    def stop(self) -> None:
        """Send no more: what was sent is still settled and checked."""
        self._stopping.set()

    def run(self, load: Load) -> Result:
        """Send and break things; then mend, wait and check."""
        stack = self._running.stack
        stack.sqs.set_queue_attributes(
            QueueUrl=stack["RefundQueueUrl"],
            Attributes={"VisibilityTimeout": str(VISIBILITY_SECONDS)},
        )
        while self._goes_on(load):
            self._send()
            if self._random.random() < load.fault_rate and (fault := self._fault()):
                self._result.faults[fault] += 1
                self._mend_at = self._mend_at or self._elapsed() + self._random.uniform(0.5, 3)
            self._wait(load)
        self._settle()
        self._result.seconds = self._elapsed()
        self._sample()
        self._check()
        return self._result

    def _check(self) -> None:
        if disk := self._disks.get("S3"):
            self._result.violations += full_disk(self._running, disk)
        self._result.violations += replay_kept_records(self._running)
        self._result.violations += violations(self._running, self._result.requested, CAPTURED_MINOR)
        self._result.violations += unraised_alarms(self._running)
        if self._result.violations:
            keep_evidence(self._running, EVIDENCE)
        items = scan(self._running, "RefundsTableName")
        self._result.statuses = Counter(item["status"] for item in items)
        self._result.open_at_end = sum(self._result.statuses[status] for status in OPEN)

    def _goes_on(self, load: Load) -> bool:
        return (
            not self._stopping.is_set()
            and self._elapsed() < load.seconds
            and (load.refunds is None or len(self._result.requested) < load.refunds)
        )

    def _wait(self, load: Load) -> None:
        """Pause, and until the queue is short; meanwhile, do what happens regularly."""
        until = self._elapsed() + load.pause_seconds
        while True:
            if self._mend_at and self._elapsed() > self._mend_at:
                self._mend()
                self._mend_at = 0.0
            if self._elapsed() > self._regular_work_at:
                self._regular_work_at = self._elapsed() + load.regular_seconds
                self._reconcile()
                self._sample()
            if self._elapsed() >= until and self._queued(visible_only=True) < MAX_QUEUED:
                return
            self._stopping.wait(WAIT_STEP_SECONDS)
            if self._stopping.is_set():
                return

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

    def _aws_error(self) -> str:
        proxy = self._random.choice(self._errors)
        done = proxy.fail(self._random)
        self._proxies.redirect(proxy.service, proxy.url)
        return done

    def _fill_disk(self) -> str | None:
        if not self._disks:
            return None
        name = self._random.choice(sorted(self._disks))
        self._disks[name].fill()
        return f"{name} disk full"

    def _jump(self) -> str:
        """Every machine's wall clock, to within what the protocol says it can bear."""
        seconds = self._random.uniform(-MOST_SKEW_SECONDS, MOST_SKEW_SECONDS)
        self._clock_file.write_text(f"{seconds:.3f}")
        return "clock jumps back" if seconds < 0 else "clock jumps ahead"

    def _mend(self) -> None:
        self._proxies.mend()
        for proxy in self._errors:
            proxy.mend()
        for disk in self._disks.values():
            disk.free()

    def _reconcile(self) -> None:
        """Start a run, unless the previous one still runs."""
        if self._reconciling is None or self._reconciling.done():
            self._reconciling = self._reconciler.submit(self._reconcile_once)

    def _reconcile_once(self) -> None:
        try:
            self._running.functions["ReconcileRefunds"].invoke({})
        except InvocationError:
            self._result.faults["reconciler ended"] += 1

    def _settle(self) -> None:
        """Mend everything, then wait until nothing is open, queued or without its entry."""
        self._mend()
        self._clock_file.unlink(missing_ok=True)
        self._running.sandbox.remove_faults()
        deadline = time.monotonic() + SETTLE_SECONDS
        while time.monotonic() < deadline:
            self._reconcile()
            if not self._queued() and not self._open() and self._audited(deadline):
                break
            time.sleep(1)
        if self._reconciling is not None:
            self._reconciling.result()

    def _audited(self, deadline: float) -> bool:
        """WriteAudit has had every change until now."""
        poller = self._running.audit_poller
        # The first empty poll may have begun before the last change.
        enough = poller.empty_polls + 2
        while time.monotonic() < deadline:
            if poller.empty_polls >= enough:
                return True
            time.sleep(WAIT_STEP_SECONDS)
        return False

    def _queued(self, *, visible_only: bool = False) -> int:
        stack = self._running.stack
        names: Any = ["ApproximateNumberOfMessages"]
        if not visible_only:
            names += ["ApproximateNumberOfMessagesNotVisible"]
        found = stack.sqs.get_queue_attributes(
            QueueUrl=stack["RefundQueueUrl"], AttributeNames=names
        )["Attributes"]
        return sum(int(value) for value in found.values())

    def _open(self) -> int:
        """The refunds in the index of those that are open: its size is theirs, not the table's."""
        stack = self._running.stack
        pages = stack.dynamodb.get_paginator("scan").paginate(
            TableName=stack["RefundsTableName"], IndexName=OPEN_INDEX, Select="COUNT"
        )
        return sum(page["Count"] for page in pages)

    def _sample(self) -> None:
        stack = self._running.stack
        # Engines count at once. At AWS the count is hours old.
        described = stack.dynamodb.describe_table(TableName=stack["RefundsTableName"])
        settled = described["Table"]["ItemCount"] - self._open()
        memory = sum(
            _resident_mb(pid)
            for function in self._running.functions.values()
            for pid in function.process_ids()
        )
        sample = Sample(self._elapsed(), len(self._result.requested), settled, memory)
        self._result.samples.append(sample)
        self._on_sample(sample)


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
