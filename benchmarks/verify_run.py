"""One `refunds verify` over a stored trail, in a process of its own: prints what it took as JSON.

PYTHONPATH=src:ops:. python -m benchmarks.verify_run FOLDER
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.memory import peak_mib
from benchmarks.stored_trail import client
from refunds.backup.table_scan import PageReader, ReadLimit
from refunds.domain.clock import SystemClock
from refunds_ops.audit.tables import Tables
from refunds_ops.audit.verify import Verification


def main(folder: Path) -> None:
    phases: dict[str, float] = {}

    def progress(name: str, pages: Iterable[list[Any]], about: int) -> Iterator[list[Any]]:
        began = time.process_time()
        yield from pages
        phases[name] = time.process_time() - began

    tables = Tables(
        client(folder),
        PageReader(client(folder), ReadLimit(0)),
        refunds="Refunds",
        ledger="Ledger",
        audit="Audit",
    )
    wall, cpu = time.perf_counter(), time.process_time()
    report = Verification(tables, clock=SystemClock(), progress=progress).run()
    result = {
        **report.checked,
        "findings": len(report.findings),
        "wall": time.perf_counter() - wall,
        "cpu": time.process_time() - cpu,
        "peak_mib": peak_mib(),
        "phases": phases,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
