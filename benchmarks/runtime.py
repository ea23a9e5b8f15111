"""What a function finds in Lambda: its own package, and boto3 from Lambda's runtime.

They are in separate folders, so that benchmarks see nothing of the developer's environment.
"""

from __future__ import annotations

import compileall
import hashlib
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from benchmarks.environment import function_environment, run_folder
from benchmarks.servers import PROJECT
from refunds_devkit.package_index import pip_settings, uv_environment


def built_package() -> Path:
    """The package that `sam build` makes of the functions, precompiled as for a deployment."""
    # Here, because a worker imports this module without the developer's environment.
    from refunds_devkit.local.deployment import build, build_parameters
    from refunds_devkit.local.workspace import Workspace
    from refunds_devkit.precompile import precompile

    folder = run_folder() / "built"
    mark = run_folder() / "built.fingerprint"
    fingerprint = _fingerprint_of_source()
    if not (mark.exists() and folder.exists() and mark.read_text() == fingerprint):
        build(Workspace(run_folder()), build_parameters(), folder)
        precompile(folder)
        mark.write_text(fingerprint)
    return next(folder.glob("*/refunds")).parent


def _fingerprint_of_source() -> str:
    digest = hashlib.sha256(sys.version.encode())
    sources = [*(PROJECT / "src").rglob("*.py"), PROJECT / "ops/refunds_devkit/precompile.py"]
    for each in sorted([*sources, PROJECT / "src/requirements.txt", PROJECT / "template.yaml"]):
        digest.update(each.read_bytes())
    return digest.hexdigest()


def lambda_runtime() -> Path:
    """The folder of what Lambda provides: boto3. Installs it if it is missing."""
    folder = run_folder() / f"boto3-{version('boto3')}-{version('botocore')}"
    if not folder.exists():
        brought = ("boto3", "botocore", "s3transfer", "python-dateutil", "six", "jmespath")
        install(folder, *(f"{name}=={version(name)}" for name in brought))
        compileall.compile_dir(str(folder), quiet=2)
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
