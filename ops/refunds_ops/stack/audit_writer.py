"""Whether WriteAudit reads the stream of the table Refunds, and how to connect it again.

A stream belongs to one table, not to its name. A table that was deleted and created again has
another stream, which no event source mapping reads. Money would then move without audit entries.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from refunds_ops.stack.stack import Stack

CONNECT_SECONDS = 180.0
POLL_SECONDS = 2.0

READING = frozenset({"Enabled", "Enabling", "Creating", "Updating"})

_COPIED = (
    "BatchSize",
    "BisectBatchOnFunctionError",
    "DestinationConfig",
    "FilterCriteria",
    "FunctionResponseTypes",
    "MaximumBatchingWindowInSeconds",
    "MaximumRecordAgeInSeconds",
    "MaximumRetryAttempts",
    "MetricsConfig",
    "ParallelizationFactor",
    "TumblingWindowInSeconds",
)

Mapped = Mapping[str, Any]
"""An event source mapping as Lambda describes it."""


class NotConnectedError(Exception):
    """WriteAudit doesn't read the table's stream. ``steps`` connect it."""

    def __init__(self, what: str, *steps: str) -> None:
        super().__init__(what)
        self.steps = steps


@dataclass(frozen=True)
class Connection:
    """The table's stream, and the mappings through which WriteAudit reads it or an earlier one."""

    stream_arn: str | None
    current: Mapped | None
    earlier: Mapped | None


def connection(stack: Stack) -> Connection:
    table = stack["RefundsTableName"]
    described = stack.dynamodb.describe_table(TableName=table)["Table"]
    stream_arn = described.get("LatestStreamArn")
    if not described.get("StreamSpecification", {}).get("StreamEnabled"):
        stream_arn = None
    current: Mapped | None = None
    earlier: Mapped | None = None
    for mapping in _mappings(stack):
        if mapping["EventSourceArn"] == stream_arn:
            current = mapping
        elif f":table/{table}/stream/" in mapping["EventSourceArn"]:
            earlier = mapping
    return Connection(stream_arn, current, earlier)


def check_connected(stack: Stack) -> None:
    """Raise ``NotConnectedError`` unless every change of a refund reaches WriteAudit."""
    found = connection(stack)
    table = stack["RefundsTableName"]
    if found.stream_arn is None:
        raise NotConnectedError(
            f"the table {table} has no stream, so no audit entry would be written",
            f"aws dynamodb update-table --table-name {table} --stream-specification "
            "StreamEnabled=true,StreamViewType=NEW_AND_OLD_IMAGES",
            "refunds backup restore then connects WriteAudit to it.",
        )
    if found.current is None:
        raise NotConnectedError(
            f"WriteAudit doesn't read the current stream of {table}, so no audit entry would be "
            "written",
            "refunds backup restore connects it before it puts the first row. By hand:",
            *_create_command(found),
        )
    if found.current["State"] not in READING:
        raise NotConnectedError(
            f"WriteAudit's event source mapping is {found.current['State']}, so no audit entry "
            "would be written",
            f"aws lambda update-event-source-mapping --enabled --uuid {found.current['UUID']}",
        )


def connect(
    stack: Stack,
    *,
    sleep: Callable[[float], None] = time.sleep,
    monotonic: Callable[[], float] = time.monotonic,
) -> bool:
    """Make WriteAudit read the table's stream from its beginning. False if it reads the stream
    already.

    The new mapping has the settings of the one that read the table's earlier stream. The earlier
    mapping stays, because CloudFormation knows it. It reads nothing. Raises ``NotConnectedError``.
    """
    found = connection(stack)
    if found.stream_arn is None or found.current is not None or found.earlier is None:
        check_connected(stack)
        return False
    earlier = found.earlier
    arguments: Any = {name: earlier[name] for name in _COPIED if earlier.get(name) is not None}
    stack.functions.create_event_source_mapping(
        FunctionName=earlier["FunctionArn"],
        EventSourceArn=found.stream_arn,
        StartingPosition="TRIM_HORIZON",
        Enabled=True,
        **arguments,
    )
    deadline = monotonic() + CONNECT_SECONDS
    while monotonic() < deadline:
        current = connection(stack).current
        if current is not None and current["State"] == "Enabled":
            return True
        sleep(POLL_SECONDS)
    raise NotConnectedError(
        f"Lambda has not enabled WriteAudit's event source mapping within {CONNECT_SECONDS:.0f} s",
        "Run the same command again: it waits for the mapping that was created.",
    )


def _mappings(stack: Stack) -> Iterator[Mapped]:
    """All mappings of WriteAudit to a stream of DynamoDB, including those of its alias."""
    function = stack["WriteAuditFunctionName"]
    pages = stack.functions.get_paginator("list_event_source_mappings").paginate()
    for page in pages:
        for mapping in page["EventSourceMappings"]:
            name = mapping.get("FunctionArn", "").split(":")[6:7]
            if name == [function] and "EventSourceArn" in mapping:
                yield mapping


def _create_command(found: Connection) -> tuple[str, ...]:
    function = found.earlier["FunctionArn"] if found.earlier else "<WriteAudit's alias live>"
    return (
        f"aws lambda create-event-source-mapping --function-name {function} "
        f"--event-source-arn {found.stream_arn} --starting-position TRIM_HORIZON",
        "with the other settings as template.yaml has them (WriteAudit, RefundChanges).",
    )
