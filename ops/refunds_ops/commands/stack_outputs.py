"""`refunds output`: a stack's outputs, for shell scripts."""

from __future__ import annotations

import click

from refunds_ops.stack.stack import find_stack


@click.command()
@click.argument("name", required=False)
@click.pass_obj
def output(stack_name: str | None, name: str | None) -> None:
    """Print one output of the stack, or all of them as NAME=value."""
    stack = find_stack(stack_name)
    if name is not None:
        click.echo(stack[name])
        return
    for each, value in sorted(stack.outputs.items()):
        click.echo(f"{each}={value}")
