"""Starts the canned servers and controls them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import urllib3

PROJECT = Path(__file__).resolve().parents[1]

_HTTP = urllib3.PoolManager(timeout=10, retries=False)


class CannedServer:
    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def reset(
        self,
        *,
        delays: Mapping[str, float] | None = None,
        rows: Mapping[str, int] | None = None,
        stream_of: str | None = None,
    ) -> None:
        """Remove all state. ``delays``: seconds for dynamodb, gateway, aws and s3."""
        told = {"delays": delays or {}, "rows": rows or {}, "stream_of": stream_of}
        self._call("reset", told)

    def counts(self) -> dict[str, Any]:
        """``requests`` by name, ``write_units`` by table, ``read_units``."""
        counts: dict[str, Any] = self._call("counts", {})
        return counts

    def stream(self) -> list[dict[str, Any]]:
        """The stream records of all writes since the reset."""
        records: list[dict[str, Any]] = self._call("stream", {})
        return records

    def _call(self, what: str, told: Any) -> Any:
        body = json.dumps(told).encode()
        return json.loads(_HTTP.request("POST", f"{self.url}/_bench/{what}", body=body).data)


@contextmanager
def canned_server() -> Iterator[CannedServer]:
    """A canned server in its own process, which ends with the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.canned"],
        cwd=PROJECT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield CannedServer(int(process.stdout.readline()))
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.stdout.close()
        process.wait(timeout=10)
