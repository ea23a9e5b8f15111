"""The packages that a function finds in Lambda: the locked ones, and boto3 from Lambda's runtime.

They are in separate folders, so that benchmarks see nothing of the developer's environment.
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
    """The folder of what is packaged and what Lambda provides. Installs it if it is missing."""
    lock = PROJECT / "src/requirements.txt"
    folder = run_folder() / "runtime"
    mark = folder / ".installed"
    fingerprint = f"{lock.read_text()} {version('botocore')} {sys.version}"
    if not (mark.exists() and mark.read_text() == fingerprint):
        install(folder, "--requirement", str(lock))
        brought = ("boto3", "botocore", "s3transfer", "python-dateutil", "six", "jmespath")
        install(folder, *(f"{name}=={version(name)}" for name in brought))
        compileall.compile_dir(str(folder), quiet=2)
        mark.write_text(fingerprint)
    return folder


def baselines_libraries() -> Path:
    """The folder of what only the baselines use."""
    folder = run_folder() / f"requests-{version('requests')}"
    if not folder.exists():
        names = ("requests", "certifi", "charset-normalizer", "idna")
        install(folder, *(f"{name}=={version(name)}" for name in names))
        compileall.compile_dir(str(folder), quiet=2)
    return folder


def install(folder: Path, *what: str, dependencies: bool = False) -> None:
    """Install packages into a folder, with their dependencies on request."""
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
