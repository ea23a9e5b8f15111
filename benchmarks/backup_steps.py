"""Backups compared with their limit, and the CPU of each step.

The limit reads the same pages over plain HTTP, without botocore, and compresses them. It stores
nothing, hashes nothing and cuts nothing. So a second ratio has a limit that includes what every
backup promises: AWS is called through botocore, each stored file has an MD5 (its manifest) and a
SHA-256 (the signed digest), and each audit entry is a leaf of a Merkle tree.

CPU time is compared, not wall time: the canned server and others use the same processors.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.results import Result, ratio_result, spread
from benchmarks.servers import CannedServer
from benchmarks.worker import Cost, Worker, worker
from refunds.backup.run import ONE_SEGMENT_ITEMS, SEGMENTS

PAGE_UNIT = "ms a page"

LIMIT = {"read": "reading it over plain HTTP", "gzip": "gzip, level 1"}
PROMISED = {
    "botocore": "botocore: signing, headers, the response in pieces of 64 KB",
    "hashes": "MD5 and SHA-256 of what is stored",
    "merkle": "SHA-256 of each Merkle leaf and node",
}
OURS = {"cut": "cutting it into lines", "leaves": "finding the Merkle leaves"}
REST = "files, upload, threads, copies"
PUBLISHING = "manifests, digest, claims: once a run"


@dataclass(frozen=True)
class Table:
    name: str
    source: str
    ratio_name: str
    target: float
    has_merkle_root: bool

    @property
    def steps(self) -> dict[str, str]:
        every = LIMIT | PROMISED | OURS
        if not self.has_merkle_root:
            del every["merkle"], every["leaves"]
        return every


TABLES = (
    Table("Refunds", "refunds", "backup / limit", 0.65, has_merkle_root=False),
    Table(
        "PaymentAuditTrail", "audit", "backup of the audit trail / limit", 0.5, has_merkle_root=True
    ),
)


@dataclass
class Measured:
    """Seconds of CPU by run: of a backup, of one without rows, and of the steps up to each step."""

    ours: list[float] = field(default_factory=list)
    publishing: list[float] = field(default_factory=list)
    up_to: dict[str, list[float]] = field(default_factory=dict)
    pages: int = 0


def limit_results(server: CannedServer, runs: int, rows: int) -> list[Result]:
    results: list[Result] = []
    with (
        worker("refunds.handlers.backup_refunds", server.url, TIMEOUT_SECONDS="900") as function,
        worker("benchmarks.baselines.backup_steps", server.url) as steps,
    ):
        for table in TABLES:
            measured = Measured()
            _measure(server, function, steps, table, ONE_SEGMENT_ITEMS, Measured())  # warms up
            for _ in range(runs):
                _measure(server, function, steps, table, rows, measured)
            results += _results(table, measured)
    return results


def whole_backup(cost: Cost, rows: int, source: str = "refunds") -> Cost:
    """The cost of a published backup. Raises ``RuntimeError`` if it lacks a row."""
    stored = cost.response.get("tables", {}).get(source, {}).get("item_count")
    if stored != rows:
        raise RuntimeError(f"a benchmark's backup has {stored} rows of {rows}")
    return cost


def _measure(  # noqa: PLR0913, PLR0917 - where, what, and for whom
    server: CannedServer,
    function: Worker,
    steps: Worker,
    table: Table,
    rows: int,
    measured: Measured,
) -> None:
    for count, kept in ((0, measured.publishing), (rows, measured.ours)):
        server.reset(rows={table.name: count})
        kept.append(whole_backup(function.invoke({}), count, table.source).cpu)
    segments = SEGMENTS if rows > ONE_SEGMENT_ITEMS else 1
    done: list[str] = []
    for step in table.steps:
        done.append(step)
        cost = steps.invoke({"table": table.name, "segments": segments, "steps": done})
        if cost.response["rows"] != rows:
            raise RuntimeError(f"{step} has read {cost.response['rows']} rows of {rows}")
        measured.up_to.setdefault(step, []).append(cost.cpu)
        measured.pages = cost.response["pages"]


def _results(table: Table, measured: Measured) -> list[Result]:
    up_to = measured.up_to
    promised = [step for step in table.steps if step in LIMIT | PROMISED][-1]
    return [
        ratio_result(
            table.ratio_name,
            up_to["gzip"],
            measured.ours,
            better="higher",
            target=table.target,
            note="CPU; the limit reads and compresses the same pages, nothing else",
        ),
        ratio_result(
            f"{table.ratio_name} with what is promised",
            up_to[promised],
            measured.ours,
            better="higher",
            note="; ".join(PROMISED[step] for step in table.steps if step in PROMISED),
        ),
        *step_results(table, measured),
    ]


def step_results(table: Table, measured: Measured) -> list[Result]:
    seconds: dict[str, Sequence[float]] = {}
    before: Sequence[float] = [0.0] * len(measured.ours)
    for step, title in table.steps.items():
        seconds[title] = _less(measured.up_to[step], before)
        before = measured.up_to[step]
    seconds[REST] = _less(_less(measured.ours, before), measured.publishing)
    seconds[PUBLISHING] = measured.publishing
    seconds["all"] = measured.ours
    milliseconds = 1000 / measured.pages
    return [
        Result(
            f"CPU of a page of {table.name}: {title}",
            statistics.median(each) * milliseconds,
            PAGE_UNIT,
            spread=spread(each) * milliseconds,
        )
        for title, each in seconds.items()
    ]


def _less(above: Sequence[float], below: Sequence[float]) -> list[float]:
    return [one - other for one, other in zip(above, below, strict=True)]
