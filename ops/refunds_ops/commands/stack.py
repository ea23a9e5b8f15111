"""`refunds stack`: the stack that commands work on."""

from __future__ import annotations

import click

from refunds_ops.stack.stack import find_stack
from refunds_ops.terminal import print_line


@click.group()
def stack() -> None:
    """Show the stack that the commands work on."""


@stack.command()
@click.argument("name", required=False)
@click.pass_obj
def outputs(stack_name: str | None, name: str | None) -> None:
    """Print one output of the stack, or all of them as NAME=value."""
    found = find_stack(stack_name)
    if name is not None:
        print_line(found[name])
        return
    for each, value in sorted(found.outputs.items()):
        print_line(f"{each}={value}")
