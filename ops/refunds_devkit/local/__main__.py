"""The local stack's commands, as the Makefile calls them: `python -m refunds_devkit.local up`."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from rich.console import Console

from refunds_devkit.local.gateway import gateway_name
from refunds_devkit.local.lifecycle import down, up
from refunds_devkit.local.progress import Steps
from refunds_devkit.local.workspace import Workspace
from refunds_ops.terminal import run_command


@click.group()
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".local"),
    show_default=True,
    help="The folder of the stack's files.",
)
@click.pass_context
def main(context: click.Context, folder: Path) -> None:
    """The whole flow on this machine: emulator, sandbox gateway, and template.yaml itself."""
    context.obj = Workspace(folder.resolve())


@main.command("up")
@click.pass_obj
def up_command(workspace: Workspace) -> None:
    """Start the stack, or the missing parts of it. Returns once the stack can process a message."""
    console = Console()
    stack = up(workspace, Steps(console))
    payment = "pi_full" if gateway_name() == "stripe" else "pay_full"
    console.print(
        f"\n[bold green]The stack is up.[/]  Emulator {stack.settings['AWS_ENDPOINT_URL']}\n"
        f"  set -a; . {_shown(workspace.stack_env)}; set +a"
        "            [dim]# then any AWS client uses it[/]\n"
        f"  .venv/bin/refunds request --transaction {payment} --user ada --amount 25.00 "
        "--currency USD --reason order_cancelled\n"
        "  .venv/bin/refunds console            [dim]# look at it: a web page on this machine[/]\n"
        "  make down",
        highlight=False,
        soft_wrap=True,
    )


@main.command("down")
@click.pass_obj
def down_command(workspace: Workspace) -> None:
    """Stop what `up` started."""
    stopped = down(workspace)
    print(f"Stopped: {', '.join(stopped)}." if stopped else "Nothing was running.")


@main.command("demo")
@click.option("--picture", type=click.Path(dir_okay=False, path_type=Path), help="Draw it as SVG.")
@click.pass_obj
def demo_command(workspace: Workspace, picture: Path | None) -> None:
    """Show the whole flow in a minute, on a temporary stack."""
    from refunds_devkit.local.demo import run_demo

    sys.exit(run_demo(Workspace(workspace.folder / "demo"), picture))


@main.command("invoke")
@click.pass_obj
def invoke_command(workspace: Workspace) -> None:
    """`sam local invoke` of each function but ReceiveWebhook, in a container, on a local stack."""
    from refunds_devkit.local.sam_local import invoke_all

    sys.exit(invoke_all(Workspace(workspace.folder / "sam-local"), Console()))


def _shown(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


if __name__ == "__main__":
    sys.exit(run_command(lambda: main(standalone_mode=False)))
