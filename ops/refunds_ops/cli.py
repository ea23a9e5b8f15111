"""`refunds`: the operator's command line. Each command is in a file of its own."""

from __future__ import annotations

import sys

import click

from refunds_ops.commands.audit import audit
from refunds_ops.commands.backup import backup
from refunds_ops.commands.intake import pause, resume, status
from refunds_ops.commands.list_refunds import list_refunds
from refunds_ops.commands.request import request
from refunds_ops.commands.review import review
from refunds_ops.commands.show import show
from refunds_ops.commands.stack import stack
from refunds_ops.commands.verify import verify
from refunds_ops.terminal import run_command

EPILOG = """
\b
Exit status: 0 done or clean, 1 findings or refused, 2 usage, 3 no stack, network or rights.

\b
The stack is found by --stack NAME (CloudFormation), else from the environment (the stack's
outputs by their names), else from .local/stack.env, which `make up` writes.
"""


@click.group(epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--stack", "stack_name", metavar="NAME", help="The CloudFormation stack to work on.")
@click.version_option(package_name="refunds", prog_name="refunds")
@click.pass_context
def cli(context: click.Context, stack_name: str | None) -> None:
    """Request refunds, see what became of them, and look after the stack that makes them."""
    context.obj = stack_name


def _name_stack(context: click.Context, option: click.Parameter, name: str | None) -> None:
    if name:
        context.obj = name


def _takes_stack(command: click.Command) -> None:
    """Let a command, or each of a group's, take --stack too: people put it at either end."""
    if isinstance(command, click.Group):
        for each in command.commands.values():
            _takes_stack(each)
        return
    command.params.append(
        click.Option(
            ["--stack"],
            metavar="NAME",
            expose_value=False,
            callback=_name_stack,
            help="The CloudFormation stack to work on.",
        )
    )


ON_A_STACK = (
    request,
    show,
    list_refunds,
    review,
    backup,
    stack,
    pause,
    resume,
    status,
    verify,
    audit,
)

for command in ON_A_STACK:
    _takes_stack(command)
    cli.add_command(command)


def main() -> None:
    """The console script."""
    sys.exit(run_command(lambda: cli(standalone_mode=False, prog_name="refunds")))


if __name__ == "__main__":
    main()
