"""rich's console, with every character that a terminal would obey written out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from refunds_ops.terminal import safe_text

PIPE_WIDTH = 100_000
"""Columns of a pipe: nothing is folded there, whatever COLUMNS says."""


class SafeConsole(Console):
    """Escapes at the last step, so that no renderable can bypass it."""

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, **options)
        if not self.is_terminal:
            self.width = PIPE_WIDTH

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            if segment.control or segment.text.isprintable():
                yield segment
            else:
                yield Segment(safe_text(segment.text, lines=True), segment.style)
