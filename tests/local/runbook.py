"""docs/runbook.md as a person uses it whom an alarm has called: by section, in a shell."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from refunds_devkit.local.workspace import PROJECT, plain_environment
from refunds_ops.stack.stack import Stack

PAGE = PROJECT / "docs/runbook.md"
COMMAND_SECONDS = 120

_HEADING = re.compile(r"^#{2,3} (.+)$", re.MULTILINE)
_BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Done:
    """A command's exit status and all that it printed."""

    command: str
    status: int
    output: str


def sections() -> dict[str, list[str]]:
    """The commands below each heading, in their order."""
    _, *parts = _HEADING.split(PAGE.read_text())
    return {
        heading: [line for block in _BLOCK.findall(text) for line in _commands(block)]
        for heading, text in zip(parts[::2], parts[1::2], strict=True)
    }


def _commands(block: str) -> list[str]:
    joined = re.sub(r"\\\n\s*", " ", block)
    lines = [re.sub(r"\s{2,}#.*", "", line) for line in joined.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


class Runbook:
    """The page's commands, with the stack's name in the place of the page's."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self._stack = stack
        self._folder = folder
        shim = folder / "bin/aws"
        shim.parent.mkdir()
        cli = PROJECT / "tests/support/aws_cli.py"
        shim.write_text(f'#!/bin/sh\nexec {sys.executable} {cli} "$@"\n')
        shim.chmod(0o755)
        self.sections = sections()
        self._environment = self._prepared()

    def command(self, section: str, beginning: str) -> str:
        """The one command of a section that begins so."""
        (found,) = [each for each in self.sections[section] if each.startswith(beginning)]
        return found

    def run(self, command: str, **replaced: str) -> Done:
        """Run a command as the page has it, in the shell that the page prepares."""
        for old, new in replaced.items():
            assert old in command, f"{command} has no {old}"
            command = command.replace(old, new)
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self._folder,
            env=self._environment,
            text=True,
            capture_output=True,
            timeout=COMMAND_SECONDS,
        )
        return Done(command, done.returncode, done.stdout + done.stderr)

    def shows(self, section: str, beginning: str, **replaced: str) -> str:
        """What a section's command prints. Fails the test when the command could not run."""
        done = self.run(self.command(section, beginning), **replaced)
        assert done.status in (0, 1), f"{done.command}\n{done.output}"
        return done.output

    def _prepared(self) -> dict[str, str]:
        """What the page's own preparation leaves in a shell."""
        prepare = "\n".join(self.sections["Severities"])
        prepare = prepare.replace("refunds-prod", self._stack["StackName"])
        environment = plain_environment({**self._stack.settings, "PYTHONPATH": str(PROJECT)})
        environment["PATH"] = (
            f"{self._folder / 'bin'}:{PROJECT / '.venv/bin'}:{environment['PATH']}"
        )
        done = subprocess.run(
            ["bash", "-c", f"set -e\n{prepare}\nenv -0"],
            env=environment,
            text=True,
            capture_output=True,
            timeout=COMMAND_SECONDS,
        )
        assert done.returncode == 0, done.stderr
        return dict(pair.split("=", 1) for pair in done.stdout.split("\0") if pair)
