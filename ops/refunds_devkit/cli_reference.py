"""docs/cli.md, made from the commands themselves, so that it can't be out of date."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import click

from refunds_ops.cli import cli
from refunds_ops.json_output import json_output_of

REFERENCE = Path("docs/cli.md")

HEAD = """\
# The command line

`refunds` is the operator's command. After `make setup` it is at `.venv/bin/refunds`.
[daily.md](daily.md) says which command to use in which situation. This page is made from the code
(`refunds-dev write-cli-reference`).

## What all commands share

**The stack** is chosen by `--stack NAME` (CloudFormation), before or after the command. Without
it, the stack's outputs in the environment are used, or else `.local/stack.env`, which `make up`
writes. Standard error says which stack it is, and at which endpoint, unless you named it and it is
in AWS.

**Exit status.**

| status | meaning |
| --- | --- |
| 0 | done, or clean |
| 1 | findings, or refused: the command was understood, and its answer is no |
| 2 | usage: an option or argument is wrong |
| 3 | no stack, network or permission: the command could not find out anything about refunds |
| 130 | interrupted (Ctrl-C) |
| 141 | the reader of the pipe has ended |

**Output.** Results go to standard output, everything else to standard error. `--json` prints one
JSON document, or JSON lines for lists, in ASCII and with the fields below. In a pipe nothing is
coloured or folded. `NO_COLOR` switches colours off. Control characters, direction marks and
zero-width characters in stored text are written out (`\\x1b`, `\\u202e`). A terminal without UTF-8
shows ASCII in place of characters that it lacks.

**Times** are days (`2026-11-27`, in the stack's time zone, the parameter `TimeZone`), RFC 3339
instants, or how long ago: `30m`, `24h`, `7d`, `2w`.

**Errors** say what is wrong and what to do. `REFUNDS_TRACEBACK=1` adds where an internal error
happened.

**Completion** of commands and options:

```sh
eval "$(_REFUNDS_COMPLETE=bash_source refunds)"         # in ~/.bashrc
eval "$(_REFUNDS_COMPLETE=zsh_source refunds)"          # in ~/.zshrc
_REFUNDS_COMPLETE=fish_source refunds | source          # in ~/.config/fish/config.fish
```
"""


def reference() -> str:
    """The page."""
    return "\n".join([HEAD, *_group(cli, ("refunds",))])


def _group(group: click.Group, path: tuple[str, ...]) -> Iterator[str]:
    context = click.Context(group, info_name=" ".join(path))
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from _group(command, (*path, name))
        else:
            yield from _command(command, (*path, name))


def _command(command: click.Command, path: tuple[str, ...]) -> Iterator[str]:
    context = click.Context(command, info_name=" ".join(path))
    arguments = [
        part
        for each in command.params
        if isinstance(each, click.Argument)
        for part in each.get_usage_pieces(context)
    ]
    yield f"## {' '.join(path)}\n"
    yield f"```\n{' '.join([*path, *arguments, '[OPTIONS]'])}\n```\n"
    yield f"{_help(command.help or '')}\n"
    rows = list(_options(command, context))
    if rows:
        yield "| option | |\n| --- | --- |"
        yield "\n".join(f"| `{names}` | {text} |" for names, text in rows) + "\n"
    if output := json_output_of(command):
        how = "JSON lines, each with" if output.lines else "one JSON document with"
        yield f"`--json` prints {how}:\n"
        yield "| field | |\n| --- | --- |"
        yield "\n".join(f"| `{name}` | {_cell(text)} |" for name, text in output.fields.items())
        yield ""


def _options(command: click.Command, context: click.Context) -> Iterator[tuple[str, str]]:
    for option in command.params:
        if isinstance(option, click.Option) and "--stack" not in option.opts:
            record = option.get_help_record(context)
            if record is not None:
                names, text = record
                yield _cell(names), _cell(text)


def _help(text: str) -> str:
    """click's help as Markdown: what follows ``\\b`` is an example."""
    parts = []
    for paragraph in text.split("\n\n"):
        if paragraph.lstrip().startswith("\b"):
            example = dedent(paragraph.replace("\b\n", "").replace("\b", ""))
            parts.append(f"```sh\n{example.strip()}\n```")
        else:
            parts.append(" ".join(paragraph.split()))
    return "\n\n".join(parts)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


@click.command("write-cli-reference")
def write_cli_reference() -> None:
    """Write docs/cli.md."""
    REFERENCE.write_text(reference())
    click.echo(f"{REFERENCE} written")
