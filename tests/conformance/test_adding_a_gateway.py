"""docs/adding-a-gateway.md, followed word for word in a copy of the project."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
PAGE = PROJECT / "docs" / "adding-a-gateway.md"
SUITE_SECONDS = 300


@dataclass(frozen=True)
class Block:
    """A block of code of the page: what is said of it, and what is in it."""

    title: str | None
    insert: str | None
    after: str | None
    run: bool
    text: str


def blocks() -> list[Block]:
    found = re.findall(r"^```(\w+) (.+?)\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return [
        Block(
            title=_told(r"title=(\S+)", about),
            insert=_told(r"insert=(\S+)", about),
            after=_told(r"after=(.+)", about),
            run=about == "run",
            text=text,
        )
        for _, about, text in found
    ]


def _told(pattern: str, about: str) -> str | None:
    found = re.search(pattern, about)
    return found[1] if found else None


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for folder in ("src", "ops", "tests/conformance", "tests/support"):
        shutil.copytree(
            PROJECT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__")
        )
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\naddopts = --import-mode=importlib -p no:schemathesis\n"
    )
    return tmp_path


def follow(copy: Path) -> list[str]:
    """Do what the page says; returns the command that it says to run."""
    commands = []
    for block in blocks():
        if block.title:
            (copy / block.title).write_text(block.text)
        elif block.insert:
            assert block.after
            place = copy / block.insert
            before = place.read_text()
            assert before.count(f"{block.after}\n") == 1
            place.write_text(before.replace(f"{block.after}\n", f"{block.after}\n{block.text}"))
        elif block.run:
            commands.append(block.text.strip())
    (command,) = commands
    return shlex.split(command)


@pytest.mark.long
def test_a_third_gateway_takes_one_file_one_line_and_passes_the_suite(copy: Path) -> None:
    program, *arguments = follow(copy)
    assert program == "pytest"
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": f"{copy}/src:{copy}/ops:{copy}"},
        capture_output=True,
        text=True,
        timeout=SUITE_SECONDS,
    )

    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-2000:]
    assert re.search(r"\b(\d{3,}) passed", run.stdout)


def test_its_code_is_as_clean_as_ours(copy: Path) -> None:
    follow(copy)
    files = [str(copy / block.title) for block in blocks() if block.title]
    config = str(PROJECT / "pyproject.toml")
    # The exceptions that our own adapters have: what an answer means is one list of HTTP statuses.
    allowed = [f"{copy}/src/**:{rule}" for rule in ("PLR0911", "PLR2004")]
    check = ["check", "--extend-per-file-ignores", ",".join(allowed)]
    for arguments in (check, ["format", "--check"]):
        run = subprocess.run(
            [sys.executable, "-m", "ruff", *arguments, "--config", config, *files],
            cwd=copy,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert run.returncode == 0, run.stdout + run.stderr
