"""`verify` keeps to its memory however long the trail is, alone and with workers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[4]
FEW, MANY = 4_000, 20_000
"""Few, so that every run of the tests can afford it; ``make bench ONLY=verify`` measures more."""

MOST_MIB = 200
MOST_GROWTH_MIB = 24
"""For the temporary file's cache, which is full at about ten thousand entries."""


def run(*arguments: str) -> str:
    paths = os.pathsep.join(str(ROOT / name) for name in ("src", "ops", "."))
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def measured(folder: Path, entries: int, workers: int) -> dict[str, Any]:
    trail = folder / f"{entries}"
    if not trail.exists():
        run("benchmarks.stored_trail", str(trail), f"{entries}")
    result: dict[str, Any] = json.loads(run("benchmarks.verify_run", str(trail), f"{workers}"))
    assert result["entries"] == entries
    assert result["findings"] == 0
    return result


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_verify_stays_below_200_mib(tmp_path: Path) -> None:
    assert measured(tmp_path, MANY, 1)["peak_mib"] < MOST_MIB
    few, many = (measured(tmp_path, entries, 4)["peak_mib"] for entries in (FEW, MANY))
    assert many < MOST_MIB
    assert many - few <= MOST_GROWTH_MIB
