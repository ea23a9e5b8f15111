"""Check that a version is ready to be tagged, and print its section of CHANGELOG.md.

``make release VERSION=1.2.3`` runs this before it tags. The release workflow publishes the section.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
REFUSED = 1
USAGE_ERROR = 2


class NotReadyError(Exception):
    """The message says what is missing and what to do."""


def main() -> int:
    arguments = sys.argv[1:]
    if not arguments or arguments[1:]:
        print("usage: make release VERSION=1.2.3", file=sys.stderr)
        return USAGE_ERROR
    try:
        print(release_notes(ROOT, arguments[0]))
    except NotReadyError as exc:
        print(exc, file=sys.stderr)
        return REFUSED
    return 0


def release_notes(root: Path, version: str) -> str:
    """The version's section of CHANGELOG.md, without its heading."""
    declared = tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"]
    if declared != version:
        raise NotReadyError(
            f"pyproject.toml has version {declared}, not {version}.\n"
            f'  Set version = "{version}" there, commit, and try again.'
        )
    changelog = (root / "CHANGELOG.md").read_text()
    heading = rf"^## \[?{re.escape(version)}\]? [-–] \d{{4}}-\d{{2}}-\d{{2}}\n"
    section = re.search(rf"{heading}(.*?)(?=^## |^\[|\Z)", changelog, re.MULTILINE | re.DOTALL)
    if section is None:
        raise NotReadyError(
            f"CHANGELOG.md has no dated section for {version}.\n"
            f'  Move what is under "Unreleased" below "## [{version}] - YYYY-MM-DD".'
        )
    return section.group(1).strip()


if __name__ == "__main__":
    sys.exit(main())
