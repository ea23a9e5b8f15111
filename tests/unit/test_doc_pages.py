"""Every block of the README and of docs/ is run by a test, or listed with the reason why not."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from tests.support.doc_commands import SHELLS, Block, blocks
from tests.support.doc_pages import (
    ELSEWHERE,
    MAKE_TARGETS_ONLY,
    NOT_HERE,
    NOT_RUN,
    ON_THE_LOCAL_STACK,
    reason_not_to_run,
)
from tests.support.expanded_template import ROOT

PAGES = sorted(
    str(page.relative_to(ROOT))
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]
    if page.name != "CHANGELOG.md"
)
SHOWN_ONLY = ("", "text", "mermaid")
"""Languages of blocks that are output, formats or pictures."""


def code(page: str) -> list[Block]:
    return [block for block in blocks(ROOT / page) if block.language not in SHOWN_ONLY]


@pytest.mark.parametrize("page", PAGES)
def test_every_block_is_run_or_listed(page: str) -> None:
    for block in code(page):
        runs = (
            (page, block.language) in {**ELSEWHERE, **NOT_RUN}
            or (page in ON_THE_LOCAL_STACK and block.language in SHELLS)
            or (page in MAKE_TARGETS_ONLY and block.language == "sh")
        )
        assert runs, f"no test runs this block:\n{block.body}"


def test_every_test_that_is_named_exists_and_reads_the_page() -> None:
    for (page, language), test in ELSEWHERE.items():
        assert any(block.language == language for block in code(page)), (page, language)
        assert (ROOT / test).is_file(), test
    for page, language in NOT_RUN:
        assert any(block.language == language for block in code(page)), (page, language)


@pytest.mark.parametrize("page", MAKE_TARGETS_ONLY)
def test_make_targets_exist(page: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    for block in code(page):
        for command in block.commands:
            if found := re.match(r"make ([a-z-]+)", command):
                assert found[1] in targets, command
            else:
                assert re.match(r"git |refunds-dev ", command), command


def test_every_exception_is_needed_and_has_a_reason() -> None:
    used = Counter(
        why
        for page in ON_THE_LOCAL_STACK
        for block in code(page)
        for command in block.commands
        if (why := reason_not_to_run(command))
    )
    for begins, why in NOT_HERE:
        assert len(why) > len("because"), begins
        assert used[why], begins


def test_most_commands_are_run() -> None:
    every = [
        command
        for page in ON_THE_LOCAL_STACK
        for block in code(page)
        if block.language in SHELLS
        for command in block.commands
    ]
    left_out = [each for each in every if reason_not_to_run(each)]
    assert len(every) > 30
    assert len(left_out) < len(every) * 2 / 3
