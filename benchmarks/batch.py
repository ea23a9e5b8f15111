"""Batches with a gateway that takes 300 ms: duration, throughput and CPU."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field

from benchmarks.requests_to_make import sqs_event
from benchmarks.results import Result, median_result, ratio_result
from benchmarks.servers import CannedServer
from benchmarks.worker import Cost, Worker, worker

OURS = "refunds.handlers.process_refund"
AUDIT = "refunds.handlers.write_audit"
BASELINE = "benchmarks.baselines.process_refund"
DELAYS = {"gateway": 0.3, "dynamodb": 0.005, "aws": 0.005}

CPU_BATCHES = 20


@dataclass
class Timed:
    """Seconds of each run, by batch size."""

    ours: dict[int, list[float]] = field(default_factory=dict)
    baseline: dict[int, list[float]] = field(default_factory=dict)


def whole(cost: Cost) -> Cost:
    """Returns ``cost``. Raises ``RuntimeError`` if the batch failed: its cost means nothing."""
    if cost.response["batchItemFailures"]:
        raise RuntimeError(f"a benchmark's batch failed: {cost.response}")
    return cost


def time_batches(server: CannedServer, runs: int, sizes: tuple[int, ...]) -> Timed:
    """Runs ours and the baseline alternately, ``runs`` times for each size."""
    timed = Timed()
    with worker(OURS, server.url) as ours, worker(BASELINE, server.url) as baseline:
        server.reset(delays={})
        for each in (ours, baseline):
            whole(each.invoke(sqs_event(max(sizes))))  # opens connections, loads modules
        server.reset(delays=DELAYS)
        for _ in range(runs):
            for size in sizes:
                for seconds, function in ((timed.ours, ours), (timed.baseline, baseline)):
                    if size == 1 and function is baseline:
                        continue
                    cost = whole(function.invoke(sqs_event(size)))
                    seconds.setdefault(size, []).append(cost.wall)
    return timed


def batch_results(server: CannedServer, runs: int, sizes: tuple[int, ...]) -> list[Result]:
    """``sizes`` can contain 10 and 50, which have targets."""
    timed = time_batches(server, runs, (1, *sizes))
    most_time = {10: 1.3, 50: 1.6}
    least_gain = {10: 4.5, 50: 20.0}
    results = [median_result("batch of 1: time", timed.ours[1], "s")]
    for size in sizes:
        ours, theirs = timed.ours[size], timed.baseline[size]
        results += [
            median_result(f"batch of {size}: time", ours, "s", baseline=theirs),
            ratio_result(
                f"batch of {size}: time / time of one record",
                ours,
                timed.ours[1],
                better="lower",
                target=most_time[size],
            ),
            median_result(
                f"batch of {size}: throughput",
                [size / seconds for seconds in ours],
                "refunds/s",
                better="higher",
                baseline=[size / seconds for seconds in theirs],
            ),
            ratio_result(
                f"batch of {size}: throughput / sequential",
                theirs,
                ours,
                better="higher",
                target=least_gain[size],
                note="we read the payment first, the baseline doesn't",
            ),
        ]
    return results


def cpu_results(server: CannedServer, runs: int) -> list[Result]:
    """CPU of ProcessRefund and WriteAudit together, compared with the one baseline function."""
    ours: list[float] = []
    process_only: list[float] = []
    theirs: list[float] = []
    with (
        worker(OURS, server.url) as process,
        worker(AUDIT, server.url) as audit,
        worker(BASELINE, server.url) as baseline,
    ):
        for run in range(runs + 1):
            costs = _cpu_of_one_run(server, process, audit, baseline)
            if run:  # the first run warms up
                ours.append(costs[0] + costs[1])
                process_only.append(costs[0])
                theirs.append(costs[2])
    return [
        median_result(
            "CPU per refund",
            [1000 * each for each in ours],
            "ms",
            baseline=[1000 * each for each in theirs],
            note="ProcessRefund and WriteAudit",
        ),
        median_result(
            "CPU per refund: ProcessRefund", [1000 * each for each in process_only], "ms"
        ),
        median_result(
            "CPU per refund: WriteAudit",
            [1000 * (one - other) for one, other in zip(ours, process_only, strict=True)],
            "ms",
        ),
        ratio_result("CPU per refund / baseline", ours, theirs, better="lower", target=0.8),
    ]


def _cpu_of_one_run(
    server: CannedServer, process: Worker, audit: Worker, baseline: Worker
) -> tuple[float, float, float]:
    def per_refund(invoke: Callable[[], Cost]) -> float:
        return statistics.median(whole(invoke()).cpu / 10 for _ in range(CPU_BATCHES))

    server.reset(stream_of="Refunds")
    processed = per_refund(lambda: process.invoke(sqs_event(10)))
    records = server.stream()
    batches = [{"Records": records[at : at + 20]} for at in range(0, len(records), 20)]
    written = per_refund(lambda: audit.invoke(batches.pop()))
    server.reset()
    theirs = per_refund(lambda: baseline.invoke(sqs_event(10)))
    return processed, written, theirs
