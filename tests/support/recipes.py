"""The recipes of docs/backup.md."""

from __future__ import annotations

import re

from tests.support.expanded_template import ROOT

DOC = (ROOT / "docs" / "backup.md").read_text()


def recipe(heading: str) -> list[str]:
    """The commands of the ```sh blocks below a heading."""
    section = re.search(rf"^###? {re.escape(heading)}\n(.*?)(?=^##)", DOC, re.S | re.M)
    assert section, heading
    blocks = re.findall(r"^```sh\n(.*?)^```", section[1], re.S | re.M)
    return [line for block in blocks for line in block.splitlines() if line.strip()]
