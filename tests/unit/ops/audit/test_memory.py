"""`verify` keeps to its memory however long the trail is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]
ENTRIES = 20_000
"""Few, so that every run of the tests can afford it; ``big_trail.py`` measures a million."""


def measured(entries: int) -> dict[str, int]:
    paths = os.pathsep.join(str(ROOT / name) for name in ("src", "ops", "."))
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.big_trail", str(entries), "--quiet"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=600,
        check=True,
    )
    told: dict[str, int] = json.loads(done.stdout)
    return told


@pytest.mark.long
def test_verify_stays_below_200_mb() -> None:
    told = measured(ENTRIES)
    assert told["entries"] == ENTRIES
    assert told["findings"] == 0
    assert told["max_rss_mb"] < 200
