"""The one form of PartiQL statement that is used, read for what stands in for DynamoDB."""

from __future__ import annotations

import re
from typing import Any

_INSERT = re.compile(r"INSERT INTO \"([\w.-]+)\" VALUE \{((?:'\w+': \?(?:, )?)+)\}", re.ASCII)


def inserted(statement: str, parameters: list[Any]) -> tuple[str, dict[str, Any]]:
    """The table's name and the item of the one form of INSERT that is used."""
    found = _INSERT.fullmatch(statement)
    assert found is not None, statement
    names = re.findall(r"'(\w+)'", found[2])
    return found[1], dict(zip(names, parameters, strict=True))
