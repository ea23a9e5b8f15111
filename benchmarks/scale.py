"""The local stack end to end: from messages in the queue to the last audit entry.

The emulator is the limit here. The benchmark checks that no refund is lost, and that twice the
refunds take twice the time.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from benchmarks.environment import run_folder
from benchmarks.latency import Latency, latencies
from benchmarks.results import Result
from refunds.domain.clock import from_rfc3339
from refunds_devkit.local.lifecycle import down, up
from refunds_devkit.local.workspace import Workspace
from refunds_devkit.sandbox.client import SandboxClient
from refunds_ops.stack.stack import Stack

SENDERS = 4
PAYMENTS_AT_ONCE = 500
SECONDS_PER_THOUSAND = 180.0
MOST_GROWTH = 1.5
"""Upper bound for the time per refund in the large run, as a multiple of the small run's."""


@dataclass(frozen=True)
class ScaleRun:
    """``p50_seconds`` and ``p99_seconds``: from sending a message to its last audit entry.
    ``memory_mib``: the peak of the emulator and its functions together."""

    refunds: int
    seconds: float
    p50_seconds: float
    p99_seconds: float
    memory_mib: float


class _Quiet:
    @contextmanager
    def step(self, doing: str, done: str) -> Iterator[None]:
        yield

    def note(self, text: str) -> None:
        pass


def scale_runs(sizes: tuple[int, ...]) -> tuple[list[Latency], list[ScaleRun]]:
    """Measures one refund at a time, and then each size, smallest first, on one temporary stack."""
    workspace = Workspace(run_folder() / "stack")
    stack = up(workspace, _Quiet(), for_containers=False)
    try:
        record = workspace.record()
        assert record is not None
        pid = record.started["emulator"].pid
        idle = latencies(stack, record.gateway_url)
        return idle, [_run(stack, record.gateway_url, number, pid) for number in sizes]
    finally:
        down(workspace)


def scale_results(runs: list[ScaleRun]) -> list[Result]:
    results = []
    for run in runs:
        results += [
            Result(
                f"local stack: {run.refunds:,} refunds",
                run.refunds / run.seconds,
                "refunds/s",
                "higher",
                note=f"{run.memory_mib:.0f} MiB for the emulator and its functions",
            ),
            Result(
                f"local stack: {run.refunds:,} refunds, message to audit entry, p50",
                run.p50_seconds,
                "s",
            ),
            Result(
                f"local stack: {run.refunds:,} refunds, message to audit entry, p99",
                run.p99_seconds,
                "s",
            ),
        ]
    for small, large in pairwise(runs):
        growth = (large.seconds / large.refunds) / (small.seconds / small.refunds)
        results.append(
            Result(
                f"local stack: time per refund, {large.refunds:,} / {small.refunds:,}",
                growth,
                "×",
                target=MOST_GROWTH,
            )
        )
    return results


def _run(stack: Stack, gateway_url: str, number: int, emulator_pid: int) -> ScaleRun:
    name = f"s{number}x{time.time_ns() % 10**6}"
    _make_payments(gateway_url, name, number)
    before = _entry_count(stack)
    started = time.time()
    sent = _send(stack, name, number)
    memory = 0.0
    deadline = started + 60 + SECONDS_PER_THOUSAND * number / 1000
    while (_entry_count(stack) - before) < 2 * number:
        memory = max(memory, _memory_mib(emulator_pid))
        if time.time() > deadline:
            raise RuntimeError(f"{number} refunds took longer than {deadline - started:.0f} s")
        time.sleep(0.5)
    recorded = _recorded(stack, name)
    missing = sent.keys() - recorded.keys()
    if missing:
        raise RuntimeError(f"{len(missing)} of {number} refunds have no entry for SUCCEEDED")
    waits = sorted(recorded[refund_id] - sent[refund_id] for refund_id in sent)
    return ScaleRun(
        refunds=number,
        seconds=max(recorded.values()) - started,
        p50_seconds=waits[number // 2],
        p99_seconds=waits[number * 99 // 100],
        memory_mib=memory,
    )


def _make_payments(gateway_url: str, name: str, number: int) -> None:
    client = SandboxClient(gateway_url)
    for first in range(0, number, PAYMENTS_AT_ONCE):
        client.add_payments(
            {
                "id": f"pay_{name}_{index}",
                "amount_captured": 10_000,
                "currency": "USD",
                "status": "captured",
            }
            for index in range(first, min(first + PAYMENTS_AT_ONCE, number))
        )


def _send(stack: Stack, name: str, number: int) -> dict[str, float]:
    """Send all requests in tens. Returns the time at which each refund's request was sent."""
    sent: dict[str, float] = {}

    def send(first: int) -> None:
        entries: list[Any] = [
            {
                "Id": str(index),
                "MessageBody": json.dumps(
                    {
                        "refund_id": f"rf_{name}_{index}",
                        "transaction_id": f"pay_{name}_{index}",
                        "user_id": "ada",
                        "amount_minor": 2500,
                        "currency": "USD",
                        "reason": "order_cancelled",
                        "requested_by": "system:bench",
                    }
                ),
            }
            for index in range(first, min(first + 10, number))
        ]
        now = time.time()
        answer = stack.sqs.send_message_batch(QueueUrl=stack["RefundQueueUrl"], Entries=entries)
        if answer.get("Failed"):
            raise RuntimeError("the queue did not take every message")
        sent.update((f"rf_{name}_{index}", now) for index in range(first, first + len(entries)))

    with ThreadPoolExecutor(SENDERS) as pool:
        list(pool.map(send, range(0, number, 10)))
    return sent


def _entry_count(stack: Stack) -> int:
    answer = stack.dynamodb.describe_table(TableName=stack["AuditTableName"])
    return int(answer["Table"]["ItemCount"])


def _recorded(stack: Stack, name: str) -> dict[str, float]:
    found: dict[str, float] = {}
    pages = stack.dynamodb.get_paginator("scan").paginate(TableName=stack["AuditTableName"])
    for page in pages:
        for item in page["Items"]:
            refund_id = item["refund_id"]["S"] if "refund_id" in item else ""
            if refund_id.startswith(f"rf_{name}_") and item["status"]["S"] == "SUCCEEDED":
                found[refund_id] = from_rfc3339(item["recorded_at"]["S"]).timestamp()
    return found


def _memory_mib(pid: int) -> float:
    """The memory of a process and its descendants. ps has the same options on Linux and macOS."""
    listed = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid=,rss="],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    ).stdout
    rows = [tuple(map(int, line.split())) for line in listed.splitlines()]
    family: set[int] = {pid}
    while True:
        larger = family | {child for child, parent, _ in rows if parent in family}
        if larger == family:
            return sum(kib for process, _, kib in rows if process in family) / 1024
        family = larger
