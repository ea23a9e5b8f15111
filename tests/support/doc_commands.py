"""The command blocks of a page, by the name that a comment above each gives it."""

from __future__ import annotations

import re
from pathlib import Path
from textwrap import dedent

_BLOCK = re.compile(
    r"^(?P<indent> *)(?:<!-- run: (?P<name>[\w-]+) -->\n(?P=indent))?"
    r"```sh\n(?P<body>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)


def named_blocks(page: Path) -> dict[str, str]:
    """Each block by its name, and those without one by their first line."""
    blocks = {}
    for found in _BLOCK.finditer(page.read_text()):
        body = dedent(found["body"])
        blocks[found["name"] or body.splitlines()[0]] = body
    return blocks
