"""Reading the tables: whole ones a page at a time, and one refund's story consistently."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from refunds.backup.table_scan import Page, PageReader, sources
from refunds.domain.identifiers import RECORD_TYPE
from refunds.tables.ledger import RESERVATION
from refunds.tables.state import LOOK_UP_FIRST
from refunds_ops.audit.checks import Story
from refunds_ops.audit.rows import EntryRow, LedgerRow, Stray, entry_row, ledger_row, refund_row

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

Wire = Mapping[str, Any]

MAX_ENTRY_PAGES = 100
"""Pages of one refund's entries: 1 MB each, far past what any refund has."""


@dataclass(frozen=True)
class Read:
    """A story as consistent reads show it, and the items that it was made of, in wire form."""

    story: Story
    refund: Wire | None = None
    entries: Mapping[int, Wire] = field(default_factory=dict)


class Tables:
    """The three tables of a stack. Everything is read consistently; nothing is written."""

    def __init__(
        self, client: DynamoDBClient, scan: PageReader, *, refunds: str, ledger: str, audit: str
    ) -> None:
        self._client = client
        self._scan = scan
        # Only what a backup holds is verified: no payment records, no state of the functions.
        self._sources = {each.name: each for each in sources(refunds, ledger, audit)}
        self.refunds = refunds
        self.ledger = ledger
        self.audit = audit

    def pages(self, name: str) -> Iterator[Page]:
        """All items of ``refunds``, ``ledger`` or ``audit``, unparsed; while a page is worked on,
        the next one is fetched."""
        source = self._sources[name]
        with ThreadPoolExecutor(1) as ahead:
            coming = ahead.submit(self._scan.read, source, 0, 1, None)
            while True:
                page = coming.result()
                if page.last_key:
                    coming = ahead.submit(self._scan.read, source, 0, 1, page.last_key)
                yield page
                if not page.last_key:
                    return

    def about_how_many(self, name: str) -> int:
        """Items in a table, as of some hours ago; 0 when nobody knows."""
        table = self._sources[name].table
        return self._client.describe_table(TableName=table)["Table"].get("ItemCount", 0)

    def refund(self, refund_id: str) -> Wire | None:
        return self._get(self.refunds, {"refund_id": {"S": refund_id}})

    def ledger_of(self, transaction_id: str) -> tuple[LedgerRow, dict[str, int]] | None:
        item = self._get(self.ledger, {"transaction_id": {"S": transaction_id}})
        return ledger_row(item) if item else None

    def reservation_of(self, transaction_id: str, refund_id: str) -> tuple[LedgerRow, int | None]:
        """A payment's balance, and what it holds for one refund (0: released, None: never held).

        A payment of thousands of refunds has a large ledger. Only this much of it is parsed, so
        what is wrong with other reservations is not seen here; ``ledger_of`` sees it.
        """
        names = {
            "#id": "transaction_id",
            "#captured": "captured",
            "#remaining": "remaining",
            "#currency": "currency",
            "#held": f"{RESERVATION}{refund_id}",
        }
        answer = self._client.get_item(
            TableName=self.ledger,
            Key={"transaction_id": {"S": transaction_id}},
            ConsistentRead=True,
            ProjectionExpression=", ".join(names),
            ExpressionAttributeNames=names,
        )
        row, held = ledger_row({"transaction_id": {"S": transaction_id}, **answer.get("Item", {})})
        return row, held.get(refund_id)

    def look_up_first_until(self) -> str | None:
        """Until when the latest restore has every claim look its refund up first, if there was
        one."""
        note = self._get(self.ledger, {"transaction_id": {"S": LOOK_UP_FIRST}}) or {}
        until: str | None = note.get("look_up_first_until", {}).get("S")
        return until

    def at(self, transaction_id: str, entry_id: str) -> Wire | None:
        """The item at a key of the audit table, whoever wrote it."""
        return self._get(
            self.audit, {"transaction_id": {"S": transaction_id}, "entry_id": {"S": entry_id}}
        )

    def entries_of(self, transaction_id: str, refund_id: str | None = None) -> Iterator[Wire]:
        """A payment's refund entries, or one refund's, by version; no other records."""
        prefix = f"{RECORD_TYPE}#{refund_id}#" if refund_id else f"{RECORD_TYPE}#"
        arguments: dict[str, Any] = {
            "TableName": self.audit,
            "KeyConditionExpression": "transaction_id = :tx AND begins_with(entry_id, :prefix)",
            "FilterExpression": "record_type = :refund",
            "ExpressionAttributeValues": {
                ":tx": {"S": transaction_id},
                ":prefix": {"S": prefix},
                ":refund": {"S": RECORD_TYPE},
            },
            "ConsistentRead": True,
        }
        for _ in range(MAX_ENTRY_PAGES):
            answer = self._client.query(**arguments)
            yield from answer["Items"]
            if not (last := answer.get("LastEvaluatedKey")):
                return
            arguments["ExclusiveStartKey"] = last
        raise RuntimeError(f"more than {MAX_ENTRY_PAGES} pages of entries")

    def read(self, refund_id: str, payments: set[str]) -> Read:
        """One refund's story; ``payments`` are those below which something of it was seen."""
        refund = self.refund(refund_id)
        row = refund_row(refund) if refund else None
        if row and row.transaction_id:
            payments = payments | {row.transaction_id}
        rows: list[EntryRow] = []
        wires: dict[int, Wire] = {}
        held: dict[str, int] = {}
        home: LedgerRow | None = None
        for transaction_id in sorted(payments):
            for wire in self.entries_of(transaction_id, refund_id):
                entry = entry_row(wire)
                if not isinstance(entry, Stray):
                    rows.append(entry)
                    wires.setdefault(entry.version, wire)
            ledger, amount = self.reservation_of(transaction_id, refund_id)
            held |= {} if amount is None else {transaction_id: amount}
            home = ledger if row and row.transaction_id == transaction_id else home
        rows.sort(key=lambda entry: (entry.version, entry.transaction_id))
        return Read(Story(refund_id, row, rows, held, home), refund, wires)

    def _get(self, table: str, key: Wire) -> Wire | None:
        answer = self._client.get_item(TableName=table, Key=key, ConsistentRead=True)
        return answer.get("Item")
