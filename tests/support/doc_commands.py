"""The blocks of a page: commands by the name that a comment above each gives it, and all others."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

_BLOCK = re.compile(
    r"^(?P<indent> *)(?:<!-- run: (?P<name>[\w-]+) -->\n(?P=indent))?"
    r"```(?P<language>\w*)(?P<about>[^\n]*)\n(?P<body>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
_QUOTED = re.compile(r"""'[^']*'|"[^"]*"|#[^\n]*""")
"""Quotes and comments: whichever begins first has the other's marks in it."""
SHELLS = ("sh", "console")


@dataclass(frozen=True)
class Block:
    name: str | None
    language: str
    body: str

    @property
    def commands(self) -> list[str]:
        """One line each: continued lines and quoted line breaks are joined, comments left out."""
        body = re.sub(r"^\$ ", "", self.body) if self.language == "console" else self.body
        joined = re.sub(r"\\\n\s*", " ", body)
        joined = _QUOTED.sub(lambda found: found[0].replace("\n", " "), joined)
        lines = [re.sub(r"(^|\s+)#.*", "", line).strip() for line in joined.splitlines()]
        return [line for line in lines if line and not line.startswith("#")]


def blocks(page: Path) -> list[Block]:
    return [
        Block(found["name"], found["language"], dedent(found["body"]))
        for found in _BLOCK.finditer(page.read_text())
    ]


def named_blocks(page: Path) -> dict[str, str]:
    """Each block of commands by its name, and those without one by their first line."""
    return {
        block.name or block.body.splitlines()[0]: block.body
        for block in blocks(page)
        if block.language == "sh"
    }
