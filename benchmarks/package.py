"""The size of the upload to Lambda: what `sam build` and `refunds-dev precompile` make, zipped."""

from __future__ import annotations

import zipfile
from pathlib import Path

from benchmarks.environment import run_folder
from benchmarks.results import Result
from benchmarks.runtime import built_package

MOST_MB = 10.5


def package_results() -> list[Result]:
    """The target only guards against growth. With boto3 the package is 15 MB more."""
    folder = built_package()
    archive = zipped(folder, run_folder() / "package.zip")
    plain = sum(each.stat().st_size for each in folder.rglob("*") if each.is_file())
    return [
        Result(
            "package, zipped",
            archive.stat().st_size / 1e6,
            "MB",
            target=MOST_MB,
            is_count=True,
            note=f"{plain / 1e6:.1f} MB unpacked, compiled modules included",
        )
    ]


def zipped(folder: Path, archive: Path) -> Path:
    """All files below ``folder``, compressed as `sam deploy` does."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for each in sorted(folder.rglob("*")):
            if each.is_file():
                file.write(each, each.relative_to(folder))
    return archive
