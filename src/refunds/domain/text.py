"""Text from outside, without invisible characters that act on a screen."""

from __future__ import annotations

import re

_UNSEEN = re.compile(
    "["
    "\\x00-\\x1f\\x7f-\\x9f"  # control characters; ESC begins a terminal's commands
    "\\u061c\\u200e\\u200f\\u202a-\\u202e\\u2066-\\u2069"  # bidi marks: they reorder what is read
    "\\u2028\\u2029"  # line and paragraph separators
    "]+"
)


def visible(text: str) -> str:
    """``text`` in one line, with a space in place of control characters and bidi marks."""
    return _UNSEEN.sub(" ", text)


def is_blank(text: str) -> bool:
    """Whether a reader would see nothing: spaces, and characters that show nothing."""
    return not any(each.isprintable() and not each.isspace() for each in text)
