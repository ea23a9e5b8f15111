"""Backups compared with their limit, and the instructions of each step.

The limit reads the same pages over plain HTTP, without botocore, and compresses them. It stores
nothing, hashes nothing and cuts nothing. So a second ratio has a limit that includes what every
backup promises: AWS is called through botocore, each stored file has an MD5 (its manifest) and a
SHA-256 (the signed digest), and each audit entry is a leaf of a Merkle tree.

Instructions repeat on a busy machine, but include neither the kernel's nor waits for memory. CPU
time includes both, and changes with what else the machine does. Wall time would include the server.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks import callgrind
from benchmarks.canned_dynamodb import pages_of
from benchmarks.results import Result, ratio_result
from benchmarks.servers import CannedServer
from benchmarks.worker import Cost, Worker, worker
from refunds.backup.run import ONE_SEGMENT_ITEMS, SEGMENTS

PAGE_UNIT = "million a page"
COMPARED_ROWS = 100_000
STEPS, BACKUP = "benchmarks.baselines.backup_steps", "refunds.handlers.backup_refunds"

LIMIT = {"read": "reading it over plain HTTP", "gzip": "gzip, level 1"}
PROMISED = {
    "botocore": "botocore: signing, headers, the response in pieces of 64 KB",
    "hashes": "MD5 and SHA-256 of what is stored",
    "merkle": "SHA-256 of each Merkle leaf and node",
}
OURS = {"cut": "cutting it into lines", "leaves": "finding the Merkle leaves"}
REST = "files, upload, the rest"
PUBLISHING = "manifests, digest, claims: once a run, at 100,000 rows"


@dataclass(frozen=True)
class Table:
    name: str
    source: str
    ratio_name: str
    target: float
    has_merkle_root: bool

    @property
    def promised(self) -> list[str]:
        return [step for step in self.steps if step in LIMIT | PROMISED]

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
    """By run, of a backup, of its limit, and of the limit with what is promised."""

    ours: list[float] = field(default_factory=list)
    limit: list[float] = field(default_factory=list)
    promised: list[float] = field(default_factory=list)


def limit_results(
    server: CannedServer, runs: int, rows: int, *, with_instructions: bool
) -> list[Result]:
    results: list[Result] = []
    counted = with_instructions and callgrind.installed()
    publishing = _count(server, BACKUP, {}, TABLES[0], 0) if counted else 0
    for table in TABLES:
        if counted:
            ours = _count(server, BACKUP, {}, table, ONE_SEGMENT_ITEMS) - publishing
            up_to = {
                step: _count(server, STEPS, _event(table, step, 1), table, ONE_SEGMENT_ITEMS)
                for step in table.steps
            }
            results += instruction_results(table, ours, publishing, up_to)
        results += ratio_results(table, "CPU time", _cpu_times(server, table, runs, rows))
    return results


def whole_backup(cost: Cost, rows: int, source: str = "refunds") -> Cost:
    """The cost of a published backup. Raises ``RuntimeError`` if it lacks a row."""
    stored = cost.response.get("tables", {}).get(source, {}).get("item_count")
    if stored != rows:
        raise RuntimeError(f"a benchmark's backup has {stored} rows of {rows}")
    return cost


def instruction_results(
    table: Table, ours: int, publishing: int, up_to: Mapping[str, int]
) -> list[Result]:
    """``ours`` are without ``publishing``; both and ``up_to``, for ``ONE_SEGMENT_ITEMS`` rows."""
    share = publishing * ONE_SEGMENT_ITEMS / COMPARED_ROWS
    measured = Measured([ours + share], [float(up_to["gzip"])], [float(up_to[table.promised[-1]])])
    millions = 1e6 * pages_of(table.name, ONE_SEGMENT_ITEMS)
    added, before = {}, 0
    for step, title in table.steps.items():
        added[title] = float(up_to[step] - before)
        before = up_to[step]
    added |= {REST: float(ours - before), PUBLISHING: share, "all": ours + share}
    return [
        *ratio_results(table, "instructions", measured),
        *(
            Result(f"a page of {table.name}: {title}", count / millions, PAGE_UNIT)
            for title, count in added.items()
        ),
    ]


def ratio_results(table: Table, kind: str, measured: Measured) -> list[Result]:
    return [
        ratio_result(
            f"{table.ratio_name}, {kind}",
            measured.limit,
            measured.ours,
            better="higher",
            target=table.target,
            note="the limit reads and compresses the same pages, nothing else",
        ),
        ratio_result(
            f"{table.ratio_name} with what is promised, {kind}",
            measured.promised,
            measured.ours,
            better="higher",
            note="; ".join(PROMISED[step] for step in table.promised if step in PROMISED),
        ),
    ]


def _count(
    server: CannedServer, module: str, event: dict[str, Any], table: Table, rows: int
) -> int:
    """The instructions of one warm invocation, in a process of its own."""
    with (
        callgrind.counter() as counter,
        worker(
            module, server.url, command=counter.command, PYTHONHASHSEED="0", TIMEOUT_SECONDS="900"
        ) as function,
    ):
        server.reset(rows={table.name: rows})
        function.invoke(event)

        def work() -> None:
            _check(function.invoke(event), rows, table)

        return counter.count(function.process_id, work)


def _cpu_times(server: CannedServer, table: Table, runs: int, rows: int) -> Measured:
    measured = Measured()
    segments = SEGMENTS if rows > ONE_SEGMENT_ITEMS else 1
    with (
        worker(BACKUP, server.url, TIMEOUT_SECONDS="900") as function,
        worker(STEPS, server.url) as steps,
    ):
        each: tuple[tuple[Worker, dict[str, Any], list[float]], ...] = (
            (function, {}, measured.ours),
            (steps, _event(table, "gzip", segments), measured.limit),
            (steps, _event(table, table.promised[-1], segments), measured.promised),
        )
        server.reset(rows={table.name: ONE_SEGMENT_ITEMS})
        for process, event, _ in each:
            process.invoke(event)
        for _ in range(runs):
            server.reset(rows={table.name: rows})
            for process, event, kept in each:
                kept.append(_check(process.invoke(event), rows, table).cpu)
    return measured


def _event(table: Table, last: str, segments: int) -> dict[str, Any]:
    every = list(table.steps)
    steps = every[: every.index(last) + 1]
    return {"table": table.name, "segments": segments, "steps": steps}


def _check(cost: Cost, rows: int, table: Table) -> Cost:
    """Raises ``RuntimeError`` if not all rows were read."""
    if "rows" not in cost.response:
        return whole_backup(cost, rows, table.source)
    if cost.response["rows"] != rows:
        raise RuntimeError(f"a benchmark has read {cost.response['rows']} rows of {rows}")
    return cost
