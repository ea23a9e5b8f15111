"""How fast `refunds` starts, compared with a command line that imports all its commands at once.

CPU time of whole processes, in pairs: another program on the machine disturbs neither. The baseline
imports what `refunds` imported before its commands were loaded one at a time.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

import boto3

from benchmarks.canned_dynamodb import row
from benchmarks.environment import function_environment
from benchmarks.results import Result, ratio_result
from benchmarks.servers import PROJECT, CannedServer
from refunds.domain.clock import SystemClock, rfc3339

VERSION_AT_MOST = 0.25
SHOW_AT_MOST = 0.5
"""Of the baseline's CPU time (issue: every daily question in one command)."""

_LAZY = "import refunds_ops.cli; refunds_ops.cli.main()"
_EAGER = """\
import importlib, pkgutil
import boto3, pydantic, rich.console, rich.progress, rich.table
import refunds_ops.commands
for module in pkgutil.iter_modules(refunds_ops.commands.__path__):
    importlib.import_module(f"refunds_ops.commands.{module.name}")
import refunds_ops.cli; refunds_ops.cli.main()
"""


def command_line_results(server: CannedServer, runs: int) -> list[Result]:
    """`refunds --version` and `refunds show`; ``runs`` pairs of each."""
    server.reset()
    environment = _stack(server)
    refund_id = _stored_refund(environment)
    return [
        _compared("CPU of refunds --version", ["--version"], environment, runs, VERSION_AT_MOST),
        _compared("CPU of refunds show", ["show", refund_id], environment, runs, SHOW_AT_MOST),
    ]


def _compared(
    name: str, arguments: Sequence[str], environment: dict[str, str], runs: int, most: float
) -> Result:
    lazy, eager = [], []
    for _ in range(runs):
        lazy.append(_cpu_seconds(_LAZY, arguments, environment))
        eager.append(_cpu_seconds(_EAGER, arguments, environment))
    return ratio_result(
        name,
        lazy,
        eager,
        better="lower",
        target=most,
        note=f"{min(lazy) * 1000:.0f} ms; all commands imported at once {min(eager) * 1000:.0f} ms",
    )


def _cpu_seconds(program: str, arguments: Sequence[str], environment: dict[str, str]) -> float:
    process = subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        cwd=PROJECT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise RuntimeError(f"refunds {' '.join(arguments)} ended with {process.returncode}")
    return usage.ru_utime + usage.ru_stime


def _stack(server: CannedServer) -> dict[str, str]:
    environment = function_environment(server.url)
    outputs = {
        "RefundsTableName": environment["REFUNDS_TABLE"],
        "LedgerTableName": environment["LEDGER_TABLE"],
        "AuditTableName": environment["AUDIT_TABLE"],
        "RefundQueueUrl": environment["REFUND_QUEUE_URL"],
    }
    return {**os.environ, **environment, **outputs}


def _stored_refund(environment: dict[str, str]) -> str:
    """A refund that has changed just now, so that its audit entry may still be on its way."""
    item = row("Refunds", 1) | {"updated_at": {"S": rfc3339(SystemClock().now())}}
    boto3.client(
        "dynamodb",
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        region_name="us-east-1",
        aws_access_key_id="bench",
        aws_secret_access_key="bench",  # noqa: S106 - the canned server takes any
    ).put_item(TableName=environment["REFUNDS_TABLE"], Item=item)
    return str(item["refund_id"]["S"])
