"""A pytest plugin: the tests that reach a fault run in a fork of their own, until one fails.

First each test file runs once, to see which statements its tests reach. That is kept in
``.local/mutate`` until a file of ``src`` or of what tests share changes.
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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from tests.simulator.fault_code import infect, observe, original_code, statement_at
from tests.simulator.fault_making import Fault
from tests.simulator.fault_memory import KEPT, Memory, fingerprints

NO_TEST = "no test reaches it"
UNCHANGED = "in no function's code"
SURVIVED = "survived"
SO_FAR = "survived so far"
"""Not all tests that reach it have run: it was given up for another fault."""

SLOWEST = 8
"""A test may take so many times as long as without a fault, and ``GRACE_SECONDS``: one that a fault
makes loop, or wait for ever, has caught it."""

GRACE_SECONDS = 2
WAIT_SECONDS = 30
"""The same for one that waits, on a machine that is busy."""


@dataclass(frozen=True)
class Reach:
    """What a test ran: statements of the faults' files, and how long it took."""

    seconds: float
    statements: frozenset[str]


@dataclass(frozen=True)
class Running:
    """A fork: its fault, and where it writes which tests have begun."""

    fault: Fault
    pipe: int


@dataclass
class Hunt:
    """``verdicts``: by fault, the test that caught it, or one of the texts above.

    ``most_seconds``: CPU time after which a fault that lives is given up until the next run.
    """

    files: Sequence[Path]
    faults: Sequence[Fault]
    ends: float
    jobs: int
    forget: bool
    most_seconds: float
    verdicts: dict[Fault, str] = field(default_factory=dict)
    on_verdict: Callable[[Fault, str], None] = lambda fault, verdict: None
    _killers: Counter[tuple[str, str]] = field(default_factory=Counter)
    _running: dict[int, Running] = field(default_factory=dict)

    def pytest_configure(self, config: pytest.Config) -> None:
        """The same examples each time, and no search for the smallest that fails."""
        import hypothesis  # not before pytest, which rewrites its plugins

        phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
        hypothesis.settings.register_profile(
            "mutate",
            database=None,
            derandomize=True,
            phases=phases,
            deadline=None,
            # A busy machine must not make a test fail: the fault would count as caught.
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        hypothesis.settings.load_profile("mutate")

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        reach = _reach(session, self.files)
        memory = Memory(fingerprints(session.items))
        open_faults = self._from_memory(memory, reach)
        _warm_up(session.items, reach, self.files)
        by_id = {item.nodeid: item for item in session.items}
        for fault, reached in open_faults:
            if time.monotonic() > self.ends:
                break
            order = self._order(fault, reached, reach)
            self._fork(fault, [(by_id[test], reach[test].seconds) for test in order])
            while len(self._running) >= self.jobs:
                self._wait(memory)
        while self._running:
            self._wait(memory)
        return True

    def _from_memory(
        self, memory: Memory, reach: dict[str, Reach]
    ) -> list[tuple[Fault, list[str]]]:
        """What has to run: each fault with the tests that it has not met. Those that no run has
        tried come first."""
        tests_of: dict[str, list[str]] = defaultdict(list)
        for test, seen in reach.items():
            for statement in seen.statements:
                tests_of[statement].append(test)
        found: list[tuple[Fault, list[str]]] = []
        for fault in self.faults:
            reached = tests_of[statement_at(fault.path, fault.line)]
            caught_by = None if self.forget else memory.caught_by(fault)
            not_met = reached if self.forget else memory.not_met(fault, reached)
            if caught_by is not None:
                self._record(fault, caught_by)
            elif not reached:
                self._record(fault, NO_TEST)
            elif not not_met:
                self._record(fault, SURVIVED)
            else:
                found.append((fault, not_met))
                if memory.was_tried(fault) and not self.forget:
                    self.verdicts[fault] = SO_FAR
        return sorted(found, key=lambda entry: memory.was_tried(entry[0]))

    def _order(self, fault: Fault, reached: list[str], reach: dict[str, Reach]) -> list[str]:
        """What caught this function's faults before, then the module's own tests, then what caught
        the file's, then the rest by how long they take."""
        own = Path(fault.path).stem.split("_")[0]
        return sorted(
            reached,
            key=lambda test: (
                -self._killers[f"{fault.path} {fault.function}", test],
                own not in test.partition("::")[0],
                -self._killers[fault.path, test],
                reach[test].seconds,
            ),
        )

    def _fork(self, fault: Fault, tests: list[tuple[pytest.Item, float]]) -> None:
        readable, writable = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(readable)
            status = 1
            with contextlib.suppress(BaseException):
                _run(fault, tests, writable, self.most_seconds)
                status = 0
            os._exit(status)
        os.close(writable)
        self._running[child] = Running(fault, readable)

    def _wait(self, memory: Memory) -> None:
        child, status = os.waitpid(-1, 0)
        if child not in self._running:
            return
        ended = self._running.pop(child)
        with os.fdopen(ended.pipe) as pipe:
            *begun, verdict = pipe.read().splitlines() or [""]
        if not verdict or (verdict in (SURVIVED, SO_FAR) and status != 0):
            raise pytest.UsageError(f"a fork ended with {status}: {ended.fault.key()}")
        if verdict in (SURVIVED, SO_FAR):
            memory.passed(ended.fault, begun)
        elif verdict != UNCHANGED:
            memory.caught(ended.fault, verdict)
        self._record(ended.fault, verdict)

    def _record(self, fault: Fault, verdict: str) -> None:
        self.verdicts[fault] = verdict
        self._killers[f"{fault.path} {fault.function}", verdict] += 1
        self._killers[fault.path, verdict] += 1
        self.on_verdict(fault, verdict)


def _warm_up(items: Sequence[pytest.Item], reach: dict[str, Reach], files: Sequence[Path]) -> None:
    """Run one test of each folder that reaches much: no fork then loads what they all need."""
    for path in files:
        original_code(str(path))
    widest: dict[Path, pytest.Item] = {}
    for item in sorted(items, key=lambda item: -len(reach[item.nodeid].statements)):
        if reach[item.nodeid].seconds < 1:
            widest.setdefault(item.path.parent, item)
    for item in widest.values():
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
    gc.collect()
    gc.freeze()


def _run(
    fault: Fault, tests: list[tuple[pytest.Item, float]], out: int, most_seconds: float
) -> None:
    """Writes each test that begins; the last line is the one that failed, or a verdict."""
    with Path(os.devnull).open("w") as silence:
        os.dup2(silence.fileno(), 1)
        os.dup2(silence.fileno(), 2)
    if not infect(fault):
        os.write(out, f"{UNCHANGED}\n".encode())
        return
    began = time.process_time()
    for number, (item, seconds) in enumerate(tests):
        if time.process_time() - began > most_seconds:
            os.write(out, f"{SO_FAR}\n".encode())
            return
        os.write(out, f"{item.nodeid}\n".encode())
        used = resource.getrusage(resource.RUSAGE_SELF)
        most = int(used.ru_utime + used.ru_stime + GRACE_SECONDS + SLOWEST * seconds) + 1
        resource.setrlimit(resource.RLIMIT_CPU, (most, resource.RLIM_INFINITY))
        signal.alarm(WAIT_SECONDS + int(SLOWEST * seconds))
        following = tests[number + 1][0] if number + 1 < len(tests) else None
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        if item.session.testsfailed:
            return
    os.write(out, f"{SURVIVED}\n".encode())


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
        for _ in range(2):  # a busy machine may fail a test of deadlines once
            if not kept.exists():
                _observe_in_a_fork(those, files, kept)
            if not _has_failed(kept):
                break
            kept.unlink()
        else:
            raise pytest.UsageError(f"tests of {path} fail without any fault")
        for test, seconds, statements in json.loads(kept.read_text()):
            found[test] = Reach(seconds, frozenset(statements))
    return found


def _observe_in_a_fork(items: list[pytest.Item], files: Sequence[Path], kept: Path) -> None:
    kept.parent.mkdir(exist_ok=True)
    print(f"which statements does {items[0].path.name} reach?", file=sys.stderr, flush=True)
    child = os.fork()
    if child == 0:
        try:
            _observe(items, files, kept)
        except BaseException:
            traceback.print_exc()
        os._exit(0)
    os.waitpid(child, 0)


def _has_failed(kept: Path) -> bool:
    return any(seconds < 0 for _, seconds, _ in json.loads(kept.read_text()))


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
