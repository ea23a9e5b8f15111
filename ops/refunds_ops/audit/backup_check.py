"""Compares the tables with the latest backup."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from refunds.domain.clock import CLOCK_SKEW, later
from refunds.domain.identifiers import RECORD_TYPE, entry_id
from refunds_ops.audit.findings import Finding
from refunds_ops.audit.page_rows import Columns
from refunds_ops.audit.row_store import RowStore
from refunds_ops.audit.rows import Stray, entry_row, refund_row
from refunds_ops.audit.side_by_side import ReadAll
from refunds_ops.audit.tables import Tables, Wire


class BackupCheck:
    """``captured`` returns what the gateway captured of a payment; None leaves the gateway out.

    ``raised``: payments of which more is captured than in the backup, not compared with a gateway.
    """

    def __init__(self, tables: Tables, captured: Callable[[str], int | None] | None) -> None:
        self._tables = tables
        self._captured = captured
        self.raised: list[str] = []

    def findings(self, store: RowStore, began: str, read_all: ReadAll) -> Iterator[Finding]:
        """``began``: when the backup's scan of the audit table began."""
        yield from filter(None, read_all(self._backed_up_entry, _unlike_entries(store)))
        yield from self._added_entries(store, began)
        yield from filter(None, read_all(self._backed_up_refund, _unlike_refunds(store)))
        yield from self._captured_more(store)

    def _backed_up_entry(self, columns: Columns) -> Finding | None:
        refund_id, version, transaction_id, hash_, recorded_at, rebuilt = columns
        wire = self._tables.at(transaction_id, entry_id(refund_id, version))
        if wire is not None and _is_backed_up(wire, hash_, recorded_at, rebuilt):
            return None  # It was put back since the scan.
        kind, what = "backup_entry_differs", "its hash is not the backup's"
        if wire is None or wire.get("record_type") != {"S": RECORD_TYPE}:
            kind = "backup_entry_gone"
            what = "its key is taken by another record" if wire else "the backup has it"
        elif wire.get("entry_hash") == {"S": hash_}:
            what = "recorded_at, or that it was rebuilt, is not as in the backup"
        return Finding(
            kind=kind,
            what=what,
            refund_id=refund_id,
            transaction_id=transaction_id,
            version=version,
        )

    def _added_entries(self, store: RowStore, began: str) -> Iterator[Finding]:
        surely_before = later(began, -CLOCK_SKEW)
        for refund_id, version, transaction_id, recorded_at in store.ask(
            "SELECT e.refund_id, e.version, e.transaction_id, e.recorded_at FROM entries e"
            " WHERE e.recorded_at < ? AND NOT EXISTS (SELECT 1 FROM backup_entries b WHERE"
            " b.refund_id = e.refund_id AND b.version = e.version)",
            surely_before,
        ):
            yield Finding(
                kind="backup_entry_new",
                what=f"recorded_at {recorded_at}, and not in the backup begun {began}",
                refund_id=refund_id,
                transaction_id=transaction_id,
                version=version,
            )

    def _backed_up_refund(self, columns: Columns) -> Finding | None:
        refund_id, version, hash_ = columns
        wire = self._tables.refund(refund_id)
        if wire is None:
            kind, what = "backup_refund_gone", f"the backup has its version {version}"
        else:
            row = refund_row(wire)
            if row.version != version or row.entry_hash == hash_:
                return None
            kind, what = "backup_refund_differs", "its contents are not the backup's"
        return Finding(kind=kind, what=what, refund_id=refund_id, version=version)

    def _captured_more(self, store: RowStore) -> Iterator[Finding]:
        """More is captured than in the backup: after another capture, or after a manipulation that
        allows more refunds."""
        for transaction_id, before in store.ask(
            "SELECT b.transaction_id, b.captured FROM backup_ledger b JOIN ledger l"
            " ON l.transaction_id = b.transaction_id WHERE l.captured > b.captured"
        ):
            there = self._tables.ledger_of(transaction_id)
            now = there[0].captured if there else None
            if now is None or now <= before:
                continue
            if self._captured is None:
                self.raised.append(transaction_id)
            elif (known := self._captured(transaction_id)) is None or known < now:
                yield Finding(
                    kind="captured_raised",
                    what=f"captured {now}; {before} in the backup, {known} at the gateway",
                    transaction_id=transaction_id,
                )


def _unlike_entries(store: RowStore) -> Iterator[Columns]:
    return store.ask(
        "SELECT b.refund_id, b.version, b.transaction_id, b.entry_hash, b.recorded_at,"
        " b.rebuilt FROM backup_entries b"
        " LEFT JOIN entries e ON e.refund_id = b.refund_id AND e.version = b.version"
        " AND e.transaction_id = b.transaction_id WHERE e.entry_hash IS NOT b.entry_hash"
        # A recreated entry says so, and when. Only its hash is that of the lost entry.
        " OR (e.rebuilt IS NULL"
        " AND (e.recorded_at IS NOT b.recorded_at OR b.rebuilt IS NOT NULL))"
    )


def _unlike_refunds(store: RowStore) -> Iterator[Columns]:
    return store.ask(
        "SELECT b.refund_id, b.version, b.entry_hash FROM backup_refunds b"
        " LEFT JOIN refunds r ON r.refund_id = b.refund_id WHERE r.refund_id IS NULL"
        " OR (r.version = b.version AND r.entry_hash IS NOT b.entry_hash)"
    )


def _is_backed_up(
    wire: Wire, hash_: str | None, recorded_at: str | None, rebuilt: str | None
) -> bool:
    """Whether a stored entry is the backup's. A rebuilt one has the lost entry's hash only."""
    row = entry_row(wire)
    if isinstance(row, Stray) or wire.get("record_type") != {"S": RECORD_TYPE}:
        return False
    same_record = row.recorded_at == recorded_at and rebuilt is None
    return row.entry_hash == hash_ and (row.rebuilt is not None or same_record)
