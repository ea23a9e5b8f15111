"""Compares the audit trail with the stream records that the audit writer could not write."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from refunds.audit.writer import entry_of, same_entry
from refunds.domain.audit_entry import NOT_AN_IMAGE
from refunds.domain.identifiers import REFUND_ID
from refunds.domain.refund import Item
from refunds.tables.wire import item_from_wire
from refunds_ops.audit.failures import Kept
from refunds_ops.audit.findings import Finding
from refunds_ops.audit.tables import Tables


def check_kept(tables: Tables, kept: Kept) -> Iterator[Finding]:
    """What is still missing of one kept batch of records."""
    if kept.problem:
        yield Finding(kind="stream_failure", what=kept.problem, where=kept.key)
    for record in kept.records:
        yield from _check_record(tables, kept, record)


def _check_record(tables: Tables, kept: Kept, record: Mapping[str, Any]) -> Iterator[Finding]:
    try:
        entry = entry_of(dict(record))
    except NOT_AN_IMAGE as exc:
        what = f"makes no entry ({type(exc).__name__}); kept because: {kept.reason}"
        about = _refund_of(record)
        yield Finding(kind="stream_failure", what=what, refund_id=about, where=kept.key)
        return
    if entry is None or is_stored(tables, entry):
        return
    yield Finding(
        kind="stream_failure",
        what=f"its entry is not in the trail; kept because: {kept.reason}",
        refund_id=entry["refund_id"],
        transaction_id=entry["transaction_id"],
        version=entry["version"],
        where=kept.key,
    )


def _refund_of(record: Mapping[str, Any]) -> str | None:
    try:
        refund_id: str = record["dynamodb"]["Keys"]["refund_id"]["S"]
        return refund_id if REFUND_ID.fullmatch(refund_id) else None
    except NOT_AN_IMAGE:
        return None


def is_stored(tables: Tables, entry: Item) -> bool:
    """Whether exactly this entry is in the trail."""
    wire = tables.at(entry["transaction_id"], entry["entry_id"])
    try:
        return wire is not None and same_entry(item_from_wire(wire), entry)
    except NOT_AN_IMAGE:
        return False
