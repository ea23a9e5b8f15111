"""A stack with some refunds whose trail is whole, and hands that tamper with it."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from tests.support.builders import FakeClock, InlinePool, refund
from tests.support.moto_stack import REGION, Stack

from refunds.audit.failures_bucket import FailureStore
from refunds.audit.outcome_events import OutcomeBus
from refunds.audit.writer import AuditWriter, handle_stream_batch
from refunds.backup.table_scan import PageReader
from refunds.domain.audit_entry import audit_entry, entry_hash
from refunds.domain.clock import rfc3339
from refunds.domain.identifiers import entry_id
from refunds.domain.refund import ENDED_WITHOUT_MONEY, Item, Refund, Status, change_status
from refunds.tables.audit_trail import AuditTable
from refunds.tables.ledger import LedgerTable
from refunds.tables.refunds import RefundsTable
from refunds.tables.wire import item_from_wire, item_to_wire
from refunds_ops.audit.failures import FailureReader
from refunds_ops.audit.findings import Finding
from refunds_ops.audit.latest_backup import BackupReader
from refunds_ops.audit.tables import Tables
from refunds_ops.audit.verify import Report, Verification


class Stream:
    """The refunds table's client, which notes each change of an item as its stream would."""

    def __init__(self, client: Any, table: str, clock: Any) -> None:
        self._client = client
        self._table = table
        self._clock = clock
        self.number = 0
        self.records: list[dict[str, Any]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def put_item(self, **arguments: Any) -> Any:
        return self._write("put_item", {"refund_id": arguments["Item"]["refund_id"]}, arguments)

    def update_item(self, **arguments: Any) -> Any:
        return self._write("update_item", arguments["Key"], arguments)

    def delete_item(self, **arguments: Any) -> Any:
        return self._write("delete_item", arguments["Key"], arguments)

    def _write(self, operation: str, key: dict[str, Any], arguments: dict[str, Any]) -> Any:
        old = self._image(key)
        answer = getattr(self._client, operation)(**arguments)
        new = self._image(key)
        if new != old:
            self.records.append(self.record(key, old, new))
        return answer

    def _image(self, key: dict[str, Any]) -> Any:
        answer = self._client.get_item(TableName=self._table, Key=key, ConsistentRead=True)
        return answer.get("Item")

    def record(self, key: Any, old: Any, new: Any, **more: Any) -> dict[str, Any]:
        self.number += 1
        return stream_record(self.number, self._clock.now(), key, old, new, **more)


def stream_record(
    number: int, at: datetime, key: Any, old: Any, new: Any, **more: Any
) -> dict[str, Any]:
    """A record as Lambda hands it to the function: JSON, binary values in base64."""
    change: dict[str, Any] = {
        "ApproximateCreationDateTime": int(at.timestamp()),
        "Keys": key,
        "SequenceNumber": str(number),
        "SizeBytes": 100,
        "StreamViewType": "NEW_AND_OLD_IMAGES",
    }
    if old is not None:
        change["OldImage"] = old
    if new is not None:
        change["NewImage"] = new
    return {
        "eventID": f"{number:032x}",
        "eventName": "INSERT" if old is None else "REMOVE" if new is None else "MODIFY",
        "eventVersion": "1.1",
        "eventSource": "aws:dynamodb",
        "awsRegion": REGION,
        "eventSourceARN": "arn:aws:dynamodb:eu-central-1:123456789012:table/Refunds/stream/1",
        "dynamodb": _plain(change),
        **more,
    }


def _plain(value: Any) -> Any:
    match value:
        case bytes():
            return base64.b64encode(value).decode()
        case dict():
            return {name: _plain(each) for name, each in value.items()}
        case list():
            return [_plain(each) for each in value]
        case set() | frozenset():
            return sorted(_plain(each) for each in value)
    return value


class Trail:
    """A stack's tables, its stream, and what an auditor and a tamperer may do.

    Refunds are written as the protocol writes them: each change one version, by its own rules.
    """

    def __init__(self, stack: Stack, scan: PageReader) -> None:
        self.stack = stack
        self.scan = scan
        self.clock = FakeClock()
        clients = stack.clients
        self.client: Any = clients.dynamodb
        self.stream = Stream(self.client, stack.refunds_table, self.clock)
        self.refunds = RefundsTable(self.stream, stack.refunds_table)  # type: ignore[arg-type]
        self.ledger = LedgerTable(self.client, stack.ledger_table)
        self.bus = OutcomeBus(clients.events, stack.bus_name)
        self.writer = AuditWriter(
            audit=AuditTable(self.client, stack.audit_table),
            failures=FailureStore(clients.s3, stack.failures_bucket, self.clock),
            clock=self.clock,
        )
        self.delivered = 0

    # --- Making it ---

    def begin(self, refund_id: str, transaction_id: str, amount_minor: int, **more: Any) -> Refund:
        """Reserve and claim."""
        self.clock.advance(seconds=1)
        if not self.ledger.open(
            transaction_id,
            captured_minor=10**8,
            remaining_minor=10**8,
            currency="USD",
            refund_id=refund_id,
            amount_minor=amount_minor,
        ):
            assert self.ledger.reserve(transaction_id, refund_id, amount_minor)
        at = rfc3339(self.clock.now())
        made = refund(
            refund_id=refund_id,
            transaction_id=transaction_id,
            amount_minor=amount_minor,
            created_at=at,
            updated_at=at,
            **more,
        )
        assert self.refunds.put_new(made) is None
        return made

    def finish(self, there: Refund, to: Status, **changes: Any) -> Refund:
        """Record an outcome, and give back what ended without money."""
        self.clock.advance(seconds=1)
        new = change_status(
            there,
            to,
            at=rfc3339(self.clock.now()),
            by="ProcessRefund:7",
            previous_hash=audit_entry(there.item())["entry_hash"],
            **changes,
        )
        assert self.refunds.save(there, new)
        if to in ENDED_WITHOUT_MONEY:
            self.ledger.release(new.transaction_id, new.refund_id)
        return new

    def deliver(self, records: Iterable[dict[str, Any]] | None = None) -> list[Any]:
        """The stream's new records (or these), through the writer; what it said of each."""
        if records is None:
            records = self.stream.records[self.delivered :]
            self.delivered = len(self.stream.records)
        told: list[Any] = []
        handle_stream_batch(
            list(records),
            self.writer,
            self.bus,
            InlinePool(),
            lambda record, result: told.append(result),
        )
        return told

    def paid(self, refund_id: str, transaction_id: str, amount_minor: int) -> Refund:
        begun = self.begin(refund_id, transaction_id, amount_minor)
        return self.finish(begun, Status.SUCCEEDED, gateway_refund_id=f"gw-{refund_id}")

    def populate(self) -> None:
        """Refunds that ended in various ways, and the payment side's own records."""
        self.paid("r1", "p1", 2500)
        self.paid("r2", "p1", 1000)
        self.paid("r3", "p2", 99_999_999)
        self.finish(self.paid("r4", "p3", 500), Status.REVERSED, failure_code="account_closed")
        self.deliver()
        plant_payments(self.client, self.stack.audit_table)

    def copy_to(self, stack: Stack) -> Trail:
        """The same in another stack: much faster than writing it again."""
        copy = Trail(stack, self.scan)
        self.stack.tables.copy_items_to(stack.tables)
        copy.stream.records = json.loads(json.dumps(self.stream.records))
        copy.stream.number = self.stream.number
        copy.delivered = self.delivered
        copy.clock.advance(seconds=(self.clock.now() - copy.clock.now()).total_seconds())
        copy.clock.advance(minutes=5)  # what the stream has not delivered by now never comes
        return copy

    # --- Looking at it ---

    def tables(self) -> Tables:
        stack = self.stack
        return Tables(
            self.client,
            self.scan,
            refunds=stack.refunds_table,
            ledger=stack.ledger_table,
            audit=stack.audit_table,
        )

    def failures(self) -> FailureReader:
        return FailureReader(self.stack.clients.s3, self.stack.failures_bucket)

    def verify(self, *, backup: BackupReader | None = None, **more: Any) -> Report:
        clock = self.clock
        return Verification(
            self.tables(),
            clock=clock,
            progress=lambda name, pages, total: iter(pages),
            backup=backup,
            failures=self.failures(),
            sleep=lambda seconds: clock.advance(seconds=seconds),
            **more,
        ).run()

    def entries(self, refund_id: str) -> list[Item]:
        found = [
            item
            for wire in self._scan(self.stack.audit_table)
            if wire.get("record_type") == {"S": "REFUND"}
            and wire["entry_id"]["S"].startswith(f"REFUND#{refund_id}#")
            for item in [item_from_wire(wire)]
        ]
        return sorted(found, key=lambda item: str(item["entry_id"]))

    def entry(self, refund_id: str, version: int) -> Item:
        (found,) = (each for each in self.entries(refund_id) if each["version"] == version)
        return found

    def all_items(self) -> dict[str, list[Any]]:
        stack = self.stack
        return {
            table: sorted(self._scan(table), key=str)
            for table in (stack.refunds_table, stack.ledger_table, stack.audit_table)
        }

    def _scan(self, table: str) -> list[Any]:
        return list(self.client.scan(TableName=table, ConsistentRead=True)["Items"])

    # --- Tampering with it, past every function ---

    def put_entry(self, entry: Item) -> None:
        self.client.put_item(TableName=self.stack.audit_table, Item=item_to_wire(entry))

    def drop_entry(self, refund_id: str, version: int) -> Item:
        there = self.entry(refund_id, version)
        self.client.delete_item(
            TableName=self.stack.audit_table,
            Key=item_to_wire(
                {"transaction_id": there["transaction_id"], "entry_id": there["entry_id"]}
            ),
        )
        return there

    def edit_refund(self, refund_id: str, **changes: Any) -> None:
        self._edit(self.stack.refunds_table, {"refund_id": refund_id}, changes)

    def edit_ledger(self, transaction_id: str, **changes: Any) -> None:
        self._edit(self.stack.ledger_table, {"transaction_id": transaction_id}, changes)

    def _edit(self, table: str, key: Item, changes: Mapping[str, Any]) -> None:
        item = self.client.get_item(TableName=table, Key=item_to_wire(key))["Item"]
        item |= item_to_wire({name: value for name, value in changes.items() if value is not None})
        for name in [name for name, value in changes.items() if value is None]:
            item.pop(name, None)
        self.client.put_item(TableName=table, Item=item)


def rehashed(entry: Item) -> Item:
    """An entry with the hash that belongs to what it now says."""
    return entry | {"entry_hash": entry_hash(entry)}


def moved(entry: Item, **key: Any) -> Item:
    """An entry under another key."""
    there = entry | key
    return there | {"entry_id": entry_id(there["refund_id"], there["version"])}


def named(found: Iterable[Finding]) -> set[tuple[str, str | None, int | None]]:
    return {(each.kind, each.refund_id, each.version) for each in found}


def plant_payments(client: Any, table: str) -> None:
    """Records of the payment side, some of them in shapes that nobody expects."""
    for item in hostile_payments():
        client.put_item(TableName=table, Item=item)


def hostile_payments() -> Iterator[dict[str, Any]]:
    def item(entry_id: str, **more: Any) -> dict[str, Any]:
        return {
            "transaction_id": {"S": "p1"},
            "entry_id": {"S": entry_id},
            "record_type": {"S": "PAYMENT"},
            **more,
        }

    yield item("PAYMENT#p1#000001", amount={"N": "12.5"}, tags={"SS": ["a", "b"]})
    yield item("PAYMENT#p1#000002", payload={"B": b"\x00\xff"}, odd={"NS": ["1", "2.5"]})
    yield item("REFUND#r1#000009", version={"S": "nine"}, status={"N": "7"})
    yield item("REFUND#r1#000010", refund_id={"S": "r1"}, version={"N": "10"}, entry_hash={"S": ""})
    yield item("REFUND#", details={"L": []})
    untyped = item("REFUND#r2#not-a-version")
    del untyped["record_type"]
    yield untyped
    yield item("PAYMENT#p1#000003") | {"record_type": {"SS": ["REFUND"]}}
    yield item("PAYMENT#p1#000004") | {"record_type": {"S": "refund"}}
    yield item(
        "PAYMENT#p1#000005", refund_id={"S": "r1"}, deep={"M": {"a": {"M": {"b": {"NULL": True}}}}}
    )


def verify_while(trail: Trail, between: Callable[[str], None], **more: Any) -> Any:
    """Run `verify`; ``between`` is called with a table's name before it is scanned."""

    def progress(name: str, pages: Iterable[list[Any]], about: int) -> Iterator[list[Any]]:
        between(name)
        yield from pages

    return Verification(
        trail.tables(),
        clock=trail.clock,
        progress=progress,
        failures=trail.failures(),
        sleep=lambda seconds: trail.clock.advance(seconds=seconds),
        **more,
    ).run()
