"""The expanded template as lines, one for each property: what approved.txt holds.

`make approve-template` writes it again after a change that is meant. Its diff shows a reviewer
everything that the change does, what SAM adds included.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

from tests.support.expanded_template import REGION, ROOT, Json, expanded, load_template

APPROVED = ROOT / "tests/unit/template/approved.txt"

# Text for people, and what other tests read closely.
_PROSE = ("AlarmDescription", "ConstraintDescription", "DashboardBody", "Description", "Metadata")
_PLACE = re.compile(r"\[[0-9]+\]$")
_HASH = re.compile(r"(Version)[0-9a-f]{10}\b")


def lines(template: Json) -> list[str]:
    """Sorted lines: parameters, rules and conditions, and every property of every resource."""
    whole = expanded(template)
    sections = ("Parameters", "Rules", "Conditions", "Resources", "Outputs")
    found = {
        _HASH.sub(r"\1", line)
        for section in sections
        for name, value in whole.get(section, {}).items()
        for line in _lines(f"{section}.{name}", value)
    }
    return sorted(found)


def _lines(path: str, value: Json) -> Iterator[str]:
    if isinstance(value, dict) and "Effect" in value and "Action" in value:
        # A statement is read as a whole. Its place in the list means nothing, its Sid names it.
        yield f"{_PLACE.sub('', path)} = {_compact(value)}"
    elif isinstance(value, dict) and value and not _is_intrinsic(value):
        for key, inner in value.items():
            if key not in _PROSE or path.startswith("Rules"):
                yield from _lines(f"{path}.{key}", inner)
    elif isinstance(value, list) and any(isinstance(each, dict | list) for each in value):
        for number, each in enumerate(value):
            yield from _lines(f"{path}[{number}]", each)
    else:
        yield f"{path} = {_compact(value)}"


def _is_intrinsic(value: dict[str, Json]) -> bool:
    return len(value) == 1 and next(iter(value)).startswith(("Ref", "Fn::"))


def _compact(value: Json) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def approved(path: Path = APPROVED) -> list[str]:
    return path.read_text().splitlines()


def main() -> None:
    os.environ.setdefault("AWS_DEFAULT_REGION", REGION)
    APPROVED.write_text("\n".join(lines(load_template())) + "\n")


if __name__ == "__main__":
    main()
