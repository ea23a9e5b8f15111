"""`refunds verify`: compares everything that is stored about refunds with everything else.

It scans all tables into a temporary file and joins them there, which finds suspects. Then it reads
each suspect again, consistently, and reports only what is still wrong. Rows written while the scans
ran, and entries that the stream has yet to deliver, are no findings.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import chain, islice
from typing import Any

from refunds.domain.clock import Clock, rfc3339
from refunds.domain.refund import SWEEP_BACK
from refunds.gateways.contract import GatewayRefund
from refunds_ops.audit.backup_check import BackupCheck
from refunds_ops.audit.cross_check import STREAM_LAG, CrossCheck
from refunds_ops.audit.failures import FailureReader
from refunds_ops.audit.findings import Finding
from refunds_ops.audit.gateway_check import Ask, GatewayCheck
from refunds_ops.audit.kept_records import check_kept
from refunds_ops.audit.latest_backup import BackupReader
from refunds_ops.audit.page_rows import PageRows, page_rows
from refunds_ops.audit.rebuild import OWN_RECORD
from refunds_ops.audit.row_store import RowStore
from refunds_ops.audit.rows import entry_row, ledger_row, refund_row
from refunds_ops.audit.side_by_side import ReadAll, Workers, readers, worker_count
from refunds_ops.audit.suspects import suspect_ledgers, suspect_refunds
from refunds_ops.audit.tables import Tables

MAX_REFUNDS_IN_NOTE = 20
"""A note names at most this many refunds."""

STORIES_AT_ONCE = 1000
LEDGERS_AT_ONCE = 5000
"""How many one worker checks before it gets its next."""

Progress = Callable[[str, Iterable[Any], int], Iterator[Any]]
"""Wraps the pages of a table, which have a length, to show progress. The number is the approximate
item count."""


@dataclass
class Report:
    """What was checked and found. ``more``: there are findings beyond the limit."""

    checked: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    more: bool = False

    @property
    def clean(self) -> bool:
        return not self.findings

    def as_json(self) -> dict[str, Any]:
        return {
            "clean": self.clean,
            "checked": self.checked,
            "findings": [finding.as_json() for finding in self.findings],
            "notes": self.notes,
            "more": self.more,
        }


class Verification:
    """Each source may be None, which leaves it out.

    ``gateway``: pages of its list of refunds. ``captured``: what the gateway captured of a payment.
    ``accounts``: the account of each gateway that is configured, by the gateway's name.
    Without ``ask``, refunds that changed since the list was begun are not compared with it.
    """

    def __init__(  # noqa: PLR0913 - its parts, each by keyword
        self,
        tables: Tables,
        *,
        clock: Clock,
        progress: Progress,
        backup: BackupReader | None = None,
        failures: FailureReader | None = None,
        gateway: Iterable[Sequence[GatewayRefund]] | None = None,
        ask: Ask | None = None,
        captured: Callable[[str], int | None] | None = None,
        accounts: Mapping[str, str] | None = None,
        max_findings: int = 1000,
        stream_lag: timedelta = STREAM_LAG,
        sleep: Callable[[float], object] | None = None,
        workers: int | None = 1,
    ) -> None:
        """``workers``: how many processes compute. None: what suits the tables and the machine."""
        self._tables = tables
        self._clock = clock
        self._progress = progress
        self._backup = backup
        self._failures = failures
        self._gateway = gateway
        self._ask = ask
        self._accounts = accounts
        self._listed_at = ""
        self._max_findings = max_findings
        self._in_tables = CrossCheck(tables, clock=clock, stream_lag=stream_lag, sleep=sleep)
        self._in_backup = BackupCheck(tables, captured)
        self._worker_count = workers
        self._begun_again: list[str] = []

    def run(self) -> Report:
        """Raises ``WorkerDiedError`` when a worker process ends early: nothing is known then."""
        report = Report()
        about = {name: self._tables.about_how_many(name) for name in ("refunds", "ledger", "audit")}
        count = worker_count(self._worker_count, sum(about.values()))
        with (
            RowStore() as store,
            Workers(count) as workers,
            readers() as read_all,
            self._in_tables,
        ):
            self._scan(store, report, about, workers)
            with closing(self._all(store, workers, read_all)) as findings:
                report.findings = list(islice(findings, self._max_findings))
                report.more = next(findings, None) is not None
                report.notes += _rebuilt(store)
                report.notes += self._not_swept(store)
        if self._begun_again:
            report.notes.append(
                "Begun again after a restore or in new tables, which did not know them: "
                f"{_names(self._begun_again)}."
            )
        if self._in_backup.raised:
            report.notes.append(
                "More is captured than in the backup, which --gateway would look into: "
                f"payments {_names(self._in_backup.raised)}."
            )
        return report

    # --- Scanning ---------------------------------------------------------------------------------

    def _scan(
        self, store: RowStore, report: Report, about: Mapping[str, int], workers: Workers
    ) -> None:
        # The gateway and the backup first: the tables must already have what these show.
        self._scan_evidence(store)
        # Refunds, ledger, then audit, so that no entry is older than the refund that it is about.
        for name, items in about.items():
            for page in self._progress(name, self._table(name, workers), items):
                store.add(page.rows)
        store.index()
        report.checked = {
            "refunds": store.count("refunds"),
            "entries": store.count("entries") + store.count("strays"),
            "payments": store.count("ledger"),
        }
        if self._backup is not None:
            report.checked["backup_entries"] = store.count("backup_entries")
            report.notes.append(
                f"Compared with the backup of {self._backup.digest.start_time}"
                + ("." if self._backup.signature_checked else ", its signature unchecked.")
            )
        if self._gateway is not None:
            report.checked["gateway_refunds"] = store.count("gateway")

    def _scan_evidence(self, store: RowStore) -> None:
        if self._gateway is not None:
            self._listed_at = rfc3339(self._clock.now())
            for page in self._progress("gateway", map(list, self._gateway), 0):
                store.add_gateway(page)
        if self._backup is not None:
            for refunds in self._progress("backup", self._backup.pages("refunds", refund_row), 0):
                store.add_backup_refunds(refunds)
            for ledgers in self._progress("backup", self._backup.pages("ledger", ledger_row), 0):
                store.add_backup_ledgers(ledgers)
            for entries in self._progress("backup", self._backup.pages("audit", entry_row), 0):
                store.add_backup_entries(entries)

    def _table(self, name: str, workers: Workers) -> Iterator[PageRows]:
        scanned = 0

        def lines() -> Iterator[tuple[str, bytes]]:
            nonlocal scanned
            for page in self._tables.pages(name):
                scanned += page.count
                yield name, page.lines

        read = 0
        for rows in workers.map(page_rows, lines()):
            read += rows.count
            yield rows
        if read != scanned:
            raise RuntimeError(f"{name}: {scanned} items were scanned, and {read} were checked")

    # --- Finding ----------------------------------------------------------------------------------

    def _all(self, store: RowStore, workers: Workers, read_all: ReadAll) -> Generator[Finding]:
        yield from self._refunds_findings(store, workers, read_all)
        yield from _flat(read_all(self._in_tables.stray, store.strays()))
        suspects = workers.map(
            suspect_ledgers, ((store.path, *each) for each in store.ledger_ranges(LEDGERS_AT_ONCE))
        )
        yield from _flat(read_all(self._in_tables.ledger, _flat(suspects)))
        yield from self._in_tables.stray_reservations(store, self._max_findings + 1, read_all)
        yield from self._backup_findings(store, read_all)
        if self._gateway is not None:
            yield from GatewayCheck(self._tables, self._ask, self._listed_at).findings(store)
        if self._failures is not None:
            for kept in self._failures.unhandled():
                yield from check_kept(self._tables, kept)

    def _refunds_findings(
        self, store: RowStore, workers: Workers, read_all: ReadAll
    ) -> Iterator[Finding]:
        checked = self._progress(
            "chains",
            workers.map(
                suspect_refunds,
                ((store.path, *each) for each in store.refund_ranges(STORIES_AT_ONCE)),
            ),
            store.count("refunds"),
        )
        suspects = _flat(each.suspects for each in checked)
        for verdict in read_all(self._in_tables.refund, suspects):
            self._begun_again += verdict.begun_again
            yield from verdict.findings

    def _backup_findings(self, store: RowStore, read_all: ReadAll) -> Iterator[Finding]:
        if self._backup is None:
            return
        yield from self._backup.findings
        # What a damaged backup lacks would look like added entries.
        if not self._backup.findings:
            began = self._backup.audited_until
            yield from self._in_backup.findings(store, began, read_all)

    def _not_swept(self, store: RowStore) -> Iterator[str]:
        """Notes about paid refunds that a bank may still send back, unnoticed: the sweep for
        reversals reads only the lists of the accounts that are configured."""
        if self._accounts is None:
            return
        since = rfc3339(self._clock.now() - SWEEP_BACK)
        for gateway, account, count in store.ask(
            "SELECT gateway, gateway_account, count(*) FROM refunds"
            " WHERE status = 'SUCCEEDED' AND created_at > ?"
            " GROUP BY gateway, gateway_account ORDER BY gateway, gateway_account",
            since,
        ):
            if gateway not in self._accounts or account not in (None, self._accounts[gateway]):
                yield (
                    f"{count:,} paid refunds of the last {SWEEP_BACK.days} days are at {gateway}"
                    + (f" {account}" if account else "")
                    + ", which is not configured: if a bank sends one back, it stays SUCCEEDED. "
                    "See docs/gateways.md."
                )


_flat = chain.from_iterable


def _rebuilt(store: RowStore) -> list[str]:
    """Notes about rebuilt entries, and which of them nothing else proves."""
    again = store.count("entries WHERE rebuilt IS NOT NULL")
    if not again:
        return []
    alone = [
        f"{refund_id} v{version}"
        for refund_id, version in store.ask(
            "SELECT refund_id, version FROM entries WHERE rebuilt = ? ORDER BY refund_id, version",
            OWN_RECORD,
        )
    ]
    note = f"{again} entries of the trail were rebuilt"
    return [
        f"{note}; from the refund's own record alone: {_names(alone)}." if alone else f"{note}."
    ]


def _names(names: Sequence[str]) -> str:
    more = (
        f" and {len(names) - MAX_REFUNDS_IN_NOTE} more" if len(names) > MAX_REFUNDS_IN_NOTE else ""
    )
    return ", ".join(names[:MAX_REFUNDS_IN_NOTE]) + more
