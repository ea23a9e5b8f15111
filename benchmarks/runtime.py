"""What a function finds in Lambda: the locked packages, and boto3 from Lambda's own runtime.

Installed into folders of their own, so that nothing of a developer's environment is measured.
"""

from __future__ import annotations

import compileall
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from benchmarks.environment import function_environment, run_folder
from benchmarks.servers import PROJECT
from refunds_devkit.package_index import pip_settings, uv_environment


def lambda_runtime() -> Path:
    """A folder with what is packaged and what Lambda brings, installed if it isn't there yet."""
    lock = PROJECT / "src/requirements.txt"
    folder = run_folder() / "runtime"
    mark = folder / ".installed"
    wanted = f"{lock.read_text()} {version('botocore')} {sys.version}"
    if not (mark.exists() and mark.read_text() == wanted):
        install(folder, "--requirement", str(lock))
        brought = ("boto3", "botocore", "s3transfer", "python-dateutil", "six", "jmespath")
        install(folder, *(f"{name}=={version(name)}" for name in brought))
        compileall.compile_dir(str(folder), quiet=2)
        mark.write_text(wanted)
    return folder


def baselines_libraries() -> Path:
    """A folder with what only the baselines use."""
    folder = run_folder() / f"requests-{version('requests')}"
    if not folder.exists():
        names = ("requests", "certifi", "charset-normalizer", "idna")
        install(folder, *(f"{name}=={version(name)}" for name in names))
        compileall.compile_dir(str(folder), quiet=2)
    return folder


def install(folder: Path, *what: str, dependencies: bool = False) -> None:
    """Put packages, and what they depend on if wanted, into a folder."""
    alone = () if dependencies else ("--no-deps",)
    subprocess.run(
        [
            str(Path(sys.executable).parent / "uv"),
            *("pip", "install", "--quiet", "--no-config", *alone),
            *("--python", sys.executable, "--target", str(folder), *what),
        ],
        env=function_environment("http://127.0.0.1:1")
        | uv_environment(pip_settings(Path(sys.executable))),
        check=True,
        timeout=300,
    )
