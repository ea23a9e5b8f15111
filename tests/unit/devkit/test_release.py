from __future__ import annotations

from pathlib import Path

import pytest

from refunds_devkit.release import NotReadyError, release_notes

CHANGELOG = """# Changelog

## [Unreleased]

### Added

- Not yet.

## [1.2.0] - 2026-11-27

### Added

- Refunds.

## [1.1.0] - 2026-10-01

- Earlier.

[1.2.0]: https://example.com
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG)
    return tmp_path


def declare(root: Path, version: str) -> None:
    (root / "pyproject.toml").write_text(f'[project]\nversion = "{version}"\n')


def test_the_notes_are_the_versions_own_section(root: Path) -> None:
    declare(root, "1.2.0")
    assert release_notes(root, "1.2.0") == "### Added\n\n- Refunds."


def test_the_links_at_the_end_are_not_part_of_the_notes(root: Path) -> None:
    declare(root, "1.1.0")
    assert release_notes(root, "1.1.0") == "- Earlier."


def test_another_version_than_the_projects_is_refused(root: Path) -> None:
    declare(root, "1.2.0")
    with pytest.raises(NotReadyError, match=r"has version 1\.2\.0, not 1\.3\.0"):
        release_notes(root, "1.3.0")


def test_a_version_without_a_dated_section_is_refused(root: Path) -> None:
    declare(root, "1.3.0")
    with pytest.raises(NotReadyError, match=r"no dated section for 1\.3\.0"):
        release_notes(root, "1.3.0")
