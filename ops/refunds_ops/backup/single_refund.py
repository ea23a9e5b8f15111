"""Restores one refund's record that is lost, damaged, or older than its audit trail."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from refunds.backup.digest import Digest, Export
from refunds.domain.audit_entry import NOT_AN_IMAGE, audit_entry
from refunds.domain.refund import AUDITED, Item, Refund
from refunds.tables.wire import condition_failed, from_wire, item_from_wire
from refunds_ops.audit.checks import Story, check_trail
from refunds_ops.audit.rows import EntryRow, entry_row
from refunds_ops.audit.tables import Tables
from refunds_ops.backup.audit_chains import AuditChains, TrailError
from refunds_ops.backup.data_files import item_for_boto, item_of, whole_lines
from refunds_ops.backup.restore import RestoreError
from refunds_ops.backup.storage import BackupStorage
from refunds_ops.backup.tables import Wire

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


class IntactError(RestoreError):
    """The record is what its audit trail says. An earlier restore may have written it."""


@dataclass
class BackedUpRefund:
    """What a backup has of one refund, in wire form."""

    record: Wire | None = None
    entries: list[Wire] = field(default_factory=list)


class RefundRestore:
    def __init__(
        self, dynamodb: DynamoDBClient, tables: Tables, chains: AuditChains, storage: BackupStorage
    ) -> None:
        self._dynamodb = dynamodb
        self._tables = tables
        self._chains = chains
        self._storage = storage

    def read(self, digest: Digest, refund_id: str) -> BackedUpRefund:
        """Find a refund in a backup. Raises ``DamagedError`` and ``AbsentError``."""
        found = BackedUpRefund()
        exports = {export.table: export for export in digest.exports}
        for item in self._rows(exports["refunds"], refund_id):
            found.record = item_for_boto(item)
        found.entries = [item_for_boto(item) for item in self._rows(exports["audit"], refund_id)]
        return found

    def _rows(self, export: Export, refund_id: str) -> Iterator[Wire]:
        mark = f'"{refund_id}"'.encode()  # only a line with it needs to be read as JSON
        for file in export.files:
            for line in whole_lines(self._storage, file):
                if mark in line and (item := item_of(line, file.key))["refund_id"] == {
                    "S": refund_id
                }:
                    yield item

    def restore(
        self, refund_id: str, backup: BackedUpRefund, transaction_id: str | None = None
    ) -> Refund:
        """Restore the refund's lost audit entries, then its record as the next version.

        ``transaction_id`` finds the trail of a refund that neither table nor backup has.

        Raises ``IntactError`` when there is nothing to restore, ``RestoreError`` when there is
        nothing to restore from or the record changes meanwhile, and ``TrailError`` when its audit
        trail is damaged.
        """
        found = self._tables.refund(refund_id)
        stored = dict(found) if found else None
        for entry in backup.entries:
            self._put_entry(entry)
        payments = {transaction_id} if transaction_id else _payments(stored, backup)
        latest = self._latest(refund_id, payments)
        self._check_damaged(stored, latest, backup.record)
        if backup.record is not None:
            new = self._chains.next_version(backup.record, latest)
        elif latest is not None:
            new = self._chains.from_trail(latest)
        else:
            raise RestoreError(f"neither this backup nor the audit trail has {refund_id}")
        self._put(stored, new)
        return Refund.from_item(item_from_wire(new))

    def _check_damaged(
        self, stored: Wire | None, latest: Item | None, backed_up: Wire | None
    ) -> None:
        """Refuse to replace a record that is intact."""
        entry = _entry_of(stored) if stored is not None else None
        if stored is None or entry is None:
            return
        if entry["version"] > max(
            latest["version"] if latest else 0,
            int(backed_up["version"]["N"]) if backed_up else 0,
        ):
            raise RestoreError(
                f"the record of {entry['refund_id']} is newer than its audit trail and the backup: "
                f"run refunds audit rebuild {entry['refund_id']} first"
            )
        same_request = backed_up is None or backed_up["fingerprint"] == stored.get("fingerprint")
        if latest is not None and entry["entry_hash"] == latest["entry_hash"] and same_request:
            raise IntactError(
                f"{entry['refund_id']} needs no restore: its record is what its audit trail says"
            )

    def _latest(self, refund_id: str, payments: set[str]) -> Item | None:
        """The latest entry of a trail that is intact from its first version on."""
        found: dict[str, list[Wire]] = {}
        for payment in payments:
            if entries := [dict(each) for each in self._tables.entries_of(payment, refund_id)]:
                found[payment] = entries
        if not found:
            return None
        wires = [wire for entries in found.values() for wire in entries]
        rows = [row for row in map(entry_row, wires) if isinstance(row, EntryRow)]
        story = Story(refund_id, None, sorted(rows, key=lambda row: row.version))
        for finding in check_trail(story):
            if finding.kind not in ("orphan", "removed"):
                raise TrailError(
                    f"the audit trail of {refund_id} has a finding, {finding.kind}: {finding.what}"
                )
        return self._chains.latest(
            {"refund_id": {"S": refund_id}, "transaction_id": {"S": next(iter(found))}}
        )

    def _put_entry(self, entry: Wire) -> None:
        try:
            self._dynamodb.put_item(
                TableName=self._tables.audit,
                Item=entry,
                ConditionExpression="attribute_not_exists(entry_id)",
            )
        except ClientError as exc:
            if not condition_failed(exc):
                raise

    def _put(self, stored: Wire | None, new: Wire) -> None:
        """Replace exactly the record that was read."""
        condition: dict[str, Any] = {"ConditionExpression": "attribute_not_exists(refund_id)"}
        if stored is not None:
            names = {"#version": "version", "#updated": "updated_at"}
            values = {f":{alias[1:]}": stored[n] for alias, n in names.items() if n in stored}
            terms = [
                f"{alias} = :{alias[1:]}" if name in stored else f"attribute_not_exists({alias})"
                for alias, name in names.items()
            ]
            condition = {
                "ConditionExpression": " AND ".join(terms),
                "ExpressionAttributeNames": names,
            } | ({"ExpressionAttributeValues": values} if values else {})
        try:
            self._dynamodb.put_item(TableName=self._tables.refunds, Item=new, **condition)
        except ClientError as exc:
            if not condition_failed(exc):
                raise
            raise RestoreError(
                f"{new['refund_id']['S']} changed meanwhile; run the command again"
            ) from exc


def _payments(stored: Wire | None, backup: BackedUpRefund) -> set[str]:
    """The payments under which the refund's entries may be: the backup's, or else the record's."""
    known = [backup.record, *backup.entries] if backup.record or backup.entries else [stored]
    return {item["transaction_id"]["S"] for item in known if item and "transaction_id" in item}


def _entry_of(record: Wire) -> Item | None:
    """The audit entry that the record makes; None for a record that is damaged."""
    try:
        return audit_entry({name: from_wire(record[name]) for name in AUDITED if name in record})
    except NOT_AN_IMAGE:
        return None
