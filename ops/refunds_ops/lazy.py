"""Command groups: with whole sentences in their help, and importing a command when it is called.

``refunds --help`` needs names and one line each; importing every command would take a second.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import click

MAX_SHORT_HELP = 1000
"""In characters; no first sentence of a help text is longer."""


class CommandGroup(click.Group):
    """Folds the short help of its commands where click would cut it off, and says which command
    was probably meant."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = []
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            assert command is not None
            rows.append((name, command.get_short_help_str(limit=MAX_SHORT_HELP)))
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as exc:
            from difflib import get_close_matches

            for name in get_close_matches(args[0], self.list_commands(ctx), n=1):
                exc.message += f" Did you mean {name}?"
            raise


class LazyGroup(CommandGroup):
    """``sections``: a heading, and below it each command's name, its place and its short help.

    A place is ``module:attribute``. The short help is the first sentence of the command's own help;
    a test compares the two.
    """

    def __init__(
        self, *args: Any, sections: Mapping[str, Sequence[tuple[str, str, str]]], **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.sections = sections
        self._places = {name: place for rows in sections.values() for name, place, _ in rows}

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._places)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._places:
            return None
        if cmd_name not in self.commands:
            module, _, attribute = self._places[cmd_name].partition(":")
            command: click.Command = getattr(import_module(module), attribute)
            take_stack(command)
            self.commands[cmd_name] = command
        return self.commands[cmd_name]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for heading, rows in self.sections.items():
            with formatter.section(heading):
                formatter.write_dl([(name, short) for name, _, short in rows])


def take_stack(command: click.Command) -> None:
    """Let a command, or each command of a group, take --stack too: people put it at either end."""
    if isinstance(command, click.Group):
        for each in command.commands.values():
            take_stack(each)
    elif not any("--stack" in option.opts for option in command.params):
        command.params.append(
            click.Option(
                ["--stack"],
                metavar="NAME",
                expose_value=False,
                callback=_name_stack,
                help="The CloudFormation stack to work on.",
            )
        )


def _name_stack(context: click.Context, option: click.Parameter, name: str | None) -> None:
    if name:
        context.obj = name
