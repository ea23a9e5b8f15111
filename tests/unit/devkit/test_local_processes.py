"""Background processes: ours are found and ended, and nobody else's."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from refunds_devkit.local.ports import chosen_port, free_port, is_taken
from refunds_devkit.local.processes import Started, is_running, start, stop, wait_until
from refunds_devkit.local.running import run
from refunds_ops.errors import NotReadyError

SLEEPER = [sys.executable, "-c", "import time; time.sleep(600)"]
STUBBORN = [
    sys.executable,
    "-uc",
    "import signal, time\n"
    "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "print('x'); time.sleep(600)",
]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "process.log"


def test_a_started_process_runs_until_it_is_stopped(log: Path) -> None:
    process = start(SLEEPER, os.environ, log)
    assert is_running(process)
    assert os.getsid(process.pid) == process.pid  # so a Ctrl-C doesn't reach it
    assert stop(process)
    assert not is_running(process)
    assert not stop(process)


def test_one_that_was_stopped_is_not_said_to_be_running_still(log: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path;"
        " from refunds_devkit.local.processes import start, stop;"
        f" assert stop(start({SLEEPER!r}, os.environ, Path(sys.argv[1])))"
    )
    command = [sys.executable, "-W", "always", "-c", code, str(log)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_one_that_exits_between_two_looks_is_reaped(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = iter([True, False])
    monkeypatch.setattr("refunds_devkit.local.processes.is_running", lambda _: next(looks))
    process = start(SLEEPER, os.environ, log)
    assert stop(process)
    with pytest.raises(ChildProcessError):
        os.waitpid(process.pid, os.WNOHANG)


def test_one_that_ignores_the_gentle_way_is_killed(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("refunds_devkit.local.processes.TERM_SECONDS", 0.2)
    process = start(STUBBORN, os.environ, log)
    assert wait_until(lambda: log.read_text() == "x\n", 30)
    assert stop(process)
    assert not is_running(process)


def test_its_children_end_with_it(log: Path) -> None:
    code = "import os, time; print(os.fork() or os.getpid()); time.sleep(600)"
    process = start([sys.executable, "-uc", code], os.environ, log)
    assert wait_until(lambda: len(log.read_text().split()) == 2, 30)
    pids = {int(pid) for pid in log.read_text().split()}
    stop(process)
    child = Started((pids - {process.pid}).pop(), "unknown")
    assert wait_until(lambda: not _exists(child.pid), 30)


def test_a_process_that_only_has_the_same_pid_is_left_alone(log: Path) -> None:
    process = start(SLEEPER, os.environ, log)
    somebody_elses = replace(process, began="long ago")
    assert not is_running(somebody_elses)
    assert not stop(somebody_elses)
    assert is_running(process)
    stop(process)


def test_one_that_was_killed_from_outside_is_not_running(log: Path) -> None:
    process = start(SLEEPER, os.environ, log)
    os.kill(process.pid, signal.SIGKILL)
    assert wait_until(lambda: not is_running(process), 30)


def test_a_failing_command_is_told_with_its_last_words(log: Path) -> None:
    command = [sys.executable, "-c", "import sys; print('why', file=sys.stderr); sys.exit(7)"]
    with pytest.raises(NotReadyError) as caught:
        run(command, os.environ, log, seconds=60, failure="it failed", to_do=["do this"])
    assert caught.value.what == "it failed (exited with 7)."
    assert caught.value.to_do == ("| why", "do this", f"Log: {log}")


def test_a_command_that_takes_too_long_is_ended(log: Path) -> None:
    with pytest.raises(NotReadyError, match="did not finish within"):
        run(SLEEPER, os.environ, log, seconds=0.2, failure="it hung")


def test_a_command_gives_its_output(log: Path) -> None:
    said = run([sys.executable, "-c", "print('x')"], os.environ, log, seconds=60, failure="")
    assert said == "x\n"
    assert log.read_text() == "x\n"


def test_a_taken_port_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert is_taken(port)
        monkeypatch.setenv("EMULATOR_PORT", str(port))
        with pytest.raises(NotReadyError, match=f"Port {port} .* is taken") as caught:
            chosen_port("EMULATOR_PORT")
    assert "unset EMULATOR_PORT" in caught.value.to_do[0]


def test_a_port_is_chosen_or_free(monkeypatch: pytest.MonkeyPatch) -> None:
    free = free_port()
    monkeypatch.setenv("EMULATOR_PORT", str(free))
    assert chosen_port("EMULATOR_PORT") == free
    monkeypatch.setenv("EMULATOR_PORT", "high")
    with pytest.raises(NotReadyError, match="is not a port"):
        chosen_port("EMULATOR_PORT")
    monkeypatch.delenv("EMULATOR_PORT")
    assert not is_taken(chosen_port("EMULATOR_PORT"))


def _exists(pid: int) -> bool:
    shown = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False
    ).stdout.strip()
    return bool(shown) and not shown.startswith("Z")
