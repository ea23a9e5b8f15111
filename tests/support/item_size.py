"""The size of an item as DynamoDB counts it."""

from __future__ import annotations

from typing import Any


def item_size(item: dict[str, Any] | None) -> int:
    """Bytes, as DynamoDB counts them: names and values."""
    if item is None:
        return 0
    return sum(len(name) + _size(value) for name, value in item.items())  # names are ASCII


def _size(value: dict[str, Any]) -> int:
    ((kind, inner),) = value.items()
    match kind:
        case "S":
            return len(inner.encode(errors="surrogatepass"))
        case "N":
            return (len(inner.strip("-0")) + 1) // 2 + 1
        case "M":
            return 3 + len(inner) + item_size(inner)
        case "L":
            return 3 + sum(1 + _size(each) for each in inner)
    return 1
