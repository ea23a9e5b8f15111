"""Every command of docs/backup.md, cost.md and webhooks.md runs on the local stack.

Exit status 1 is an answer (findings, nothing to do, refused); 2 (usage) and 3 (environment) fail
the test. tests/support/doc_pages.py has what is left out, and the tests of other pages.
"""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import sys
from pathlib import Path

import pytest
from tests.local.flow import Flow
from tests.support.doc_commands import SHELLS, blocks
from tests.support.doc_pages import ON_THE_LOCAL_STACK, reason_not_to_run

from refunds_devkit.local.gateway import api_key
from refunds_devkit.local.workspace import PROJECT, plain_environment
from refunds_ops.stack.stack import Stack

COMMAND_SECONDS = 150
MAPPING_STATE = (
    'aws lambda get-event-source-mapping --uuid "$RefundRequestsMappingId" --query State'
)
ANSWERS = (0, 1)


def commands(page: str) -> list[str]:
    """The page's commands, each once."""
    found = [
        command
        for block in blocks(PROJECT / page)
        if block.language in SHELLS
        for command in block.commands
        if not reason_not_to_run(command)
    ]
    return list(dict.fromkeys(found))


def _but_for_its_texts(command: str) -> str:
    return re.sub(r'--(why|evidence) +"[^"]*"', "", re.sub(" +", " ", command))


EVERYTHING = {
    _but_for_its_texts(each): each for page in ON_THE_LOCAL_STACK for each in commands(page)
}
"""Commands that differ in the texts that people write are run once."""


@pytest.fixture(scope="module")
def shell(stack: Stack, flow: Flow, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    folder = tmp_path_factory.mktemp("pages")
    body = flow.request(flow.payment(), 100)
    flow.send(body)
    flow.refund(body, "SUCCEEDED")
    shim = folder / "bin/aws"
    shim.parent.mkdir()
    cli = PROJECT / "tests/support/aws_cli.py"
    shim.write_text(f'#!/bin/sh\nexec {sys.executable} {cli} "$@"\n')
    shim.chmod(0o755)
    secret = stack.secrets.create_secret(Name=f"webhooks-{secrets.token_hex(4)}", SecretString="x")
    return Shell(stack, folder, secret["ARN"])


class Shell:
    """A shell with the stack's outputs, as the pages tell people to open one."""

    def __init__(self, stack: Stack, folder: Path, webhook_secret: str) -> None:
        self._folder = folder
        name = stack["StackName"]
        environment = plain_environment({"PYTHONPATH": str(PROJECT)})
        environment |= {**stack.settings, **stack.outputs}
        environment |= {"STACK": name, "WebhookSecretArn": webhook_secret}
        environment["PATH"] = f"{folder / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        self._environment = environment

    def run(self, command: str) -> tuple[int, str, str]:
        """Exit status, output and errors."""
        done = subprocess.run(
            ["bash", "-uc", f"set -o pipefail; {command}"],
            cwd=self._folder,
            env=self._environment,
            input=f"{api_key()}\n",
            text=True,
            capture_output=True,
            timeout=COMMAND_SECONDS,
        )
        return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("command", EVERYTHING.values())
def test_a_command_of_the_docs_runs(shell: Shell, command: str) -> None:
    status, output, errors = shell.run(command)
    assert status in ANSWERS, f"{output}\n{errors}"
    assert "Traceback" not in errors


def test_the_queue_is_not_left_paused(shell: Shell) -> None:
    """The pages pause and resume; the other tests go on with this stack."""
    assert shell.run('refunds resume --why "end of the pages"')[0] in ANSWERS
    assert "Enabl" in shell.run(MAPPING_STATE)[1]  # or Enabling
