"""`make demo`: shows and verifies the whole flow on a temporary stack."""

from __future__ import annotations

import os
from pathlib import Path

from rich.console import Console
from rich.live import Live

from refunds_devkit.local.demo_checks import checks
from refunds_devkit.local.demo_report import opening, progress, report
from refunds_devkit.local.demo_requests import LIMITS, plant, story
from refunds_devkit.local.demo_run import Run
from refunds_devkit.local.gateway import gateway_name
from refunds_devkit.local.lifecycle import down, up
from refunds_devkit.local.progress import Steps
from refunds_devkit.local.workspace import Workspace
from refunds_devkit.sandbox.client import SandboxClient

WIDTH = 100


def run_demo(workspace: Workspace, picture: Path | None = None) -> int:
    """Returns the exit status: 0 only if everything that was shown is right.

    ``picture``: the SVG file to write what was shown to.
    """
    console = _console(record=picture is not None)
    # The demo scripts its gateway, so it needs the sandbox whatever the environment names.
    for name in ("GATEWAY_URL", "GATEWAY_API_KEY", "EMULATOR_PORT", "SANDBOX_PORT"):
        os.environ.pop(name, None)
    down(workspace)  # left by a demo that was killed
    console.print(opening())
    steps = Steps(console)
    try:
        stack = up(workspace, steps, for_containers=False, parameters=LIMITS)
        sandbox = SandboxClient(stack["GATEWAY_URL"])
        played = story(gateway_name())
        plant(sandbox, played.payments)
        run = Run(stack, sandbox, played)
        with steps.timed("Requests processed, settled, audited and backed up; a restore rehearsed"):
            _run_live(console, run)
        found = checks(played, run.seen)
        report(console, played, run.seen, found)
    finally:
        with steps.step("Stopping what was started", "Everything is stopped"):
            down(workspace)
    right = all(check.holds for check in found)
    if right:
        console.print("Try it yourself: [bold]make up[/], then [bold].venv/bin/refunds --help[/]")
    else:
        console.print(f"Logs: {workspace.log('emulator')}", highlight=False)
    if picture:
        console.save_svg(str(picture), title="make demo")
    return 0 if right else 1


def _run_live(console: Console, run: Run) -> None:
    if not console.is_terminal:
        run.run()
        return
    with Live(console=console, refresh_per_second=10, transient=True) as live:
        run.changed = lambda: live.update(progress(run.story, run.seen, run.sent))
        run.run()


def _console(*, record: bool) -> Console:
    """Tables are 100 columns wide, or as wide as a narrower terminal."""
    found = Console()
    width = min(found.width, WIDTH) if found.is_terminal else WIDTH
    return Console(width=width, record=record)
