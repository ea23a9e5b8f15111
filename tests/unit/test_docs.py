"""Links in the documentation lead somewhere, and every decision has its parts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
DECISIONS = sorted(ROOT.glob("docs/decisions/[0-9]*.md"))


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_leads_to_a_file_and_a_heading_that_exist(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if link.startswith(("https://", "http://")):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


def test_a_newcomers_first_change_can_be_made_as_it_is_written() -> None:
    page = " ".join((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split())
    found = re.search(
        r"In `(\S+)`, change `([^`]+)` in `TRANSITIONS` to `([^`]+)`.*?`(test_\w+)` fails", page
    )
    assert found is not None
    path, before, after, test = found.groups()
    assert before != after
    assert (ROOT / path).read_text(encoding="utf-8").count(before) == 1
    tests = ROOT.glob("tests/unit/domain/test_*.py")
    assert any(f"def {test}(" in each.read_text(encoding="utf-8") for each in tests)


@pytest.mark.parametrize("page", DECISIONS, ids=name)
def test_every_decision_has_a_date_a_status_and_what_lost(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert re.search(r"^\| Date \| \d{4}-\d{2}-\d{2} \|$", text, re.MULTILINE)
    assert re.search(r"^\| Status \| (Accepted|Superseded by \[.*) \|$", text, re.MULTILINE)
    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert headings == ["Context", "Decision", "Alternatives", "Consequences"]


def test_the_index_of_decisions_lists_each_with_its_own_title_and_date() -> None:
    index = (ROOT / "docs/decisions/README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| \[(.*)\]\((.*)\) \| (\S+) \|", index, re.MULTILINE)
    expected = []
    for page in DECISIONS:
        text = page.read_text(encoding="utf-8")
        title, date = re.search(r"^# (.*)$", text, re.M), re.search(r"\| Date \| (\S+) \|", text)
        assert title
        assert date
        expected.append((str(int(page.name[:4])), title[1], page.name, date[1]))
    assert rows == expected


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives to a page's headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-") for text in headings}
