"""What reaches a terminal: no control character, no broken encoding, no traceback."""

from __future__ import annotations

import ast
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table
from rich.text import Text

from refunds_ops import layout, plain, terminal
from refunds_ops.errors import NotReadyError, RefusedError
from refunds_ops.layout import Column
from refunds_ops.safe_console import SafeConsole
from refunds_ops.terminal import print_json, print_line, run_command, safe_text

COMMANDS = Path(terminal.__file__).parent / "commands"
HOSTILE = "a\x1b[2Jb\u202ec\u200bd\x9b31me\x07\rf\ud800"


def test_hostile_text_is_written_out() -> None:
    assert safe_text(HOSTILE) == r"a\x1b[2Jb\u202ec\u200bd\x9b31me\x07\rf\ud800"
    assert safe_text("Zoë · 25,00 €") == "Zoë · 25,00 €"
    assert safe_text("a\nb") == r"a\nb"
    assert safe_text("a\nb", lines=True) == "a\nb"


@given(st.text())
def test_nothing_that_a_terminal_obeys_is_left(text: str) -> None:
    assert safe_text(text).isprintable()


def test_no_renderable_bypasses_the_console() -> None:
    for force in (True, False):
        out = io.StringIO()
        table = Table(HOSTILE, title=HOSTILE)
        table.add_row(Text(HOSTILE, style="red"))
        console = SafeConsole(file=out, force_terminal=force, color_system=None, width=200)
        console.print(table, HOSTILE, Text(HOSTILE))
        assert all(line.isprintable() for line in out.getvalue().split("\n"))


def test_a_pipe_is_neither_folded_nor_coloured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    out = io.StringIO()
    table = Table(box=None)
    table.add_row("refund-" * 20, Text("SUCCEEDED", style="green"))
    SafeConsole(file=out).print(table)
    assert "refund-" * 20 in out.getvalue()
    assert "\x1b" not in out.getvalue()


COLUMNS = [
    Column("refund"),
    Column("status"),
    Column("amount", right=True),
    Column("payment"),
    Column("why", fold=True),
]
ROW = ("rf_" + "0123456789abcdef" * 2, "IN_REVIEW", "25.00 USD", "pay_" + "x" * 30, "a reason " * 9)


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_a_table_fits_any_terminal_and_breaks_no_id(
    width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = io.StringIO()
    narrow = SafeConsole(file=out, force_terminal=True, color_system=None, width=width)
    monkeypatch.setattr(layout, "console", lambda: narrow)
    layout.print_table(COLUMNS, [ROW, ROW])
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    for whole in ROW[:4]:
        assert sum(whole in line for line in lines) == 2


def test_no_color_means_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(sys, "stdout", Terminal())
    assert plain.styled("FAILED", "bold red") == "FAILED"
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "xterm")
    assert plain.styled("FAILED\x1b", "bold red") == "\x1b[1;31mFAILED\\x1b\x1b[0m"
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert plain.styled("FAILED", "bold red") == "FAILED"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("width", [60, 120])
def test_facts_are_folded_on_a_terminal_and_whole_in_a_pipe(
    width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("NO_COLOR", "1")
    for out in (Terminal(), io.StringIO()):
        monkeypatch.setattr(sys, "stdout", out)
        plain.print_facts([("why", "word " * 50), ("none", "")])
        lines = out.getvalue().splitlines()
        assert (max(map(len, lines)) <= width) == out.isatty()
        assert (len(lines) == 1) != out.isatty()


def test_json_is_ascii(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"note": HOSTILE})
    out = capsys.readouterr().out
    assert out.isascii()
    assert "\x1b" not in out
    assert json.loads(out) == {"note": HOSTILE}


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8", "cp437"])
def test_a_terminal_without_utf_8_shows_what_it_can(
    encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding))
    assert run_command(lambda: print_line("✓ 25.00 → Łódź \udcff 你好")) == 0
    assert b"25.00" in raw.getvalue()
    assert raw.getvalue().decode(encoding)


def _raise(error: BaseException) -> Callable[[], object]:
    def command() -> None:
        raise error

    return command


ENDPOINT_ERROR = EndpointConnectionError(endpoint_url="http://127.0.0.1:1")


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (RefusedError("No.", "Do that."), 1, "Do that."),
        (NotReadyError("No stack."), 3, "No stack."),
        (click.UsageError("no such option"), 2, "--help"),
        (click.exceptions.Exit(1), 1, ""),
        (SystemExit(2), 2, ""),
        (SystemExit("text"), 1, ""),
        (ClientError({"Error": {"Code": "AccessDenied"}}, "Query"), 3, "AWS request failed"),
        (ENDPOINT_ERROR, 3, "make up"),
        (PermissionError(13, "Permission denied", "out.csv"), 3, "out.csv: Permission denied."),
        (ValueError("4111111111111111"), 3, "Internal error: ValueError."),
        (KeyError("status"), 3, "To find it: refunds verify"),
        (RuntimeError("status"), 3, "REFUNDS_TRACEBACK=1"),
        (KeyboardInterrupt(), 130, "Interrupted"),
    ],
)
def test_every_error_is_a_status_and_a_sentence(
    error: BaseException, status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(_raise(error)) == status
    shown = capsys.readouterr()
    assert said in shown.err
    assert "4111" not in shown.err
    assert "Traceback" not in shown.err
    assert shown.out == ""


PRINTS_MUCH = """\
import sys

import click

from refunds_ops.terminal import print_line, run_command


def much():
    for _ in range(1000):
        print_line("x" * 1000)
"""


@pytest.mark.parametrize(
    "command", ["much", "lambda: click.command(much)([], 'refunds', None, False)"]
)
def test_a_closed_pipe_ends_quietly(command: str) -> None:
    script = f"{PRINTS_MUCH}\nsys.exit(run_command({command}))"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(30) == 141


def test_an_old_shells_endpoint_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(".local").mkdir()
    Path(".local/stack.env").write_text("AWS_ENDPOINT_URL=http://127.0.0.1:2\n")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    assert run_command(_raise(ENDPOINT_ERROR)) == 3
    assert "set -a; . .local/stack.env" in capsys.readouterr().err


def test_commands_print_through_the_terminal_only() -> None:
    forbidden = {"print", "echo", "secho", "Console", "echo_via_pager"}
    for path in COMMANDS.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                called = node.func
                name = called.id if isinstance(called, ast.Name) else ""
                if isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name):
                    name = called.attr if called.value.id == "click" else ""
                assert name not in forbidden, f"{path.name}:{node.lineno}"
