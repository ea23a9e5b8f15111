"""Shows the steps of a long command: with a spinner on a terminal, elsewhere as one line each."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console


class Steps:
    def __init__(self, console: Console) -> None:
        self._console = console

    @contextmanager
    def step(self, doing: str, done: str) -> Iterator[None]:
        """Shows a step while it runs, and then how long it took."""
        with self.timed(done):
            if self._console.is_terminal:
                with self._console.status(f"{doing} …"):
                    yield
            else:
                yield

    @contextmanager
    def timed(self, done: str) -> Iterator[None]:
        """Shows a step only when it is finished, for steps with a display of their own."""
        began = time.monotonic()
        yield
        seconds = time.monotonic() - began
        self._console.print(f"[green]✓[/] {done} [dim]({seconds:.1f} s)[/]", highlight=False)

    def note(self, text: str) -> None:
        self._console.print(f"[dim]{text}[/]", highlight=False)
