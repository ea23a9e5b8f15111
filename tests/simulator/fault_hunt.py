"""A pytest plugin: the tests that reach a fault run in a fork of their own, until one fails.

First each test file runs once, to see which statements its tests reach. What was seen, and which
faults were caught, is kept in ``.local/mutate`` for as long as it stays true.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import resource
import signal
import sys
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from tests.simulator.fault_code import infect, observe, statement_at
from tests.simulator.fault_making import Fault

KEPT = Path(".local/mutate")
NO_TEST = "no test reaches it"
UNCHANGED = "in no function's code"
SURVIVED = "survived"

SLOWEST = 8
"""A test may take so many times as long as without a fault, and ``GRACE_SECONDS``: one that a fault
makes loop, or wait for ever, has caught it."""

GRACE_SECONDS = 5
WAIT_SECONDS = 90
"""The same for one that waits, on a machine that is busy."""


@dataclass(frozen=True)
class Reach:
    """What a test ran: statements of the faults' files, and how long it took."""

    seconds: float
    statements: frozenset[str]


@dataclass
class Hunt:
    """``verdicts``: by fault, the test that caught it, or one of the texts above."""

    files: Sequence[Path]
    faults: Sequence[Fault]
    ends: float
    jobs: int
    forget: bool
    verdicts: dict[Fault, str] = field(default_factory=dict)
    on_verdict: Callable[[Fault, str], None] = lambda fault, verdict: None
    _killers: Counter[tuple[str, str]] = field(default_factory=Counter)

    def pytest_configure(self, config: pytest.Config) -> None:
        """The same examples each time, and no search for the smallest that fails."""
        import hypothesis  # not before pytest, which rewrites its plugins

        phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
        hypothesis.settings.register_profile(
            "mutate", database=None, derandomize=True, phases=phases
        )
        hypothesis.settings.load_profile("mutate")

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        by_id = {item.nodeid: item for item in session.items}
        reach = _reach(session, self.files)
        failing = [test for test, seen in reach.items() if seen.seconds < 0]
        if failing:
            raise pytest.UsageError(f"these tests fail without any fault: {failing[:5]}")
        tests_of: dict[str, list[str]] = defaultdict(list)
        for test, seen in reach.items():
            for statement in seen.statements:
                tests_of[statement].append(test)
        tests = sha256("".join(sorted(_file_digest(each) for each in _test_files())).encode())
        kept = _Verdicts(tests.hexdigest())
        _warm_up(by_id.values(), reach)
        running: dict[int, tuple[Fault, int]] = {}
        for fault in self.faults:
            if not self.forget and (known := kept.known(fault)):
                self._record(fault, known)
                continue
            reached = tests_of[statement_at(fault.path, fault.line)]
            if not reached:
                self._record(fault, NO_TEST)
                continue
            if time.monotonic() > self.ends:
                continue
            order = self._order(fault, reached, reach)
            running |= self._fork(fault, [(by_id[test], reach[test].seconds) for test in order])
            while len(running) >= self.jobs:
                self._wait(running, kept)
        while running:
            self._wait(running, kept)
        return True

    def _order(self, fault: Fault, reached: list[str], reach: dict[str, Reach]) -> list[str]:
        """What caught this function's faults before, then the module's own tests, then the rest by
        how long they take."""
        place, own = f"{fault.path} {fault.function}", Path(fault.path).stem.split("_")[0]
        return sorted(
            reached,
            key=lambda test: (
                -self._killers[place, test],
                own not in test.partition("::")[0],
                reach[test].seconds,
            ),
        )

    def _fork(
        self, fault: Fault, tests: list[tuple[pytest.Item, float]]
    ) -> dict[int, tuple[Fault, int]]:
        readable, writable = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(readable)
            with contextlib.suppress(BaseException):
                _run(fault, tests, writable)
            os._exit(0)
        os.close(writable)
        return {child: (fault, readable)}

    def _wait(self, running: dict[int, tuple[Fault, int]], kept: _Verdicts) -> None:
        child, status = os.waitpid(-1, 0)
        if child not in running:
            return
        fault, readable = running.pop(child)
        with os.fdopen(readable) as pipe:
            lines = pipe.read().splitlines()
        verdict = lines[-1] if lines else UNCHANGED
        if verdict == SURVIVED and status != 0:
            raise pytest.UsageError(f"a fork ended with {status}: {fault.key()}")
        if verdict not in (SURVIVED, UNCHANGED):
            self._killers[f"{fault.path} {fault.function}", verdict] += 1
        kept.keep(fault, verdict)
        self._record(fault, verdict)

    def _record(self, fault: Fault, verdict: str) -> None:
        self.verdicts[fault] = verdict
        self.on_verdict(fault, verdict)


def _warm_up(items: Iterable[pytest.Item], reach: dict[str, Reach]) -> None:
    """Run one test of each folder that reaches much: no fork then loads what they all need."""
    widest: dict[Path, pytest.Item] = {}
    for item in sorted(items, key=lambda item: -len(reach[item.nodeid].statements)):
        if reach[item.nodeid].seconds < 1:
            widest.setdefault(item.path.parent, item)
    for item in widest.values():
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
    gc.collect()
    gc.freeze()


def _run(fault: Fault, tests: list[tuple[pytest.Item, float]], out: int) -> None:
    """Writes each test that begins; the last line is the one that failed, or that none did."""
    with Path(os.devnull).open("w") as silence:
        os.dup2(silence.fileno(), 1)
        os.dup2(silence.fileno(), 2)
    if not infect(fault):
        os.write(out, f"{UNCHANGED}\n".encode())
        return
    for number, (item, seconds) in enumerate(tests):
        os.write(out, f"{item.nodeid}\n".encode())
        used = resource.getrusage(resource.RUSAGE_SELF)
        most = int(used.ru_utime + used.ru_stime + GRACE_SECONDS + SLOWEST * seconds)
        resource.setrlimit(resource.RLIMIT_CPU, (most, resource.RLIM_INFINITY))
        signal.alarm(WAIT_SECONDS + int(SLOWEST * seconds))
        following = tests[number + 1][0] if number + 1 < len(tests) else None
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        if item.session.testsfailed:
            return
    os.write(out, f"{SURVIVED}\n".encode())


class _Verdicts:
    """A caught fault stays caught while its file stays the same; one that survived is tried again
    once a test has changed."""

    def __init__(self, tests: str) -> None:
        KEPT.mkdir(parents=True, exist_ok=True)
        self._file, self._tests = KEPT / "verdicts.jsonl", tests
        self._known: dict[str, str] = {}
        if self._file.exists():
            for line in self._file.read_text().splitlines():
                entry = json.loads(line)
                is_caught = entry["verdict"] not in (SURVIVED, UNCHANGED)
                if is_caught or entry["tests"] == tests:
                    self._known[entry["fault"]] = entry["verdict"]

    def known(self, fault: Fault) -> str | None:
        return self._known.get(fault.digest())

    def keep(self, fault: Fault, verdict: str) -> None:
        entry = {"fault": fault.digest(), "verdict": verdict, "tests": self._tests}
        with self._file.open("a") as lines:
            lines.write(json.dumps(entry) + "\n")


# --- which test reaches what ----------------------------------------------------------------------


def _reach(session: pytest.Session, files: Sequence[Path]) -> dict[str, Reach]:
    """By test. Runs again what has changed since it was kept."""
    KEPT.mkdir(parents=True, exist_ok=True)
    found: dict[str, Reach] = {}
    items: dict[Path, list[pytest.Item]] = defaultdict(list)
    for item in session.items:
        items[item.path].append(item)
    shared = _digest([*Path("src").rglob("*.py"), *_shared_test_files()], *map(str, files))
    for path, those in items.items():
        name = _digest([path], shared, *(item.nodeid for item in those))
        kept = KEPT / "reach" / f"{name}.json"
        if not kept.exists():
            kept.parent.mkdir(exist_ok=True)
            print(f"which statements does {path.name} reach?", file=sys.stderr, flush=True)
            child = os.fork()
            if child == 0:
                try:
                    _observe(those, files, kept)
                except BaseException:
                    traceback.print_exc()
                os._exit(0)
            os.waitpid(child, 0)
        for test, seconds, statements in json.loads(kept.read_text()):
            found[test] = Reach(seconds, frozenset(statements))
    return found


def _observe(items: list[pytest.Item], files: Sequence[Path], kept: Path) -> None:
    """Writes for each test: its name, its seconds (-1 when it fails), the statements it ran."""
    ran: set[str] = set()
    for path in files:
        observe(str(path), ran.add)
    seen: list[Any] = []
    for number, item in enumerate(items):
        ran.clear()
        began, failed = time.process_time(), item.session.testsfailed
        following = items[number + 1] if number + 1 < len(items) else None
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        fails = item.session.testsfailed > failed
        seen.append((item.nodeid, -1 if fails else time.process_time() - began, sorted(ran)))
    kept.with_suffix(".part").write_text(json.dumps(seen))
    kept.with_suffix(".part").replace(kept)


def _test_files() -> Iterator[Path]:
    yield from Path("tests").rglob("*.py")


def _shared_test_files() -> Iterator[Path]:
    return (
        each for each in _test_files() if not each.name.startswith(("test_", "fault_", "mutate"))
    )


def _file_digest(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()


def _digest(files: Sequence[Path], *more: str) -> str:
    parts = [*sorted(_file_digest(each) for each in files), *more]
    return sha256("\n".join(parts).encode()).hexdigest()[:32]
