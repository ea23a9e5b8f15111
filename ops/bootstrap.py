"""Make .venv (all that people run) or .venv-emulator (the AWS emulator) from their hashed locks.

Run by ops/bootstrap.sh with any Python that will do; standard library only. Does nothing when the
environment is already what its lock says. The mark that says so is written last, so whatever is
interrupted is made anew.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from refunds_devkit.package_index import pip_settings, uv_environment

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT_ERROR = 3
PAUSES_SECONDS = (2, 8)
"""Before the second and the third try of a download."""
COMMAND_SECONDS = 900

Command: TypeAlias = Sequence[str | Path]


@dataclass(frozen=True)
class Environment:
    folder: Path
    lock: Path
    made_from: tuple[Path, ...]


ENVIRONMENTS = {
    "dev": Environment(
        ROOT / ".venv",
        ROOT / "requirements/dev.txt",
        (ROOT / "requirements/dev.txt", ROOT / "pyproject.toml", Path(__file__)),
    ),
    "emulator": Environment(
        ROOT / ".venv-emulator",
        ROOT / "requirements/emulator.txt",
        (ROOT / "requirements/emulator.txt", Path(__file__)),
    ),
}


class BootstrapError(Exception):
    """What is wrong, and what to do about it."""


def main() -> int:
    name = sys.argv[1] if len(sys.argv) == 2 else ""
    if name not in ENVIRONMENTS:
        print("usage: ops/bootstrap.sh dev|emulator", file=sys.stderr)
        return 2
    try:
        return _make(name, ENVIRONMENTS[name])
    except BootstrapError as exc:
        print(f"\n{exc}", file=sys.stderr)
        return ENVIRONMENT_ERROR
    except KeyboardInterrupt:
        print("\nInterrupted; the next `make` goes on from here.", file=sys.stderr)
        return 130


def _make(name: str, environment: Environment) -> int:
    with environment.lock.open() as lock:
        # Two `make` at once: the second waits, then finds everything done.
        fcntl.flock(lock, fcntl.LOCK_EX)
        wanted = _mark(environment)
        mark = environment.folder / "made-from"
        there = mark.read_text() if mark.is_file() and _works(environment.folder) else ""
        if there == wanted:
            return 0
        began = time.monotonic()
        print(f"Setting up {environment.folder.name} with Python {_python_version()} …")
        mark.unlink(missing_ok=True)
        # Whole before, and of the same Python: only what the lock has changed is installed.
        if there.split()[:1] != [_python_version()]:
            _make_empty(name, environment)
        _download_locked(environment)
        if name == "dev":
            _install_project(environment)
        mark.write_text(wanted)
        print(f"Set up {environment.folder.name} in {time.monotonic() - began:.0f} s.")
    return 0


def _make_empty(name: str, environment: Environment) -> None:
    """A new environment; .venv has pip and uv, which fill both."""
    if name == "emulator":
        if not (ROOT / ".venv/bin/uv").exists():
            raise BootstrapError("There is no .venv yet.\n  Do: ops/bootstrap.sh dev")
        _run(
            "making the environment",
            [_base_python(), "-m", "venv", "--clear", "--without-pip", environment.folder],
        )
        return
    if importlib.util.find_spec("ensurepip") is None or importlib.util.find_spec("venv") is None:
        short = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise BootstrapError(
            f"This Python ({_base_python()}) can't make virtual environments: venv is missing.\n"
            f"  Debian, Ubuntu: apt-get install python{short}-venv   (or python3-venv)\n"
            "  Elsewhere: install a Python that has it, then: make … PYTHON=/path/to/python3"
        )
    command: Command = [_base_python(), "-m", "venv", "--clear", environment.folder]
    _run("making the environment", command)
    with tempfile.TemporaryDirectory() as scratch:
        uv_lock = Path(scratch) / "uv.txt"
        uv_lock.write_text(_locked("uv", environment.lock))
        pip = _pip_install(environment.folder / "bin/python")
        _download("uv", [*pip, "--require-hashes", "--no-deps", "-r", uv_lock])


def _install_project(environment: Environment) -> None:
    """Editable, with the locked build backend: needs no network."""
    pip = _pip_install(environment.folder / "bin/python")
    options = ("--no-deps", "--no-build-isolation", "--no-index", "--editable")
    _run("installing the project", [*pip, *options, ROOT])


def _pip_install(python: Path) -> list[str | Path]:
    """.venv's pip, installing for ``python``."""
    base: Command = [
        ROOT / ".venv/bin/python",
        "-m",
        "pip",
        "--disable-pip-version-check",
        "--retries",
        "2",
    ]
    return [*base, "--quiet", "--python", python, "install"]


def _download_locked(environment: Environment) -> None:
    python = environment.folder / "bin/python"
    uv = ROOT / ".venv/bin/uv"
    command: Command = [
        *(uv, "pip", "sync", "--quiet", "--require-hashes", "--compile-bytecode"),
        *("--python", python, environment.lock),
    ]
    more = uv_environment(pip_settings(ROOT / ".venv/bin/python"))
    try:
        _download(environment.lock.name, command, more)
    except BootstrapError:
        # Slower, but it knows whatever pip was told that uv has no words for.
        print("uv could not; trying with pip …", file=sys.stderr)
        pip = _pip_install(python)
        _download(
            environment.lock.name, [*pip, "--require-hashes", "--no-deps", "-r", environment.lock]
        )


def _download(what: str, command: Command, more: dict[str, str] | None = None) -> None:
    for pause_seconds in (*PAUSES_SECONDS, None):
        try:
            return _run(f"installing {what}", command, more, hint=_network_hint)
        except BootstrapError:
            if pause_seconds is None:
                raise
        print(f"Installing {what} failed; again in {pause_seconds} s …", file=sys.stderr)
        time.sleep(pause_seconds)
    return None


def _run(
    what: str,
    command: Command,
    more: dict[str, str] | None = None,
    hint: Callable[[str], str] = lambda output: "",
) -> None:
    environment = {k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "PYTHONHOME")}
    try:
        subprocess.run(
            command,
            cwd=ROOT,
            env=environment | (more or {}),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=COMMAND_SECONDS,
            check=True,
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise BootstrapError(f"Could not finish {what}: {exc}") from exc
    except subprocess.CalledProcessError as exc:
        output = str(exc.stdout).strip()
        lines = [line for line in output.splitlines() if "Retrying (Retry" not in line] or [output]
        told = "\n".join(f"  | {line[:200]}" for line in lines[-12:])
        raise BootstrapError(f"{what} failed:\n{told}\n{hint(output)}".rstrip()) from exc


_NO_NETWORK = re.compile(
    r"resolve|resolution|unreachable|timed? ?out|refused|connection|connect|proxy|certificate"
    r"|temporary failure|error sending request|tls|ssl",
    re.IGNORECASE,
)


def _network_hint(output: str) -> str:
    if "hash" in output.lower() and "mismatch" in output.lower():
        return (
            "What was downloaded is not what the lock says: the package index has been changed.\n"
            "  Don't go on until you know why."
        )
    if _NO_NETWORK.search(output):
        return (
            "The package index could not be reached.\n"
            "  Check the network. Behind a proxy: export HTTPS_PROXY=http://…\n"
            "  With a package index of your own: pip config set global.index-url https://…\n"
            "  Then run the same make again; what was downloaded is kept."
        )
    return "  Run the same make again; if it stays, the lines above say why."


def _locked(package: str, lock: Path) -> str:
    """The lines of one package in a lock."""
    found = re.search(rf"^{package}==(?:.*\\\n)*.*\n", lock.read_text(), re.MULTILINE)
    if found is None:
        raise BootstrapError(f"{lock} has no {package}.\n  Do: git checkout {lock}")
    return found.group()


def _mark(environment: Environment) -> str:
    """What an environment is made from: when it changes, the environment is made anew."""
    digest = hashlib.sha256(str(environment.folder).encode())
    for file in environment.made_from:
        digest.update(file.read_bytes())
    return f"{_python_version()} {digest.hexdigest()}\n"


def _works(folder: Path) -> bool:
    """Whether its Python still runs: an upgrade of the system's may have taken it away."""
    try:
        subprocess.run([folder / "bin/python", "-c", ""], check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return False
    return True


def _python_version() -> str:
    return ".".join(map(str, sys.version_info[:3]))


def _base_python() -> str:
    """The Python below, when this one runs in an environment (perhaps the one to be made)."""
    return str(getattr(sys, "_base_executable", None) or sys.executable)


if __name__ == "__main__":
    sys.exit(main())
