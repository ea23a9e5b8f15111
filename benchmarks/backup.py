"""Backups: rows per second, compared with common designs and the limit, and growth of memory."""

from __future__ import annotations

import compileall
import shutil
import subprocess
import sys
import time
from contextlib import AbstractContextManager
from pathlib import Path

from benchmarks.backup_steps import whole_backup
from benchmarks.environment import function_environment, run_folder
from benchmarks.results import Result, median_result, ratio_result
from benchmarks.runtime import install
from benchmarks.servers import PROJECT, CannedServer
from benchmarks.worker import Worker, worker

TABLE = "Refunds"
DYNAMODUMP = "dynamodump==1.11.1"
SMALL_ROWS, LARGE_ROWS = 10_000, 1_000_000


def backup_results(
    server: CannedServer, runs: int, rows: int, *, large_rows: int | None
) -> list[Result]:
    """``large_rows`` None leaves out the growth of memory, and dynamodump with its installation."""
    ours: list[float] = []
    resource: list[float] = []
    dump: list[float] = []
    with (
        _function(server) as function,
        worker("benchmarks.baselines.backup", server.url) as baseline,
    ):
        server.reset(rows={TABLE: SMALL_ROWS})
        for each in (function, baseline):
            each.invoke({"table": TABLE})
        for _ in range(runs):
            server.reset(rows={TABLE: rows})
            ours.append(rows / whole_backup(function.invoke({}), rows).wall)
            # A fifth of the rows takes long enough.
            server.reset(rows={TABLE: rows // 5})
            resource.append(rows // 5 / baseline.invoke({"table": TABLE}).wall)
            if large_rows:
                dump.append(rows // 5 / _dynamodump_seconds(server))
    results = [
        median_result(
            "backup",
            ours,
            "rows/s",
            better="higher",
            baseline=resource,
            note="the baseline: resource + json + gzip",
        ),
        ratio_result(
            "backup / (resource + json + gzip)",
            ours,
            resource,
            better="higher",
            target=6.0,
        ),
    ]
    if large_rows:
        results += [
            median_result("dynamodump (PyPI)", dump, "rows/s", better="higher"),
            ratio_result("backup / dynamodump", ours, dump, better="higher", target=5.0),
            _memory(server, large_rows),
        ]
    return results


def _function(server: CannedServer) -> AbstractContextManager[Worker]:
    return worker("refunds.handlers.backup_refunds", server.url, TIMEOUT_SECONDS="900")


def _memory(server: CannedServer, large_rows: int) -> Result:
    peaks = []
    for rows in (SMALL_ROWS, large_rows):
        server.reset(rows={TABLE: rows})
        with _function(server) as function:
            peaks.append(whole_backup(function.invoke({}), rows).peak_mib)
    return Result(
        f"backup: memory, {SMALL_ROWS:,} to {large_rows:,} rows",
        peaks[1] - peaks[0],
        "MiB more",
        target=64,
        note=f"{peaks[0]:.0f} to {peaks[1]:.0f} MiB",
    )


def _dynamodump_seconds(server: CannedServer) -> float:
    """The seconds of its command line, without those for an empty table (start and imports)."""
    return max(_dump(server, TABLE) - _dump(server, "PlainRefunds"), 0.001)


def _dynamodump() -> Path:
    """A folder with dynamodump and the boto3 that it pins, which differs from ours."""
    folder = run_folder() / DYNAMODUMP
    if not folder.exists():
        install(folder, DYNAMODUMP, dependencies=True)
        compileall.compile_dir(str(folder), quiet=2)
    return folder


def _dump(server: CannedServer, table: str) -> float:
    folder = run_folder() / "dynamodump"
    command = [
        *(sys.executable, "-m", "dynamodump.dynamodump"),
        *("-m", "backup", "-r", "us-east-1", "--host", "127.0.0.1"),
        *("--port", server.url.rpartition(":")[2], "--accessKey", "a", "--secretKey", "b"),
        *("-s", table, "--dumpPath", str(folder), "--log", "ERROR"),
    ]
    started = time.perf_counter()
    try:
        subprocess.run(
            command,
            cwd=PROJECT,
            env=function_environment(server.url) | {"PYTHONPATH": str(_dynamodump())},
            check=True,
            capture_output=True,
            timeout=600,
        )
        return time.perf_counter() - started
    finally:
        shutil.rmtree(folder, ignore_errors=True)
