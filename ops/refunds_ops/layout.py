"""Tables and facts: folded to a terminal's width, never folded in a pipe, never boxed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from refunds_ops.terminal import console, print_line, safe_text

Cell = str | Text
GAP = 2
LEAST_FOLDED = 16
"""The narrowest that a column of prose is folded to."""


@dataclass(frozen=True)
class Column:
    """``fold``: prose that may be broken into lines. Other text, such as an id, stays whole."""

    name: str
    right: bool = False
    fold: bool = False


def print_table(columns: Sequence[Column], rows: Iterable[Sequence[Cell]]) -> None:
    """A table; one record below another where the terminal is too narrow for it."""
    out = console()
    cells = [[_safe(cell) for cell in row] for row in rows]
    widths = [
        max([cell_len(column.name), *(_width(row[index]) for row in cells)])
        for index, column in enumerate(columns)
    ]
    least = sum(
        min(width, LEAST_FOLDED) if column.fold else width
        for column, width in zip(columns, widths, strict=True)
    )
    if out.is_terminal and least + GAP * len(columns) > out.width:
        for row in cells:
            out.print(facts_table(zip((each.name for each in columns), row, strict=True)))
            out.print()
        return
    if not out.is_terminal:
        print_line(_aligned(columns, widths, [column.name for column in columns]))
        for row in cells:
            print_line(_aligned(columns, widths, [cell.plain for cell in row]))
        return
    table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(
            column.name,
            justify="right" if column.right else "left",
            no_wrap=not column.fold,
            overflow="fold",
        )
    for row in cells:
        table.add_row(*row)
    out.print(table)


def _aligned(columns: Sequence[Column], widths: Sequence[int], line: Sequence[str]) -> str:
    """A record in one line of a pipe: nothing folded, nothing at the end."""
    cells = []
    for column, width, cell in zip(columns, widths, line, strict=True):
        text = " ".join(cell.split("\n"))
        blank = " " * (width - cell_len(text))
        cells.append(f"{blank}{text}" if column.right else f"{text}{blank}")
    return (" " * GAP).join(cells).rstrip()


def facts_table(rows: Iterable[tuple[str, Cell]]) -> RenderableType:
    """A label and a value in each line; a row without a value is left out."""
    table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for label, value in rows:
        if value:
            table.add_row(safe_text(label), _safe(value))
    return table


def _safe(cell: Cell) -> Text:
    # This comes before the layout, so that the width includes characters that are written out.
    if isinstance(cell, Text):
        return (
            cell
            if cell.plain.replace("\n", "").isprintable()
            else Text(safe_text(cell.plain, lines=True), style=cell.style)
        )
    return Text(safe_text(cell, lines=True))


def _width(cell: Text) -> int:
    return max(cell_len(line) for line in cell.plain.split("\n"))
