"""`refunds-dev precompile`: compiles what `sam build` made, so that functions start faster.

`sam build` packages source only, and Lambda's file system is read-only: without this step every
cold start compiles every module again. The files are unchecked (PEP 552): Python loads them without
a look at the source, whose time stamps don't survive zipping.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from refunds_ops.errors import NotReadyError
from refunds_ops.terminal import print_line

BUILT = Path(".aws-sam/build")
TASK_ROOT = "/var/task"
"""Where Lambda unpacks a function. Tracebacks show the paths that the compiler was told."""

COMPILE_SECONDS = 300.0
FIND_SECONDS = 30.0

NOT_LOADED = ("bin", "**/*.pyi", "**/tests", "**/__pycache__")
"""What no function loads: scripts, type stubs, tests, and what an earlier run compiled."""

NOT_COMPILED = r"/stripe/(?!v2/)[a-z_]+/"
"""What our adapter of Stripe never imports of its SDK: most of it, and a third of the package."""

_EXTENSION = re.compile(r"\.cpython-(\d)(\d+)-")


@click.command("precompile")
@click.option(
    "--build-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=BUILT,
    show_default=True,
    help="What `sam build` made.",
)
@click.option(
    "--python",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The interpreter to compile with. By default it is searched for.",
)
def precompile_command(build_dir: Path, python: Path | None) -> None:
    """Compile what `sam build` made. Run it before `sam deploy`.

    It needs a Python of the functions' own version (PythonRuntime), and fails with any other: a
    function passes over what another version compiled, without a word.
    """
    for package in precompile(build_dir, python):
        print_line(f"{package} is compiled.")


def precompile(build_dir: Path, python: Path | None = None) -> list[Path]:
    """Compile each package in the folder; returns them. Raises ``NotReadyError``."""
    packages = sorted(each.parent for each in build_dir.glob("*/refunds") if each.is_dir())
    if not packages:
        raise NotReadyError(f"{build_dir} has no function's package.", "Run `sam build` first.")
    for package in packages:
        version = python_of(package)
        interpreter = python or find_python(version)
        _check_version(interpreter, version)
        _remove_not_loaded(package)
        _compile(package, interpreter)
    return packages


def python_of(package: Path) -> str:
    """The version of Python, such as 3.13, that a package's compiled wheels are for."""
    names = (each.name for each in package.rglob("*.so"))
    versions = {".".join(found.groups()) for name in names if (found := _EXTENSION.search(name))}
    if len(versions) != 1:
        raise NotReadyError(
            f"{package} is for {' and '.join(sorted(versions)) or 'no version'} of Python.",
            "Delete the folder and run `sam build` again, with one PythonRuntime.",
        )
    return versions.pop()


def find_python(version: str) -> Path:
    """An interpreter of this version on this machine. Raises ``NotReadyError``."""
    if _version_of(Path(sys.executable)) == version:
        return Path(sys.executable)
    for candidate in _candidates(version):
        if _version_of(candidate) == version:
            return candidate
    raise NotReadyError(
        f"The functions run on Python {version}, and this machine has none to compile them with.",
        f"Install it (uv python install {version}) or name it with --python. You can deploy "
        "without this step: each cold start then takes 1.4 to 1.7 times the CPU.",
    )


def _candidates(version: str) -> Iterator[Path]:
    if on_path := shutil.which(f"python{version}"):
        yield Path(on_path)
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    if uv:
        found = subprocess.run(
            [uv, "python", "find", "--no-project", "--no-python-downloads", version],
            check=False,
            capture_output=True,
            text=True,
            timeout=FIND_SECONDS,
        )
        if found.returncode == 0:
            yield Path(found.stdout.strip())
    # pyenv's commands on the path refuse versions that are installed but not switched on.
    yield from sorted((Path.home() / ".pyenv/versions").glob(f"{version}.*/bin/python"))


def _check_version(interpreter: Path, version: str) -> None:
    found = _version_of(interpreter)
    if found != version:
        raise NotReadyError(
            f"{interpreter} is Python {found or 'of no known version'}; the functions run on "
            f"{version}, which would pass over what it compiles.",
            f"Name a Python {version} with --python.",
        )


def _version_of(interpreter: Path) -> str | None:
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    try:
        done = subprocess.run(
            [interpreter, "-I", "-c", code],
            check=False,
            capture_output=True,
            text=True,
            timeout=FIND_SECONDS,
        )
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _remove_not_loaded(package: Path) -> None:
    for pattern in NOT_LOADED:
        for each in sorted(package.glob(pattern)):
            if each.is_dir():
                shutil.rmtree(each)
            else:
                each.unlink(missing_ok=True)


def _compile(package: Path, interpreter: Path) -> None:
    done = subprocess.run(
        [
            *(interpreter, "-I", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"),
            *("-x", NOT_COMPILED, "-s", package, "-p", TASK_ROOT, package),
        ],
        check=False,
        capture_output=True,
        text=True,
        timeout=COMPILE_SECONDS,
    )
    if done.returncode != 0:
        raise NotReadyError(
            f"{interpreter} could not compile {package}: {(done.stdout + done.stderr)[-2000:]}",
            "Run `sam build` again. If a library's file is named, it may not support this Python.",
        )
