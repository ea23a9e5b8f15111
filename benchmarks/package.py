"""The size of the upload to Lambda: the locked packages and src/refunds, zipped."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

from benchmarks.environment import run_folder
from benchmarks.results import Result
from benchmarks.runtime import install
from benchmarks.servers import PROJECT

MOST_MB = 7.5


def package_results() -> list[Result]:
    """The target only guards against growth. With boto3 the package is 22 MB."""
    folder = run_folder() / "package"
    shutil.rmtree(folder, ignore_errors=True)
    install(folder, "--requirement", str(PROJECT / "src/requirements.txt"))
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PROJECT / "src/refunds", folder / "refunds", ignore=ignore)
    archive = zipped(folder, run_folder() / "package.zip")
    plain = sum(each.stat().st_size for each in folder.rglob("*") if each.is_file())
    return [
        Result(
            "package, zipped",
            archive.stat().st_size / 1e6,
            "MB",
            target=MOST_MB,
            is_count=True,
            note=f"{plain / 1e6:.1f} MB unpacked",
        )
    ]


def zipped(folder: Path, archive: Path) -> Path:
    """All files below ``folder``, compressed as `sam deploy` does."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for each in sorted(folder.rglob("*")):
            if each.is_file():
                file.write(each, each.relative_to(folder))
    return archive
