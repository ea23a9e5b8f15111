"""README's command blocks run as they are written, in a shell beside the local stack."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from tests.local.flow import Flow, eventually
from tests.support.doc_commands import named_blocks

from refunds_devkit.local.workspace import PROJECT, plain_environment
from refunds_ops.stack.records import refund_item
from refunds_ops.stack.stack import Stack

PAGE = PROJECT / "README.md"
BLOCK_SECONDS = 120
MAY_FIND_SOMETHING = ("refunds verify", "refunds open", "refunds dead-letters list")
"""Exit with 1 when there is something to do, as other tests of the stack may have left."""

REFUND_ID = re.compile(r"Refund id\s+(\S+)")


def is_run_elsewhere(block: str) -> bool:
    """CI runs each `make` target itself; test_deploying.py deploys, step by step."""
    return bool(re.search(r"^\s*make |\bsam |--stack refunds-", block, re.MULTILINE))


def blocks_for_the_local_stack() -> list[str]:
    return [block for block in named_blocks(PAGE).values() if not is_run_elsewhere(block)]


@pytest.fixture(scope="module")
def folder(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like the project's after `make up`: .local/stack.env, .venv, and `aws`."""
    folder = tmp_path_factory.mktemp("readme")
    values = {**stack.settings, **stack.outputs}
    (folder / ".local").mkdir()
    (folder / ".local/stack.env").write_text(
        "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items())
    )
    (folder / ".venv").symlink_to(PROJECT / ".venv")
    shim = folder / "bin/aws"
    shim.parent.mkdir()
    cli = PROJECT / "tests/support/aws_cli.py"
    shim.write_text(f'#!/bin/sh\nexec {sys.executable} {cli} "$@"\n')
    shim.chmod(0o755)
    return folder


def run(folder: Path, body: str) -> str:
    environment = plain_environment({"PYTHONPATH": str(PROJECT)})
    environment["PATH"] = f"{folder / 'bin'}:{PROJECT / '.venv/bin'}:{environment['PATH']}"
    done = subprocess.run(
        ["sh", "-euc", body],
        cwd=folder,
        env=environment,
        text=True,
        capture_output=True,
        timeout=BLOCK_SECONDS,
    )
    assert done.returncode == 0, f"{body}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_readme_has_blocks_for_the_local_stack() -> None:
    assert len(blocks_for_the_local_stack()) >= 2


def test_every_make_target_that_readme_names_exists_and_ci_runs_it() -> None:
    named = set(re.findall(r"^\s*make ([a-z-]+)", "".join(named_blocks(PAGE).values()), re.M))
    targets = set(re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(), re.M))
    assert named <= targets
    ci = (PROJECT / ".ci/run").read_text()
    assert {target for target in named if f"make {target}" not in ci} <= {"up", "down"}


def test_readmes_commands_run_on_the_local_stack(folder: Path, flow: Flow) -> None:
    """A request's own id stands in for REFUND_ID in what follows."""
    shell = "set -a; . .local/stack.env; set +a\n"
    for block in blocks_for_the_local_stack():
        requests = [line for line in _commands(block) if line.startswith("refunds request")]
        refund_id = ""
        for command in _commands(block):
            if "REFUND_ID" in command:
                assert requests, "README shows a refund that it has not requested"
                eventually(partial(refund_item, flow.stack, refund_id), refund_id)
            tolerated = " || test $? -eq 1" if command.startswith(MAY_FIND_SOMETHING) else ""
            said = run(folder, shell + command.replace("REFUND_ID", refund_id) + tolerated)
            if found := REFUND_ID.search(said):
                refund_id = found[1]


def test_the_message_in_readme_is_processed(folder: Path, flow: Flow) -> None:
    (message,) = re.findall(r"--message-body '(.*?)'", PAGE.read_text(), re.DOTALL)
    refund_id = json.loads(message)["refund_id"]
    assert eventually(lambda: refund_item(flow.stack, refund_id), refund_id)


def _commands(block: str) -> list[str]:
    """The commands of a block, each with its continued lines, without those that set up a shell."""
    joined = re.sub(r"\\\n\s*", " ", block)
    joined = re.sub(r"'[^']*'", lambda found: found[0].replace("\n", " "), joined)
    lines = [re.sub(r"\s+#.*", "", line) for line in joined.splitlines()]
    return [line for line in lines if line and not line.startswith((". ", "set -a", "#"))]
