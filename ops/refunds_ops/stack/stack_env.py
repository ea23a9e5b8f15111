"""``.local/stack.env``: the settings and outputs that ``make up`` writes for a local stack."""

from __future__ import annotations

import shlex
from pathlib import Path

from refunds_ops.errors import NotReadyError

STACK_ENV = Path(".local/stack.env")


def read_values(path: Path) -> dict[str, str]:
    """Its ``KEY=value`` lines. Raises ``NotReadyError`` for a damaged file."""
    values = {}
    try:
        for line in path.read_text().splitlines():
            key, _, value = line.partition("=")
            if key:
                (values[key],) = shlex.split(value) or [""]
    except (OSError, ValueError) as exc:
        raise NotReadyError(f"{path} can't be read: {exc}", "Recreate it: make down up") from exc
    return values
