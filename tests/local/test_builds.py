"""`sam build` for each promised Python on each processor: every dependency is a wheel for it.

Needs the package index. A build for another processor than this machine's is what people get who
deploy to arm64 from an x86_64 laptop, or the other way round.
"""

from __future__ import annotations

import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.expanded_template import load_template

from refunds_devkit.local.deployment import build
from refunds_devkit.local.workspace import PROJECT, Workspace

PARAMETERS = load_template()["Parameters"]
PYTHONS = PARAMETERS["PythonRuntime"]["AllowedValues"]
PROCESSORS = PARAMETERS["Architecture"]["AllowedValues"]
PLATFORMS = {"arm64": "aarch64-unknown-linux-gnu", "x86_64": "x86_64-unknown-linux-gnu"}
"""What SAM's python-uv builder asks uv for."""
MACHINES = {"arm64": 183, "x86_64": 62}
"""e_machine in the header of an ELF file."""


def test_the_promised_pythons_and_processors() -> None:
    assert PYTHONS == ["python3.11", "python3.12", "python3.13", "python3.14"]
    assert sorted(PROCESSORS) == sorted(PLATFORMS)


@pytest.mark.parametrize("processor", PROCESSORS)
@pytest.mark.parametrize("python", PYTHONS)
def test_every_dependency_has_a_wheel(python: str, processor: str, tmp_path: Path) -> None:
    subprocess.run(
        [
            *(Path(sys.executable).with_name("uv"), "pip", "install", "--quiet", "--no-config"),
            *("--no-deps", "--require-hashes", "--only-binary", ":all:", "--target", tmp_path),
            *("--python-version", python.removeprefix("python")),
            *("--python-platform", PLATFORMS[processor]),
            *("--requirements", PROJECT / "src/requirements.txt"),
        ],
        check=True,
        timeout=180,
    )
    _fits(tmp_path, python, processor)


def test_a_build_for_another_processor_and_python(tmp_path: Path) -> None:
    other = "x86_64" if platform.machine() in ("arm64", "aarch64") else "arm64"
    workspace = Workspace(tmp_path)
    build(workspace, {"PythonRuntime": "python3.14", "Architecture": other}, workspace.build)
    built = workspace.build / "ProcessRefund"
    assert (built / "refunds/handlers/process_refund.py").is_file()
    _fits(built, "python3.14", other)


def _fits(folder: Path, python: str, processor: str) -> None:
    extensions = [*folder.rglob("*.so"), *folder.rglob("*.so.*")]
    assert extensions, "pydantic and the compressors are compiled"
    tag = python.replace("python", "cpython-").replace(".", "")
    for extension in extensions:
        header = extension.read_bytes()[:20]
        assert header[:4] == b"\x7fELF"
        assert int.from_bytes(header[18:20], "little") == MACHINES[processor], extension.name
        if found := re.search(r"cpython-\d+", extension.name):
            assert found[0] == tag, extension.name
