"""One `refunds verify` over a stored trail, in its own process: prints its cost as JSON.

PYTHONPATH=src:ops:. python -m benchmarks.verify_run FOLDER [WORKERS]
"""

from __future__ import annotations

import json
import os
import re
import resource
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.memory import peak_mib
from benchmarks.stored_trail import client
from refunds.backup.table_scan import PageReader, ReadLimit
from refunds.domain.clock import SystemClock
from refunds_ops.audit.tables import Tables
from refunds_ops.audit.verify import Verification


def main(folder: Path, workers: int) -> None:
    workers_peak = 0.0

    def progress(name: str, pages: Iterable[Any], about: int) -> Iterator[Any]:
        nonlocal workers_peak
        yield from pages
        workers_peak = max(workers_peak, _children_peak_mib())

    tables = Tables(
        client(folder),
        PageReader(client(folder), ReadLimit(0)),
        refunds="Refunds",
        ledger="Ledger",
        audit="Audit",
    )
    wall, cpu = time.perf_counter(), time.process_time()
    report = Verification(tables, clock=SystemClock(), progress=progress, workers=workers).run()
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = {
        **report.checked,
        "findings": len(report.findings),
        "wall": time.perf_counter() - wall,
        "cpu": time.process_time() - cpu,
        "workers_cpu": children.ru_utime + children.ru_stime,
        "peak_mib": peak_mib() + workers_peak,
    }
    print(json.dumps(result))


def _children_peak_mib() -> float:
    """The sum of the peaks of all child processes; 0 where there is no /proc."""
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    processes = set(children.read_text().split()) if children.exists() else set()
    # Threads start the workers, and each thread lists its own children.
    for each in Path("/proc/self/task").glob("*/children"):
        with suppress(OSError):  # a thread that has ended
            processes |= set(each.read_text().split())
    kib = 0
    for process in processes:
        with suppress(OSError):  # a worker that has ended
            status = Path(f"/proc/{process}/status").read_text()
            if found := re.search(r"VmHWM:\s+(\d+) kB", status):
                kib += int(found[1])
    return kib / 1024


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if sys.argv[2:] else 1)
