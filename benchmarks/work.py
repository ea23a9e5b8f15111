"""The requests and capacity units of one successful refund, counted on the wire."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from benchmarks.batch import AUDIT, BASELINE, OURS, whole
from benchmarks.canned_dynamodb import OPTIONAL_INDEXES
from benchmarks.requests_to_make import sqs_event
from benchmarks.results import Result
from benchmarks.servers import CannedServer
from benchmarks.worker import worker
from refunds_devkit.cost.model import read_counts

BATCH = 10
MOST_WRITE_UNITS = 5
MOST_OPTIONAL_WRITE_UNITS = 2


@dataclass(frozen=True)
class Work:
    """The work of one refund: ``requests`` by name, units by table."""

    requests: dict[str, float]
    write_units: dict[str, float]
    read_units: float
    largest_item_bytes: dict[str, int]

    @property
    def all_requests(self) -> float:
        return sum(self.requests.values())

    @property
    def all_write_units(self) -> float:
        """Without the two indexes that a stack can do without."""
        return sum(self.write_units.values()) - self.optional_write_units

    @property
    def optional_write_units(self) -> float:
        return self.write_units.get(OPTIONAL_INDEXES, 0.0)


def measure(server: CannedServer) -> tuple[Work, Work]:
    """Ours, audit trail and events included, and the baseline's, for a batch of ten each."""
    # The counts do not depend on the installed packages.
    with (
        worker(OURS, server.url, packaged=False) as process,
        worker(AUDIT, server.url, packaged=False) as audit,
    ):
        _warm(process)
        server.reset(stream_of="Refunds")
        whole(process.invoke(sqs_event(BATCH)))
        whole(audit.invoke({"Records": server.stream()}))
        ours = _work(server.counts())
    with worker(BASELINE, server.url, packaged=False) as baseline:
        _warm(baseline)
        server.reset()
        whole(baseline.invoke(sqs_event(BATCH)))
        theirs = _work(server.counts())
    return ours, theirs


def _warm(function: Any) -> None:
    whole(
        function.invoke(sqs_event(1))
    )  # reads the gateway's key, which is then cached for five minutes


def _work(counts: dict[str, Any]) -> Work:
    def each(values: dict[str, float]) -> dict[str, float]:
        return {name: value / BATCH for name, value in sorted(values.items())}

    return Work(
        requests=each(counts["requests"]),
        write_units=each(counts["write_units"]),
        read_units=counts["read_units"] / BATCH,
        largest_item_bytes=counts["largest_item_bytes"],
    )


def _agreement(ours: Work, theirs: Work) -> Result:
    """Whether the committed counts of `refunds-dev cost` match this measurement."""
    committed = read_counts()
    committed_ours = committed["ours"]
    pairs = {
        "our write units": (committed_ours.write_units, ours.all_write_units),
        "the optional indexes' write units": (
            committed_ours.write_units_optional_indexes,
            ours.optional_write_units,
        ),
        "our read units": (
            committed_ours.read_units_each + committed_ours.read_units_batch / BATCH,
            ours.read_units,
        ),
        "the baseline's write units": (
            committed["sequential"].write_units,
            theirs.all_write_units,
        ),
    }
    differ = [
        name for name, (one, other) in pairs.items() if not math.isclose(one, other, abs_tol=1e-9)
    ]
    return Result(
        "wrong counts of refunds-dev cost",
        len(differ),
        "counts",
        target=0,
        is_count=True,
        note=", ".join(differ),
    )


def work_results(server: CannedServer) -> list[Result]:
    ours, theirs = measure(server)
    by_table = ", ".join(f"{name} {units:g}" for name, units in ours.write_units.items())
    by_name = ", ".join(f"{name} {number:g}" for name, number in ours.requests.items())
    largest = max(ours.largest_item_bytes.values())
    return [
        _agreement(ours, theirs),
        Result(
            "write units per refund",
            ours.all_write_units,
            "units",
            baseline=theirs.all_write_units,
            target=MOST_WRITE_UNITS,
            is_count=True,
            note=f"without the two optional indexes; {by_table}",
        ),
        Result(
            "write units per refund, of the indexes by user and by day",
            ours.optional_write_units,
            "units",
            target=MOST_OPTIONAL_WRITE_UNITS,
            is_count=True,
            note=f"with both, {ours.all_write_units + ours.optional_write_units:g} a refund",
        ),
        Result(
            "read units per refund",
            ours.read_units,
            "units",
            baseline=theirs.read_units,
            target=1.1,
            is_count=True,
        ),
        Result(
            "requests per refund",
            ours.all_requests,
            "requests",
            baseline=theirs.all_requests,
            target=5.4,
            is_count=True,
            note=by_name,
        ),
        Result(
            "largest item of a usual refund",
            largest,
            "bytes",
            target=1024,
            is_count=True,
            note="above 1 KB, each write costs two units",
        ),
    ]
