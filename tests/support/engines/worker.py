"""One execution environment of a function: reads events from stdin, writes responses to stdout.

    python -m tests.support.engines.worker refunds.handlers.process_refund.handler

Each line is JSON. What the function logs goes to stderr.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
import traceback
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from refunds.domain.clock import SystemClock

CLOCK_FILE = "CHAOS_CLOCK_FILE"
"""Names a file with the seconds by which this machine's clock is wrong. Absent: it is right."""


def wrong_clock(file: Path) -> None:
    """From now on the wall clock jumps whenever the file changes. The monotonic one doesn't."""
    right = SystemClock.now

    def now(self: SystemClock) -> Any:
        try:
            seconds = float(file.read_text())
        except (OSError, ValueError):
            seconds = 0.0  # not there, or just being written
        return right(self) + timedelta(seconds=seconds)

    SystemClock.now = now  # type: ignore[method-assign]


def main(handler_path: str) -> None:
    responses = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    if file := os.environ.get(CLOCK_FILE):
        wrong_clock(Path(file))
    module, _, name = handler_path.rpartition(".")
    handler = getattr(importlib.import_module(module), name)
    responses.write(json.dumps({"ready": True}) + "\n")
    for number, line in enumerate(sys.stdin):
        call = json.loads(line)
        try:
            response = {"result": handler(call["event"], _context(call["seconds"], number))}
        except Exception as exc:
            traceback.print_exc()
            response = {"error": type(exc).__name__}
        responses.write(json.dumps(response) + "\n")


def _context(seconds: float, number: int) -> Any:
    name = os.environ["AWS_LAMBDA_FUNCTION_NAME"]
    ends = time.monotonic() + seconds
    return SimpleNamespace(
        function_name=name,
        function_version=os.environ["AWS_LAMBDA_FUNCTION_VERSION"],
        memory_limit_in_mb=1024,
        invoked_function_arn=f"arn:aws:lambda:us-east-1:123456789012:function:{name}:1",
        aws_request_id=f"00000000-0000-4000-8000-{number:012d}",
        get_remaining_time_in_millis=lambda: int((ends - time.monotonic()) * 1000),
    )


if __name__ == "__main__":
    main(sys.argv[1])
