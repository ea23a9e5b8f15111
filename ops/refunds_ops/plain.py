"""Facts and sentences on a terminal without rich, whose import costs `refunds show` a fifth."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Iterable

from refunds_ops.terminal import print_line, safe_text

GAP = 2
LEAST_WIDTH = 20

_CODES = {"bold": 1, "dim": 2, "red": 31, "green": 32, "yellow": 33, "magenta": 35, "cyan": 36}


def styled(text: str, style: str) -> str:
    """``text``, made safe, in a style of ``looks.COLOURS``, or without a style where no colours are
    shown."""
    text = safe_text(text)
    codes = [str(_CODES[name]) for name in style.split() if name in _CODES]
    if not codes or not _shows_colours():
        return text
    return f"\x1b[{';'.join(codes)}m{text}\x1b[0m"


def _shows_colours() -> bool:
    named = os.environ
    return sys.stdout.isatty() and not named.get("NO_COLOR") and named.get("TERM") != "dumb"


def print_styled(*parts: tuple[str, str]) -> None:
    """One line of texts, each with its style."""
    sys.stdout.write("".join(styled(text, style) for text, style in parts) + "\n")


def print_facts(rows: Iterable[tuple[str, str]]) -> None:
    """A label and a value in each line; a row without a value is left out."""
    shown = [(safe_text(label), safe_text(value)) for label, value in rows if value]
    indent = max((len(label) for label, _ in shown), default=0) + GAP
    for label, value in shown:
        first, *rest = _fold(value, indent)
        print_styled((label.ljust(indent), "dim"), (first, ""))
        for line in rest:
            print_line(" " * indent + line)


def print_paragraph(text: str) -> None:
    """A sentence, folded to a terminal's width and whole in a pipe."""
    for line in _fold(safe_text(text), 0):
        print_line(line)


def _fold(text: str, indent: int) -> list[str]:
    if not sys.stdout.isatty():
        return [text]
    width = max(LEAST_WIDTH, shutil.get_terminal_size().columns - indent)
    # Words that are too long, such as ids, stay whole so that they can be copied.
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False) or [""]
