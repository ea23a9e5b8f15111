"""A terminal just good enough for what rich writes: colours, and lines that are written again."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import TypeAlias

from rich.ansi import AnsiDecoder
from rich.console import Console
from rich.terminal_theme import TerminalTheme

_TOKEN = re.compile(
    r"\x1b\[(?P<private>[?<=>]?)(?P<number>\d*)[\d;]*(?P<command>[@-~])"  # a control sequence
    r"|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)"  # a title or a link
    r"|\x1b.|.",
    re.DOTALL,
)
THEME = TerminalTheme(
    background=(13, 17, 23),
    foreground=(209, 215, 224),
    normal=[
        (110, 118, 129),
        (255, 123, 114),
        (86, 211, 100),
        (227, 179, 65),
        (121, 192, 255),
        (210, 168, 255),
        (86, 212, 221),
        (230, 237, 243),
    ],
)


@dataclass(frozen=True)
class Style:
    """``colour``: #rrggbb; None for the usual one."""

    colour: str | None = None
    bold: bool = False
    dim: bool = False


@dataclass(frozen=True)
class Segment:
    """Characters side by side in one style. ``column`` counts from 0."""

    column: int
    text: str
    style: Style


Line: TypeAlias = tuple[Segment, ...]


class Terminal:
    """Keeps every line ever written, as a terminal's scrollback does.

    Rich writes a line again from its start, after erasing it: no column is ever moved to.
    """

    def __init__(self) -> None:
        self._lines = [""]
        self._row = 0

    def write(self, text: str) -> None:
        """Sequences that are unknown are left out."""
        for token in _TOKEN.finditer(text):
            if token["command"] is not None:
                if not token["private"]:
                    self._control(token)
            elif token[0] == "\n":
                self._go_to(self._row + 1)
            elif token[0] >= " ":
                self._lines[self._row] += token[0]

    def lines(self) -> list[Line]:
        return [_segments(line) for line in self._lines]

    def _go_to(self, row: int) -> None:
        self._row = max(row, 0)
        self._lines += [""] * (self._row + 1 - len(self._lines))

    def _control(self, token: re.Match[str]) -> None:
        many = int(token["number"] or 1)
        match token["command"]:
            case "m":
                self._lines[self._row] += token[0]
            case "A":
                self._go_to(self._row - many)
            case "B":
                self._go_to(self._row + many)
            case "K":
                self._lines[self._row] = ""


_CONSOLE = Console()


@lru_cache(maxsize=4096)
def _segments(line: str) -> Line:
    text = AnsiDecoder().decode_line(line)
    cells: list[tuple[str, Style]] = []
    for piece in text.render(_CONSOLE):
        found = piece.style
        colour = found.color if found else None
        style = Style(
            colour.get_truecolor(THEME).hex if colour and not colour.is_default else None,
            bold=bool(found and found.bold),
            dim=bool(found and found.dim),
        )
        cells += [(character, style) for character in piece.text]
    segments = []
    column = 0
    for style, group in groupby(cells, key=lambda cell: cell[1]):
        shown = "".join(character for character, _ in group)
        if shown.strip():
            segments.append(Segment(column, shown, style))
        column += len(shown)
    return tuple(segments)
