"""``python -m tests.simulator.mutate``: faults made by a tool, against a fast suite.

``fault_making.py`` makes them. Each lives in a process of its own, forked after the tests are
collected: the functions' code is swapped, then the tests that reach the changed statement run until
one fails.

A fault that no test notices has survived. ``survivors.txt`` lists those that do no harm, each with
its reason; any other one makes the command fail.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from pathlib import Path
from random import Random

import pytest
from tests.simulator.fault_hunt import NO_TEST, SO_FAR, SURVIVED, UNCHANGED, Hunt
from tests.simulator.fault_making import Fault, faults_of

SOURCE = Path("src/refunds")
FOLDERS = ("processing", "tables", "gateways", "domain")
MORE_FILES = ("audit/writer.py",)
TESTS = (
    *(
        f"tests/unit/{each}"
        for each in ("audit", "breaker", "domain", "gateways", "handlers", "processing", "tables")
    ),
    "tests/unit/ops/test_review.py",
    "tests/conformance",
    "tests/simulator/scripted",
)
SURVIVORS = Path(__file__).with_name("survivors.txt")
UNUSED = [
    part
    for name in ("cacheprovider", "xdist", "terminal", "schemathesis")
    for part in ("-p", f"no:{name}")
]
"""Plugins that a forked test has no use for."""

LEAST_CAUGHT = 0.95
ALIVE = (SURVIVED, SO_FAR, NO_TEST)


def known_survivors() -> dict[str, str]:
    """Reasons by key: in the file, a line for the key and an indented one for its reason."""
    known: dict[str, str] = {}
    key = ""
    for line in SURVIVORS.read_text().splitlines():
        if line.startswith("    ") and key:
            known[key] = (known.get(key, "") + " " + line.strip()).strip()
        elif line and not line.startswith("#"):
            key = line
    return known


def main() -> int:
    """Returns 0 when at least 95 % were caught and each survivor is listed, else 1."""
    parser = argparse.ArgumentParser(prog="mutate", description=__doc__)
    parser.add_argument("--files", nargs="*", help="such as processing/settler.py; default: all")
    parser.add_argument("--each", type=int, default=5, help="faults of each file; 0 for all (5)")
    parser.add_argument("--seed", type=int, default=1, help="which ones")
    parser.add_argument(
        "--seconds", type=float, default=3600, help="begin no fault later than this"
    )
    parser.add_argument(
        "--most", type=float, default=10, help="CPU seconds for a fault that lives; then the next"
    )
    parser.add_argument("--jobs", type=int, default=1, help="faults at the same time (1)")
    parser.add_argument("--forget", action="store_true", help="run again what was caught before")
    parser.add_argument("--count", action="store_true", help="only count the faults of each file")
    asked = parser.parse_args()
    ends = time.monotonic() + asked.seconds
    files = [SOURCE / each for each in asked.files or ()] or all_files()
    made = {path: faults_of(path, Random(asked.seed), asked.each or None) for path in files}
    faults = [fault for each in made.values() for fault in each]
    Random(asked.seed).shuffle(faults)  # when the time is up, what has run is an even sample
    if asked.count:
        for path, those in made.items():
            print(f"{len(those):5}  {path}")
        print(f"{len(faults):5}  in all")
        return 0
    hunt = Hunt(all_files(), faults, ends, asked.jobs, asked.forget, asked.most, on_verdict=_show)
    _run(hunt)
    return _judge(made, hunt.verdicts)


def _run(hunt: Hunt) -> None:
    options = ("-o", "addopts=--import-mode=importlib", "-m", "not long", *UNUSED)
    with contextlib.redirect_stdout(sys.stderr):
        code = pytest.main([*options, *TESTS], plugins=[hunt])
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        raise SystemExit(f"pytest ended with {code!s}; run these tests by themselves")


def _show(fault: Fault, verdict: str) -> None:
    if verdict in ALIVE:
        print(f"{verdict}: line {fault.line}, {fault.key()}", file=sys.stderr, flush=True)


def _judge(made: dict[Path, list[Fault]], verdicts: dict[Fault, str]) -> int:
    known = known_survivors()
    alive = [each for each, verdict in verdicts.items() if verdict in ALIVE]
    unlisted = [fault for fault in alive if fault.key() not in known]
    print(" made caught listed survived not run  file")
    rows = [_row(str(path), those, verdicts, unlisted) for path, those in made.items()]
    total = [sum(numbers) for numbers in zip(*rows, strict=True)]
    print(" ".join(f"{number:6}" for number in total), " in all")
    for fault in alive:
        why = known.get(fault.key(), "NOT LISTED")
        print(
            f"{verdicts[fault]}: line {fault.line}, {fault.operator}\n  {fault.key()}\n      {why}"
        )
    _, caught, listed, survived, _ = total
    run = caught + listed + survived
    share = caught / run if run else 1.0
    print(f"{caught} of {run} faults caught ({share:.1%}); {survived} survivors are not listed")
    return int(share < LEAST_CAUGHT or survived > 0)


def _row(
    path: str, faults: list[Fault], verdicts: dict[Fault, str], unlisted: list[Fault]
) -> tuple[int, ...]:
    """Made, caught, listed, survived and not run. What is in no function's code is not counted."""
    run = [each for each in faults if verdicts.get(each) != UNCHANGED]
    survived = sum(each in unlisted for each in run)
    alive = sum(verdicts.get(each) in ALIVE for each in run)
    not_run = sum(each not in verdicts for each in run)
    caught = len(run) - alive - not_run
    row = (len(run), caught, alive - survived, survived, not_run)
    print(" ".join(f"{number:6}" for number in row), f" {path}")
    return row


def all_files() -> list[Path]:
    found = [
        path
        for folder in FOLDERS
        for path in sorted((SOURCE / folder).glob("*.py"))
        if path.name != "__init__.py"
    ]
    return [*found, *(SOURCE / each for each in MORE_FILES)]


if __name__ == "__main__":
    sys.exit(main())
