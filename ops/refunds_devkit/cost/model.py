"""What a million refunds cost: measured counts times dated prices. docs/cost.md explains it.

Everything here is per refund until ``Bill.dollars``, which is per million.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MILLION = 1_000_000
CPU_MB = 1769
"""The memory at which a function has one whole virtual CPU. Less memory gives less CPU, in
proportion."""

GATEWAY_CALLS = 2
"""A payment's first refund reads the payment, then creates the refund."""
PROCESS_WRITES_AND_READS = 4
AUDIT_RECORDS = 100
"""Records in a batch of the stream. A refund has two."""
TRANSITIONS = 6
"""State transitions of a workflow that validates, pays, records, audits and ends."""
KMS_WINDOW_SECONDS = 300
KMS_REQUESTS_PER_WINDOW = 10
"""How often in five minutes two queues and four tables request their data keys again."""


@dataclass(frozen=True)
class Prices:
    region: str
    as_of: str
    dollars: dict[str, float]
    sources: dict[str, str]


@dataclass(frozen=True)
class Counts:
    """The counts of one design. ``read_units_batch`` is per batch; ``cpu_ms_…`` is per refund.
    ``write_units_optional_indexes``: of the indexes by user and by day, on top of ``write_units``.
    """

    write_units: float
    write_units_optional_indexes: float
    read_units_each: float
    read_units_batch: float
    cpu_ms_process: float
    cpu_ms_audit: float
    log_bytes: float


@dataclass(frozen=True)
class Setup:
    """A stack's settings and load. ``sent_together``: requests in one SendMessageBatch."""

    batch: int = 10
    memory_mb: int = 1024
    gateway_ms: float = 300.0
    dynamodb_ms: float = 5.0
    sent_together: int = 10
    refunds_per_second: float = 10.0
    list_indexes: int = 2
    """Of UserIndex and DayIndex, how many are on."""


@dataclass(frozen=True)
class Bill:
    """``core``: SQS, Lambda and DynamoDB. ``more``: the rest of the flow, line by line.
    Dollars per million refunds."""

    name: str
    core: dict[str, float]
    more: dict[str, float]

    @property
    def total(self) -> float:
        return sum(self.core.values())

    @property
    def with_all(self) -> float:
        return self.total + sum(self.more.values())


def read_prices(path: Path | None = None) -> Prices:
    """The prices in ``path``, or those committed here. Raises ``ValueError`` and ``KeyError``."""
    content = json.loads((path or _HERE / "prices.json").read_text())
    return Prices(content["region"], content["as_of"], content["dollars"], content["sources"])


def read_counts() -> dict[str, Counts]:
    """The counts that `make bench` last confirmed: ``ours`` and ``sequential``."""
    content: dict[str, Any] = json.loads((_HERE / "counts.json").read_text())
    return {name: Counts(**content[name]) for name in ("ours", "sequential")}


LIST_INDEXES = 2
"""UserIndex and DayIndex."""
INDEXES_LINE = "Indexes by user and day"

_HERE = Path(__file__).parent


def ours(prices: Prices, counts: Counts, setup: Setup) -> Bill:
    """This stack: a batch's records in parallel, and the audit trail from the stream."""
    dollars = prices.dollars
    process_ms = (
        GATEWAY_CALLS * setup.gateway_ms
        + PROCESS_WRITES_AND_READS * setup.dynamodb_ms
        + _cpu_ms(counts.cpu_ms_process * setup.batch, setup)
    )
    audited = AUDIT_RECORDS / 2
    # Records in parallel, then events in tens, one PutEvents after the other.
    audit_ms = (2 + audited / 10) * setup.dynamodb_ms + _cpu_ms(
        counts.cpu_ms_audit * audited, setup
    )
    gb_seconds = _gb_seconds(process_ms, setup) / setup.batch + _gb_seconds(audit_ms, setup) / (
        audited
    )
    reads = counts.read_units_each + counts.read_units_batch / setup.batch
    return _bill(
        "this stack",
        dollars,
        setup,
        counts,
        reads=reads,
        invocations=1 / setup.batch + 1 / audited,
        gb_seconds=gb_seconds,
        events=1.0,
    )


def sequential(prices: Prices, counts: Counts, setup: Setup) -> Bill:
    """Powertools' sequential batch and idempotency: does not read the payment, one audit entry."""
    each_ms = setup.gateway_ms + counts.write_units * setup.dynamodb_ms
    batch_ms = setup.batch * each_ms + _cpu_ms(counts.cpu_ms_process * setup.batch, setup)
    return _bill(
        "Powertools, sequential",
        prices.dollars,
        setup,
        counts,
        reads=0.0,
        invocations=1 / setup.batch,
        gb_seconds=_gb_seconds(batch_ms, setup) / setup.batch,
        events=0.0,
    )


def step_functions(prices: Prices, counts: Counts, setup: Setup) -> Bill:
    """The same work as one Standard workflow for each refund, started from the queue one by one."""
    bill = sequential(prices, counts, setup)
    transitions = MILLION * TRANSITIONS * prices.dollars["state_transition"]
    return Bill(
        f"Step Functions Standard, {TRANSITIONS} transitions",
        bill.core | {"Step Functions": transitions},
        bill.more,
    )


def _bill(  # noqa: PLR0913 - the prices and counts of one bill
    name: str,
    dollars: dict[str, float],
    setup: Setup,
    counts: Counts,
    *,
    reads: float,
    invocations: float,
    gb_seconds: float,
    events: float,
) -> Bill:
    # Lambda receives and deletes in tens, whatever the function's batch size.
    sqs_requests = 1 / setup.sent_together + 2 / min(setup.batch, 10)
    kms_requests = KMS_REQUESTS_PER_WINDOW / (KMS_WINDOW_SECONDS * setup.refunds_per_second)
    core = {
        "DynamoDB writes": counts.write_units * dollars["write_unit"],
        "DynamoDB reads": reads * dollars["read_unit"],
        "SQS": sqs_requests * dollars["sqs_request"],
        "Lambda requests": invocations * dollars["lambda_request"],
        "Lambda duration": gb_seconds * dollars["lambda_gb_second"],
    }
    # The count is of both. Their keys never change: each costs a refund one write unit, once.
    index_units = counts.write_units_optional_indexes * setup.list_indexes / LIST_INDEXES
    more = {
        INDEXES_LINE: index_units * dollars["write_unit"],
        "Events": events * dollars["event"],
        "Logs": counts.log_bytes / 1e9 * dollars["log_gb"],
        "KMS": kms_requests * dollars["kms_request"],
    }
    return Bill(
        name,
        {line: MILLION * each for line, each in core.items()},
        {line: MILLION * each for line, each in more.items()},
    )


def _cpu_ms(milliseconds: float, setup: Setup) -> float:
    return milliseconds * max(1.0, CPU_MB / setup.memory_mb)


def _gb_seconds(milliseconds: float, setup: Setup) -> float:
    return milliseconds / 1000 * setup.memory_mb / 1024
