"""docs/deploying.md as a person uses it: its blocks, run in a copy of the project."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from tests.local.flow import Flow
from tests.support.doc_commands import named_blocks

from refunds_devkit.local.deployment import (
    PARAMETERS,
    build_parameters,
    sam_environment,
)
from refunds_devkit.local.emulator import aws_settings
from refunds_devkit.local.workspace import PROJECT
from refunds_devkit.sandbox.client import SandboxClient
from refunds_ops.stack.stack import Stack, with_outputs

PAGE = PROJECT / "docs/deploying.md"
BLOCK_SECONDS = 300


@dataclass
class Walk:
    """A copy of the project, the emulator it deploys to, and a gateway."""

    project: Path
    port: int
    gateway: SandboxClient
    gateway_url: str
    ran: list[str] = field(default_factory=list)

    def run(self, name: str, answers: str = "", **replaced: str) -> str:
        """Run the page's block ``name``; its output. Fails the test with it when it fails."""
        body = named_blocks(PAGE)[name]
        for old, new in replaced.items():
            body = body.replace(old, new)
        self.ran.append(name)
        return self.shell(body, answers)

    def shell(self, body: str, answers: str = "") -> str:
        done = subprocess.run(
            ["sh", "-euc", body],
            cwd=self.project,
            env=self.environment,
            input=answers,
            text=True,
            capture_output=True,
            timeout=BLOCK_SECONDS,
        )
        assert done.returncode == 0, f"{body}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    @property
    def environment(self) -> dict[str, str]:
        environment = sam_environment(aws_settings(self.port))
        environment["PATH"] = f"{self.project / 'bin'}:{environment['PATH']}"
        return environment

    def stack(self, name: str) -> Stack:
        return with_outputs(Stack(f"the stack {name}", {}, aws_settings(self.port)), name)

    def flow(self, name: str) -> Flow:
        return Flow(self.stack(name), self.gateway)


def copy_of_the_project(folder: Path, gateway_url: str) -> Path:
    folder.mkdir()
    # Copied: SAM mistakes the paths of links.
    shutil.copytree(PROJECT / "src", folder / "src")
    for name in ("template.yaml", "uv.toml"):
        shutil.copy(PROJECT / name, folder / name)
    (folder / ".venv").symlink_to(PROJECT / ".venv")
    shim = folder / "bin/aws"
    shim.parent.mkdir()
    cli = PROJECT / "tests/support/aws_cli.py"
    shim.write_text(f'#!/bin/sh\nexec {sys.executable} {cli} "$@"\n')
    shim.chmod(0o755)
    mine = build_parameters() | {
        key: PARAMETERS[key] for key in ("MaximumConcurrency", "ReconcileAfterSeconds")
    }
    more = "".join(f'  "{name}={value}",\n' for name, value in mine.items())
    config = (PROJECT / "samconfig.toml").read_text()
    config = config.replace("parameter_overrides = [\n", f"parameter_overrides = [\n{more}")
    config = config.replace(
        "parallel = true\n", f"parallel = true\nparameter_overrides = [\n{more}]\n"
    )
    config = config.replace(
        "GatewayUrl=https://sandbox.flair.example", f"LocalGatewayUrl={gateway_url}"
    )
    config = config.replace('"Stage=dev"', '"Stage=local"')
    (folder / "samconfig.toml").write_text(config)
    return folder
