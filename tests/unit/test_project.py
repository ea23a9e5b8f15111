"""The project's own promises: its declared dependencies, and what CI and Git hooks run."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
OWN = {"refunds", "refunds_ops", "refunds_console", "refunds_devkit"}
DISTRIBUTION_OF = {
    "aws_lambda_powertools": "aws-lambda-powertools",
    "botocore": "boto3",  # each boto3 asks for the botocore that it works with
    "markupsafe": "jinja2",  # a part of its own since version 2
    "pydantic_core": "pydantic",
}
LOADED_BY_NAME = {"backports.zstd"}
"""``refunds.backup.export_format`` imports it with ``importlib``."""


def test_every_import_of_the_product_is_a_declared_dependency() -> None:
    imported = third_party_imports(ROOT / "src", ROOT / "ops/refunds_ops") | LOADED_BY_NAME
    assert imported == names(project()["dependencies"])


@pytest.mark.parametrize(
    ("folder", "extra"), [("ops/refunds_devkit", "devkit"), ("ops/refunds_console", "console")]
)
def test_every_import_of_an_optional_part_is_a_declared_dependency(folder: str, extra: str) -> None:
    declared = names(project()["optional-dependencies"][extra])
    assert third_party_imports(ROOT / folder) - names(project()["dependencies"]) == declared


def test_every_declared_dependency_is_in_the_lists_that_the_locks_are_made_from() -> None:
    declared = every_dependency()
    listed = requirements("runtime.in") | requirements("dev.in")
    assert names(declared) - listed == set()


def test_the_functions_package_nothing_that_is_not_declared() -> None:
    assert requirements("runtime.in") - names(project()["dependencies"]) == set()


def test_no_lock_is_older_than_a_declared_lower_bound() -> None:
    lock = dict(
        re.findall(r"^([\w.-]+)==([\d.]+)", (ROOT / "requirements/dev.txt").read_text(), re.M)
    )
    locked = {normalized(name): version for name, version in lock.items()}
    for text in every_dependency():
        [bound] = re.findall(r">=([\d.]+)", text)
        assert numbers(locked[name_of(text)]) >= numbers(bound), text


def test_ci_runs_every_section() -> None:
    listed = subprocess.run(
        [ROOT / ".ci/run", "--list"], capture_output=True, text=True, check=True, timeout=20
    ).stdout.split()
    jobs = workflow("ci.yml")["jobs"]
    run = ["setup", "tests", *jobs["section"]["strategy"]["matrix"]["section"]]
    assert sorted(run) == sorted(listed)


def test_ci_refuses_an_unknown_section() -> None:
    run = subprocess.run([ROOT / ".ci/run", "no-such-section"], capture_output=True, timeout=20)
    assert run.returncode == 2


def test_ci_tests_every_promised_python() -> None:
    promised = re.search(r"\(3, (\d+)\) <= .* <= \(3, (\d+)\)", read("ops/bootstrap.sh"))
    assert promised is not None
    first, last = map(int, promised.groups())
    tested = workflow("ci.yml")["jobs"]["tests"]["strategy"]["matrix"]["python"]
    assert tested == [f"3.{minor}" for minor in range(first, last + 1)]
    assert project()["requires-python"] == f">=3.{first}"


def test_git_runs_the_checks_that_make_check_runs() -> None:
    check = re.search(r"^check:(.*?)##", read("Makefile"), re.M)
    assert check is not None
    [local] = yaml.safe_load(read(".pre-commit-config.yaml"))["repos"]
    hooks = [hook["entry"] for hook in local["hooks"]]
    assert hooks == [f"make --silent {target}" for target in check.group(1).split()]


@pytest.mark.parametrize("name", ["ci.yml", "release.yml", "update-locks.yml"])
def test_every_action_is_pinned_to_a_commit(name: str) -> None:
    actions = re.findall(r"uses: (\S+)(.*)", read(f".github/workflows/{name}"))
    assert actions
    for action, comment in actions:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", action)
        assert re.fullmatch(r" # v\d+\.\d+\.\d+", comment)


def third_party_imports(*folders: Path) -> set[str]:
    """The distributions that the folders import at run time."""
    files = [file for folder in folders for file in folder.rglob("*.py")]
    roots = {
        name.split(".")[0] for file in files for name in imports(ast.parse(file.read_text()).body)
    }
    return {DISTRIBUTION_OF.get(root, root) for root in roots - OWN - set(sys.stdlib_module_names)}


def imports(statements: list[ast.stmt]) -> Iterator[str]:
    """Every imported module, but not those for type checkers only."""
    for statement in statements:
        if isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.unparse(statement.test):
            continue
        if isinstance(statement, ast.Import):
            yield from (alias.name for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom) and statement.module:
            yield statement.module
        for block in ("body", "orelse", "finalbody", "handlers"):
            nested: list[Any] = getattr(statement, block, [])
            for each in nested:
                yield from imports(each.body if isinstance(each, ast.ExceptHandler) else [each])


def requirements(file: str) -> set[str]:
    lines = read(f"requirements/{file}").splitlines()
    return names([line for line in lines if re.match(r"[a-zA-Z]", line)])


def names(texts: list[str]) -> set[str]:
    return {name_of(text) for text in texts}


def name_of(requirement: str) -> str:
    found = re.match(r"[\w.-]+", requirement)
    assert found is not None
    return found.group().lower()


def normalized(name: str) -> str:
    return {"backports-zstd": "backports.zstd"}.get(name, name)


def numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def project() -> dict[str, Any]:
    parsed: dict[str, Any] = tomllib.loads(read("pyproject.toml"))["project"]
    return parsed


def every_dependency() -> list[str]:
    """Declared ones, those of the optional parts too."""
    optional: dict[str, list[str]] = project()["optional-dependencies"]
    return [*project()["dependencies"], *(text for each in optional.values() for text in each)]


def workflow(name: str) -> Any:
    return yaml.safe_load(read(f".github/workflows/{name}"))


def read(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")
