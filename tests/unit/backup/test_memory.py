"""However many rows there are, a run needs the same memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.support.canned_backup import serving

ROOT = Path(__file__).parents[3]
FEW, MANY = 40_000, 1_000_000 if os.environ.get("FULL") else 120_000
"""Few enough that every buffer is in use; between the two are 120 MB of lines."""
MOST_GROWTH_MIB = 16


def run(rows: int) -> dict[str, Any]:
    with serving(rows) as server:
        told = subprocess.run(
            [sys.executable, "-m", "tests.support.backup_run_once", server.url],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT / 'ops'}:{ROOT}"},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
    assert told.returncode == 0, told.stderr
    found: dict[str, Any] = json.loads(told.stdout)
    assert found["rows"] == 2 * rows + 1
    return found


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_stays_flat() -> None:
    few, many = run(FEW), run(MANY)
    growth = many["peak_mib"] - few["peak_mib"]
    print(
        f"{many['rows']:,} rows: {many['seconds']:.1f} s, {many['peak_mib']:.0f} MiB peak, "
        f"{growth:.0f} MiB more than for {few['rows']:,}"
    )
    assert growth <= MOST_GROWTH_MIB
