"""``refunds …`` in a test: how it ended, and what it printed."""

from __future__ import annotations

import json
import signal
from dataclasses import dataclass
from typing import Any

import pytest
from click.testing import CliRunner

from refunds_ops.cli import cli
from refunds_ops.terminal import run_command


@dataclass(frozen=True)
class Ran:
    """How a command ended, and what it printed."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


class Refunds:
    """``refunds …`` as the console script runs it."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: str) -> Ran:
        self._capsys.readouterr()
        handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
        status = run_command(
            lambda: cli(list(arguments), standalone_mode=False, prog_name="refunds")
        )
        for number, handler in handlers.items():
            signal.signal(number, handler)
        shown = self._capsys.readouterr()
        return Ran(status, shown.out, shown.err)

    def typed(self, answer: str, *arguments: str) -> Ran:
        """The same, with an answer on standard input."""
        result = CliRunner(mix_stderr=False).invoke(cli, list(arguments), input=answer)
        return Ran(result.exit_code, result.stdout, result.stderr)
