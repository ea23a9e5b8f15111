"""docs/security.md names, for each control, the test that holds it. Each must be there."""

from __future__ import annotations

import re

from tests.support.expanded_template import ROOT


def test_every_test_that_the_page_names_exists() -> None:
    named = set(re.findall(r"`(test_\w+)(?:\.py)?`", (ROOT / "docs/security.md").read_text()))
    files = {path.stem: path for path in (ROOT / "tests").rglob("test_*.py")}
    functions = set(
        re.findall(r"^def (test_\w+)", "\n".join(p.read_text() for p in files.values()), re.M)
    )
    assert len(named) >= 20
    assert named - set(files) - functions == set()
