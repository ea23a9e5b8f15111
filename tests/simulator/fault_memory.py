"""What earlier runs of ``make mutate`` found out, in ``.local/mutate``.

A caught fault stays caught while its file and its test stay the same. One that is not caught is
only tried with tests that it has not met yet.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import pytest
from tests.simulator.fault_making import Fault

KEPT = Path(".local/mutate")


@dataclass
class Memory:
    """``fingerprints``: by test; another one when the test's file has changed."""

    fingerprints: Mapping[str, str]
    file: Path = KEPT / "faults.jsonl"
    _caught: dict[str, str] = field(default_factory=dict)
    _passed: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))

    def __post_init__(self) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        if not self.file.exists():
            return
        for line in self.file.read_text().splitlines():
            entry = json.loads(line)
            if "caught" in entry:
                self._caught[entry["fault"]] = entry["caught"]
            else:
                self._passed[entry["fault"]].update(entry["passed"].split())

    def caught_by(self, fault: Fault) -> str | None:
        """The test that caught it, if that is still there."""
        test = self._caught.get(fault.digest)
        return test if test in self.fingerprints else None

    def not_met(self, fault: Fault, tests: Iterable[str]) -> list[str]:
        """Those of the tests that did not run with this fault yet."""
        passed = self._passed.get(fault.digest, set())
        return [test for test in tests if self.fingerprints[test] not in passed]

    def was_tried(self, fault: Fault) -> bool:
        return fault.digest in self._caught or fault.digest in self._passed

    def caught(self, fault: Fault, test: str) -> None:
        self._caught[fault.digest] = test
        self._append(fault, caught=test)

    def passed(self, fault: Fault, tests: Iterable[str]) -> None:
        prints = [self.fingerprints[test] for test in tests]
        self._passed[fault.digest].update(prints)
        self._append(fault, passed=" ".join(prints))

    def _append(self, fault: Fault, **entry: str) -> None:
        with self.file.open("a") as lines:
            lines.write(json.dumps({"fault": fault.digest} | entry) + "\n")


def fingerprints(items: Iterable[pytest.Item]) -> dict[str, str]:
    """By test: eight digits of its name and its file's content."""
    contents: dict[Path, str] = {}
    found: dict[str, str] = {}
    for item in items:
        if item.path not in contents:
            contents[item.path] = sha256(item.path.read_bytes()).hexdigest()
        text = f"{item.nodeid} {contents[item.path]}"
        found[item.nodeid] = sha256(text.encode()).hexdigest()[:10]
    return found
