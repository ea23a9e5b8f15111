"""CloudWatch's embedded metric format, read as CloudWatch reads it from a log."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Datapoint:
    namespace: str
    name: str
    dimensions: Mapping[str, str]
    value: float


def datapoints(line: Mapping[str, Any]) -> Iterator[Datapoint]:
    """Every datapoint of a line, once for each set of dimensions."""
    for directive in line["_aws"]["CloudWatchMetrics"]:
        for names in directive["Dimensions"]:
            dimensions = {name: str(line[name]) for name in names}
            for metric in directive["Metrics"]:
                written = line[metric["Name"]]
                for value in written if isinstance(written, list) else [written]:
                    yield Datapoint(
                        directive["Namespace"], metric["Name"], dimensions, float(value)
                    )
