"""Create .venv (all that people run), .venv-emulator or .venv-scanner (checkov) from a hashed lock.

ops/bootstrap.sh runs this with a Python that it found, so only the standard library is imported.
It does nothing while the environment matches its lock. The file that records the match is written
last: an interrupted run is repeated by the next one.
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
USAGE_ERROR = 2
ENVIRONMENT_ERROR = 3
INTERRUPTED = 130
RETRY_AFTER_SECONDS = (2, 8)
COMMAND_SECONDS = 900

Command: TypeAlias = Sequence[str | Path]


@dataclass(frozen=True)
class Environment:
    folder: Path
    lock: Path
    sources: tuple[Path, ...]
    """The environment is recreated when one of these changes."""


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
    "scanner": Environment(
        ROOT / ".venv-scanner",
        ROOT / "requirements/scanner.txt",
        (ROOT / "requirements/scanner.txt", Path(__file__)),
    ),
}


class BootstrapError(Exception):
    """The message says what is wrong and what to do."""


def main() -> int:
    arguments = sys.argv[1:]
    if arguments not in ([name] for name in ENVIRONMENTS):
        print("usage: ops/bootstrap.sh dev|emulator|scanner", file=sys.stderr)
        return USAGE_ERROR
    [name] = arguments
    try:
        _bring_up_to_date(name, ENVIRONMENTS[name])
    except BootstrapError as exc:
        print(f"\n{exc}", file=sys.stderr)
        return ENVIRONMENT_ERROR
    except KeyboardInterrupt:
        print("\nInterrupted; the next `make` continues from here.", file=sys.stderr)
        return INTERRUPTED
    return 0


def _bring_up_to_date(name: str, environment: Environment) -> None:
    with environment.lock.open() as lock:
        # When two `make` run at once, the second waits here and then finds everything installed.
        fcntl.flock(lock, fcntl.LOCK_EX)
        fingerprint = _fingerprint(environment)
        record = environment.folder / "made-from"
        recorded = record.read_text() if record.is_file() and _works(environment.folder) else ""
        if recorded == fingerprint:
            return
        started = time.monotonic()
        print(f"Setting up {environment.folder.name} with Python {_python_version()} …")
        record.unlink(missing_ok=True)
        # A complete environment of the same Python is kept: uv installs only the differences.
        if recorded.split()[:1] != [_python_version()]:
            _create_empty(name, environment)
        _install_locked(environment)
        if name == "dev":
            _install_project(environment)
        record.write_text(fingerprint)
        print(f"Set up {environment.folder.name} in {time.monotonic() - started:.0f} s.")


def _create_empty(name: str, environment: Environment) -> None:
    """Each environment is filled by the pip and uv of .venv."""
    if name != "dev":
        if not (ROOT / ".venv/bin/uv").exists():
            raise BootstrapError("There is no .venv yet.\n  Do: ops/bootstrap.sh dev")
        _run(
            "creating the environment",
            [_base_python(), "-m", "venv", "--clear", "--without-pip", environment.folder],
        )
        return
    if importlib.util.find_spec("ensurepip") is None or importlib.util.find_spec("venv") is None:
        short = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise BootstrapError(
            f"This Python ({_base_python()}) cannot create virtual environments: venv is missing.\n"
            f"  Debian, Ubuntu: apt-get install python{short}-venv   (or python3-venv)\n"
            "  Elsewhere: install a Python that has it, then: make … PYTHON=/path/to/python3"
        )
    command: Command = [_base_python(), "-m", "venv", "--clear", environment.folder]
    _run("creating the environment", command)
    with tempfile.TemporaryDirectory() as scratch:
        uv_lock = Path(scratch) / "uv.txt"
        uv_lock.write_text(_locked("uv", environment.lock))
        pip = _pip_install(environment.folder / "bin/python")
        _download("uv", [*pip, "--require-hashes", "--no-deps", "-r", uv_lock])


def _install_project(environment: Environment) -> None:
    """The locked build backend builds it, so no network is needed."""
    pip = _pip_install(environment.folder / "bin/python")
    options = ("--no-deps", "--no-build-isolation", "--no-index", "--editable")
    _run("installing the project", [*pip, *options, ROOT])


def _pip_install(python: Path) -> list[str | Path]:
    base: Command = [
        ROOT / ".venv/bin/python",
        "-m",
        "pip",
        "--disable-pip-version-check",
        "--retries",
        "2",
    ]
    return [*base, "--quiet", "--python", python, "install"]


def _install_locked(environment: Environment) -> None:
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
        # pip is slower, but it reads settings that uv does not know.
        print("uv failed; trying pip …", file=sys.stderr)
        pip = _pip_install(python)
        _download(
            environment.lock.name, [*pip, "--require-hashes", "--no-deps", "-r", environment.lock]
        )


def _download(what: str, command: Command, more: dict[str, str] | None = None) -> None:
    for pause_seconds in (*RETRY_AFTER_SECONDS, None):
        try:
            return _run(f"installing {what}", command, more, hint=_network_hint)
        except BootstrapError:
            if pause_seconds is None:
                raise
        print(f"Installing {what} failed; trying again in {pause_seconds} s …", file=sys.stderr)
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
        quoted = "\n".join(f"  | {line[:200]}" for line in lines[-12:])
        raise BootstrapError(f"{what} failed:\n{quoted}\n{hint(output)}".rstrip()) from exc


_NO_NETWORK = re.compile(
    r"resolve|resolution|unreachable|timed? ?out|refused|connection|connect|proxy|certificate"
    r"|temporary failure|error sending request|tls|ssl",
    re.IGNORECASE,
)


def _network_hint(output: str) -> str:
    if "hash" in output.lower() and "mismatch" in output.lower():
        return (
            "A download does not match the lock: the package index has another file.\n"
            "  Find out why before you continue."
        )
    if _NO_NETWORK.search(output):
        return (
            "The package index could not be reached.\n"
            "  Check the network. Behind a proxy: export HTTPS_PROXY=http://…\n"
            "  For your own package index: pip config set global.index-url https://…\n"
            "  Then run the same make again. It keeps what was downloaded."
        )
    return "  Run the same make again. If it fails again, the lines above say why."


def _locked(package: str, lock: Path) -> str:
    found = re.search(rf"^{package}==(?:.*\\\n)*.*\n", lock.read_text(), re.MULTILINE)
    if found is None:
        raise BootstrapError(f"{lock} has no {package}.\n  Do: git checkout {lock}")
    return found.group()


def _fingerprint(environment: Environment) -> str:
    digest = hashlib.sha256(str(environment.folder).encode())
    for file in environment.sources:
        digest.update(file.read_bytes())
    return f"{_python_version()} {digest.hexdigest()}\n"


def _works(folder: Path) -> bool:
    """Whether its Python still runs. A system upgrade can remove the Python it links to."""
    try:
        subprocess.run([folder / "bin/python", "-c", ""], check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return False
    return True


def _python_version() -> str:
    return ".".join(map(str, sys.version_info[:3]))


def _base_python() -> str:
    """The system's Python: this one may belong to the environment that is about to be replaced."""
    return str(getattr(sys, "_base_executable", None) or sys.executable)


if __name__ == "__main__":
    sys.exit(main())
