"""The commands of docs/daily.md, by the number of their story."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

PAGE = (Path(__file__).parents[2] / "docs/daily.md").read_text()


def stories() -> dict[int, list[list[str]]]:
    """The arguments of each `refunds` command, as they stand on the page."""
    found: dict[int, list[list[str]]] = {}
    for heading, text in re.findall(r"^## (\d+)\. .*?\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S):
        blocks = re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S)
        found[int(heading)] = [
            shlex.split(re.split(r" [|>] ", line)[0])[1:]
            for block in blocks
            for line in block.splitlines()
            if line.startswith("refunds ")
        ]
    return found


STORIES = stories()


def filled_in(arguments: list[str], placeholders: dict[str, str]) -> list[str]:
    """A command with ids in place of the page's REFUND_ID and the like."""
    found = []
    for part in arguments:
        for name, value in placeholders.items():
            part = part.replace(name, value)
        found.append(part)
    return found
