"""`make bench`: measures everything, prints and draws it, and writes .local/bench.json.

CI runs QUICK=1, in under three minutes: fewer runs, and exit status 1 if a count (units, requests,
imports, package size) misses its target, or if a count or a ratio of instructions differs from what
is committed. Times never fail it. FULL=1 adds 100,000 refunds on the local stack, another half
hour. ONLY=batch,work runs single parts. WRITE=1 writes what was measured into docs/scale.md, and
the ratios of instructions into benchmarks/instructions.json.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime

from rich.console import Console

from benchmarks.audit import audit_results
from benchmarks.backup import LARGE_ROWS, backup_results
from benchmarks.backup_steps import limit_results
from benchmarks.batch import batch_results, cpu_results
from benchmarks.borders import borders_results
from benchmarks.cold_start import cold_start_results
from benchmarks.command_line import command_line_results
from benchmarks.cost import cost_results
from benchmarks.environment import run_folder
from benchmarks.instructions import instruction_results
from benchmarks.latency import latency_results
from benchmarks.package import package_results
from benchmarks.plot import draw
from benchmarks.report import (
    BACKUPS,
    COUNTS,
    INSTRUCTIONS,
    TIMES,
    backups_table,
    changed_instructions,
    counts_table,
    instructions_table,
    print_table,
    stale_counts,
    times_table,
    write_held,
    write_json,
    write_table,
)
from benchmarks.results import Result, exit_status
from benchmarks.scale import ScaleRun, scale_results, scale_runs
from benchmarks.servers import PROJECT, CannedServer, canned_server
from benchmarks.verify import verify_results
from benchmarks.work import work_results

LOG_WIDTH = 120


def main() -> int:
    quick, full = (os.environ.get(name, "") not in ("", "0") for name in ("QUICK", "FULL"))
    only = set(filter(None, os.environ.get("ONLY", "").split(",")))
    # A log has no width, and the table needs more than rich's default of 80 columns.
    console = Console(width=None if sys.stdout.isatty() else LOG_WIDTH)
    results: list[Result] = []
    scaled: list[ScaleRun] = []

    def scale(_: CannedServer) -> list[Result]:
        sizes = (1_000, 10_000, 100_000) if full else (1_000, 10_000)
        idle, runs = scale_runs(sizes)
        scaled.extend(runs)
        return [*latency_results(idle), *scale_results(scaled)]

    parts: dict[str, Callable[[CannedServer], list[Result]]] = {
        "work": work_results,
        "instructions": lambda server: instruction_results(server, 2, with_libraries=not quick),
        "borders": lambda server: borders_results(50_000 if quick else 1_000_000),
        "cli": lambda server: command_line_results(server, 3 if quick else 11),
        "package": lambda server: package_results(),
        "cold": lambda server: cold_start_results(1 if quick else 11),
        "cpu": lambda server: cpu_results(server, 2 if quick else 7),
        "cost": lambda server: cost_results(
            [each for each in results if each.name.startswith("CPU per refund")]
        ),
        "batch": lambda server: (
            batch_results(server, 2, (10,)) if quick else batch_results(server, 5, (10, 50))
        ),
        "audit": lambda server: audit_results(server, 1 if quick else 5),
        "backup": lambda server: (
            backup_results(server, 1, 20_000, large_rows=None)
            if quick
            else backup_results(server, 3, 100_000, large_rows=LARGE_ROWS)
        ),
    }
    parts["backup-limit"] = lambda server: (
        limit_results(server, 1, 50_000, with_instructions=False)
        if quick
        else limit_results(server, 7, 100_000, with_instructions=True)
    )
    parts["verify"] = lambda _: (
        verify_results(1, 10_000, large_entries=None)
        if quick
        else verify_results(5, 100_000, large_entries=1_000_000)
    )
    if not quick:
        parts["scale"] = scale
    if unknown := only - parts.keys():
        console.print(
            f"ONLY={', '.join(sorted(unknown))} is not known. Choose from: {', '.join(parts)}."
        )
        return 2
    with canned_server() as server:
        for name, measure in parts.items():
            if only and name not in only:
                continue
            started, cpu_before = time.perf_counter(), _cpu_seconds()
            results += measure(server)
            seconds, cpu = time.perf_counter() - started, _cpu_seconds() - cpu_before
            console.print(f"[dim]{name}: {seconds:.0f} s, {cpu:.0f} s of CPU[/]")
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    if os.environ.get("WRITE", "") not in ("", "0"):
        write_all(results, only, python, quick=quick)
    results.append(changed_instructions(results, python))
    if not only:
        results.append(stale_counts(counts_table(results)))
    print_table(console, results)
    report = PROJECT / ".local/bench.json"
    write_json(report, results)
    picture = run_folder() / "bench.png"
    draw(picture, results, scaled)
    for path in (report, picture):
        console.print(f"Written: {path.relative_to(PROJECT)}", highlight=False)
    return exit_status(results, quick=quick)


def _cpu_seconds() -> float:
    """Of this process and of those that it has waited for: all but the canned server."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def write_all(results: list[Result], only: set[str], python: str, *, quick: bool) -> None:
    """Write what this run has measured into docs/scale.md: no number there is typed by hand."""
    counted = instructions_table(results)
    if not only or "instructions" in only:
        write_held(results, python)
        if not quick:
            write_table(INSTRUCTIONS, counted)
    if not only:
        write_table(COUNTS, counts_table(results))
    if quick:
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    run = (
        f"One run of `make bench` on {datetime.now(UTC):%Y-%m-%d}: {platform.machine()}, "
        f"{cores} cores, Python {python}."
    )
    if not only or "backup-limit" in only:
        write_table(BACKUPS, backups_table(results, run=run))
    if not only:
        write_table(TIMES, times_table(results, run=run))


if __name__ == "__main__":
    sys.exit(main())
