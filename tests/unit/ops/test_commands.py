"""All commands alike: lazily loaded, one grammar of options, help that says the same everywhere."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from refunds_devkit.cli_reference import reference
from refunds_ops.cli import cli
from refunds_ops.json_output import json_output_of
from refunds_ops.lazy import LazyGroup

HEAVY = ("boto3", "botocore", "rich", "pydantic", "cryptography", "refunds_ops.stack.stack")

WITHOUT_JSON = {
    "backup cat",  # JSON lines already
    "backup export",
    "backup public-key",
}


def all_commands(
    group: click.Group = cli, path: tuple[str, ...] = ()
) -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from all_commands(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


COMMANDS = dict(all_commands())


@pytest.mark.parametrize("arguments", ["--help", "--version", "audit --help", "nonsense"])
def test_help_loads_no_library(arguments: str) -> None:
    script = (
        "import sys\n"
        "from refunds_ops.cli import cli\n"
        "from refunds_ops.terminal import run_command\n"
        f"run_command(lambda: cli({arguments.split()!r}, standalone_mode=False))\n"
        f"sys.exit(str([name for name in {HEAVY!r} if name in sys.modules]))"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert ended.stderr.strip().splitlines()[-1] == "[]"


def test_show_loads_only_what_it_needs() -> None:
    script = (
        "import sys, refunds_ops.commands.show\n"
        "unwanted = ('boto3', 'rich', 'pydantic', 'aws_lambda_powertools')\n"
        "sys.exit(str([name for name in unwanted if name in sys.modules]))"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert ended.stderr.strip().splitlines()[-1] == "[]"


def groups(group: click.Group = cli) -> Iterator[LazyGroup]:
    assert isinstance(group, LazyGroup)
    yield group
    for name in group.list_commands(click.Context(group)):
        found = group.get_command(click.Context(group), name)
        if isinstance(found, LazyGroup):
            yield from groups(found)


def test_the_short_help_is_the_first_sentence_of_the_long_one() -> None:
    for group in groups():
        for rows in group.sections.values():
            for name, _, short in rows:
                found = group.get_command(click.Context(group), name)
                assert found is not None
                assert found.help is not None
                assert found.help.split("\n\n")[0].replace("\n", " ").strip() == short, name


@pytest.mark.parametrize("group", ["", "backup", "audit", "dead-letters", "stack", "limits"])
def test_help_fits_a_terminal_of_80_columns_and_cuts_no_sentence(group: str) -> None:
    shown = CliRunner().invoke(cli, [*group.split(), "--help"], terminal_width=80).output
    assert max(map(len, shown.splitlines())) <= 80
    assert "..." not in shown.replace("[ARGS]...", "")


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("lst", "No such command 'lst'. Did you mean list?"),
        ("backup verifyy", "No such command 'verifyy'. Did you mean verify?"),
        ("xyz", "No such command 'xyz'."),
    ],
)
def test_a_mistyped_command_is_told_the_nearest_one(typed: str, said: str) -> None:
    with pytest.raises(click.UsageError) as caught:
        cli(typed.split(), standalone_mode=False)
    assert caught.value.format_message() == said


def test_every_command_takes_the_stack_at_its_end() -> None:
    for name, command in COMMANDS.items():
        assert [each for each in command.params if "--stack" in each.opts], name


def test_every_command_that_shows_something_has_documented_json() -> None:
    without = {name for name, command in COMMANDS.items() if json_output_of(command) is None}
    assert without == WITHOUT_JSON


def test_one_name_means_one_thing() -> None:
    """``--json`` is output, ``--backup-folder`` a folder of backups, ``--backup`` a number."""
    kinds: dict[str, set[str]] = {}
    for command in COMMANDS.values():
        for option in command.params:
            if isinstance(option, click.Option):
                # A day is a time, too.
                kind = type(option.type).__name__.replace("DateTime", "StringParamType")
                for name in option.opts:
                    kinds.setdefault(name, set()).add(kind)
    several = {name for name, kind in kinds.items() if len(kind) > 1}
    # `pause --gateway NAME` says whose requests wait; elsewhere --gateway has the gateway asked.
    assert several == {"--gateway"}
    assert "--from" not in kinds


def test_every_option_says_what_it_does() -> None:
    for name, command in COMMANDS.items():
        assert command.help, name
        for option in command.params:
            if isinstance(option, click.Option):
                assert option.help, f"{name} {option.opts}"


def test_the_reference_is_what_the_code_says() -> None:
    assert Path("docs/cli.md").read_text() == reference(), "run: refunds-dev write-cli-reference"
