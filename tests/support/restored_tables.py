"""What the tests of restoring share: names for tables, and what is in one."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from itertools import count
from typing import Any

import boto3
from tests.support.backup_parts import BackedUp
from tests.support.builders import NOW
from tests.support.moto_stack import REGION

from refunds.backup.table_scan import ReadLimit, Source
from refunds.domain.clock import rfc3339
from refunds_ops.backup.progress import Progress
from refunds_ops.backup.restore import table_identity
from refunds_ops.backup.tables import TableReader

LATER = rfc3339(NOW + timedelta(hours=1))


def quiet(what: str, done: int, total: int) -> None:
    """Tells nobody."""


def again(stack: BackedUp, progress: Progress, **other: Any) -> Progress:
    """The progress that the next call of the same command goes on from."""
    told: dict[str, Any] = {"of": "", "now": NOW} | other
    return Progress.load(
        progress.path, identity=lambda table: table_identity(stack.dynamodb, table), **told
    )


NUMBERS = count(1)


def reader() -> TableReader:
    return TableReader(boto3.client("dynamodb", region_name=REGION), ReadLimit(0))


def all_items(table: str) -> Iterator[dict[str, Any]]:
    return reader().items(Source("any", table))
