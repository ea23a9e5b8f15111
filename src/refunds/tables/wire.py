"""DynamoDB's wire format, and its one error that is a normal result: a failed condition.

boto3's own deserializer turns every number into a ``Decimal``. Here a number is an int, or an error
is raised.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from botocore.exceptions import ClientError

from refunds.domain.refund import Item

Wire = dict[str, Any]
"""``{"N": "5"}``: one value as DynamoDB's API and streams have it."""


def to_wire(value: Any) -> Wire:
    """A plain JSON value in wire form. Raises ``TypeError`` for a float or anything else."""
    match value:
        case None:
            return {"NULL": True}
        case bool():
            return {"BOOL": value}
        case int():
            return {"N": str(value)}
        case str():
            return {"S": value}
        case Mapping():
            return {"M": item_to_wire(value)}
        case list() | tuple():
            return {"L": [to_wire(each) for each in value]}
    raise TypeError(f"no wire form for {type(value).__name__}")


def from_wire(wire: Mapping[str, Any]) -> Any:
    """The plain value. Raises ``ValueError`` for a fraction or a type that no table here has."""
    ((kind, value),) = wire.items()
    match kind:
        case "S" | "BOOL":
            return value
        case "N":
            return int(value)
        case "NULL":
            return None
        case "M":
            return item_from_wire(value)
        case "L":
            return [from_wire(each) for each in value]
    raise ValueError(f"unexpected attribute type {kind}")


def item_to_wire(item: Mapping[str, Any]) -> Wire:
    return {
        # As below.
        name: {"S": value} if type(value) is str else to_wire(value)
        for name, value in item.items()
    }


def item_from_wire(wire: Mapping[str, Any]) -> Item:
    return {
        # Most attributes are text. A function call for each would take most of the time.
        name: value["S"] if len(value) == 1 and "S" in value else from_wire(value)
        for name, value in wire.items()
    }


def condition_failed(error: ClientError) -> bool:
    """Whether the write was refused by its own condition, so that it did not happen."""
    return error.response["Error"]["Code"] == "ConditionalCheckFailedException"


def old_item(error: ClientError) -> Item | None:
    """The item that failed the condition, which ``ALL_OLD`` returns; None if there is none."""
    wire: Any = error.response.get("Item")
    return item_from_wire(wire) if wire else None
