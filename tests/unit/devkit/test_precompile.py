"""What `refunds-dev precompile` makes of a folder in the form that `sam build` leaves."""

from __future__ import annotations

import marshal
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from refunds_devkit.cli import cli
from refunds_devkit.precompile import find_python, precompile
from refunds_ops.errors import NotReadyError

MINE = f"{sys.version_info.major}.{sys.version_info.minor}"
OTHER = "3.13" if MINE != "3.13" else "3.12"

UNCHECKED = 0b01
"""PEP 552: by hash, and Python does not compare it with the source."""


def built(folder: Path, version: str = MINE) -> Path:
    """A build folder with one function's package, whose wheels are for ``version``."""
    package = folder / "ProcessRefund"
    tag = "cpython-" + version.replace(".", "")
    for name, content in {
        f"library/core.{tag}-aarch64-linux-gnu.so": "",
        "library/core.pyi": "",
        "library/tests/test_core.py": "",
        "bin/tool": "",
        "refunds/handlers.py": "def handler(): pass\n",
        "stripe/_refund.py": "",
        "stripe/params/_refund.py": "",
    }.items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return package


def compiled(source: Path) -> Path:
    tag = sys.implementation.cache_tag
    return source.parent / "__pycache__" / f"{source.stem}.{tag}.pyc"


def test_modules_are_compiled_unchecked_with_the_paths_of_lambda(tmp_path: Path) -> None:
    package = built(tmp_path)

    assert precompile(tmp_path) == [package]

    content = compiled(package / "refunds/handlers.py").read_bytes()
    assert int.from_bytes(content[4:8], "little") == UNCHECKED
    assert marshal.loads(content[16:]).co_filename == "/var/task/refunds/handlers.py"


def test_what_no_function_loads_is_removed_or_not_compiled(tmp_path: Path) -> None:
    package = built(tmp_path)
    precompile(tmp_path)

    assert not (package / "bin").exists()
    assert [each.name for each in (package / "library").iterdir()] == [
        f"core.cpython-{MINE.replace('.', '')}-aarch64-linux-gnu.so"
    ]
    assert compiled(package / "stripe/_refund.py").exists()
    assert (package / "stripe/params/_refund.py").exists()
    assert not compiled(package / "stripe/params/_refund.py").exists()


def test_running_it_again_changes_nothing(tmp_path: Path) -> None:
    package = built(tmp_path)
    precompile(tmp_path)
    before = {each: each.read_bytes() for each in package.rglob("*.*") if each.is_file()}
    precompile(tmp_path)
    assert before == {each: each.read_bytes() for each in package.rglob("*.*") if each.is_file()}


def test_another_python_than_the_functions_is_refused(tmp_path: Path) -> None:
    package = built(tmp_path, OTHER)

    with pytest.raises(NotReadyError, match=f"the functions run on {OTHER}"):
        precompile(tmp_path, Path(sys.executable))

    assert not list(package.rglob("*.pyc"))


def test_a_missing_python_is_named_with_what_to_do() -> None:
    with pytest.raises(NotReadyError, match=r"Python 3\.99") as caught:
        find_python("3.99")
    assert "uv python install 3.99" in caught.value.to_do[0]


@pytest.mark.parametrize("more", ["3.12", "3.14"])
def test_a_package_for_two_versions_is_refused(tmp_path: Path, more: str) -> None:
    built(tmp_path, "3.13")
    built(tmp_path, more)
    with pytest.raises(NotReadyError, match=f"3.1[23] and {more}|3.12 and 3.13"):
        precompile(tmp_path)


def test_the_command_says_when_nothing_is_built(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["precompile", "--build-dir", str(tmp_path / "none")])

    assert isinstance(result.exception, NotReadyError)
    assert result.exception.to_do == ("Run `sam build` first.",)


def test_source_that_does_not_compile_is_an_error(tmp_path: Path) -> None:
    (built(tmp_path) / "refunds/handlers.py").write_text("def (:\n")
    with pytest.raises(NotReadyError, match="could not compile"):
        precompile(tmp_path)
