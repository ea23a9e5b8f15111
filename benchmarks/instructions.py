"""Instructions of one refund, ours and the baseline's, and of cold starts: what decides whether
code got slower.

Times say little on a machine that others use. Instructions repeat within 0.2 %, so CI can compare
them. They don't include the kernel's.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from benchmarks import callgrind
from benchmarks.batch import AUDIT, BASELINE, OURS, whole
from benchmarks.cold_instructions import cold_instruction_results
from benchmarks.requests_to_make import sqs_event
from benchmarks.results import Result
from benchmarks.runtime import built_package, lambda_runtime
from benchmarks.servers import CannedServer
from benchmarks.worker import worker

BATCH = 10
MOST_PER_REFUND = 0.80
MOST_PER_REQUEST = 0.75

Event = dict[str, Any]


@dataclass(frozen=True)
class Counted:
    """Instructions and requests of one refund."""

    instructions: float
    requests: float


def instruction_results(
    server: CannedServer, batches: int, *, with_libraries: bool
) -> list[Result]:
    """``with_libraries``: compares cold starts with those of their libraries too."""
    if not callgrind.installed():
        return [_left_out()]
    # Once, before two threads look for them.
    built_package()
    lambda_runtime()
    with ThreadPoolExecutor(1) as beside:
        refunds = beside.submit(_refund_results, server, batches)
        cold = cold_instruction_results(with_libraries=with_libraries)
        return [*refunds.result(), *cold]


def _refund_results(server: CannedServer, batches: int) -> list[Result]:
    server.reset(stream_of="Refunds")
    process = _count(server, OURS, lambda: sqs_event(BATCH), batches)
    records = server.stream()
    audit = _count(server, AUDIT, lambda: _taken(records), batches)
    server.reset()
    theirs = _count(server, BASELINE, lambda: sqs_event(BATCH), batches)
    ours = Counted(process.instructions + audit.instructions, process.requests + audit.requests)
    per_refund = ours.instructions / theirs.instructions
    per_request = per_refund * theirs.requests / ours.requests
    million = 1e6
    return [
        Result(
            "instructions per refund",
            ours.instructions / million,
            "million",
            baseline=theirs.instructions / million,
            note=f"ProcessRefund {process.instructions / million:.2f} and WriteAudit "
            f"{audit.instructions / million:.2f} million, in batches of {BATCH}",
        ),
        _ratio("instructions per refund / baseline", per_refund, MOST_PER_REFUND),
        _ratio("instructions per request / baseline", per_request, MOST_PER_REQUEST),
    ]


def _count(server: CannedServer, module: str, event: Callable[[], Event], batches: int) -> Counted:
    with (
        callgrind.counter() as counter,
        # The order of a set of strings must not change the count.
        worker(module, server.url, command=counter.command, PYTHONHASHSEED="0") as function,
    ):
        for _ in range(2):  # opens connections, reads the gateway's key, fills caches
            whole(function.invoke(event()))
        before = _requests(server)

        def work() -> None:
            for _ in range(batches):
                whole(function.invoke(event()))

        instructions = counter.count(function.process_id, work)
        refunds = BATCH * batches
        return Counted(instructions / refunds, (_requests(server) - before) / refunds)


def _requests(server: CannedServer) -> int:
    return sum(server.counts()["requests"].values())


def _taken(records: list[Any]) -> Event:
    """The stream's next records: two for each refund."""
    taken, records[:] = records[: 2 * BATCH], records[2 * BATCH :]
    return {"Records": taken}


def _ratio(name: str, value: float, target: float) -> Result:
    return Result(
        name,
        value,
        "×",
        baseline=1.0,
        target=target,
        tolerance=0.02,
        note=f"callgrind, Python {sys.version_info.major}.{sys.version_info.minor}",
    )


def _left_out() -> Result:
    return Result(
        "instruction counts that were left out",
        1,
        "counts",
        target=0,
        is_count=True,
        note="valgrind is not installed: apt-get install valgrind",
    )
