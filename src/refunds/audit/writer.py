"""From a record of the Refunds table's stream to its audit entry.

An entry is made from the record alone, so order, replays and bisected batches don't matter. A
record that makes no entry is kept in S3 and reported: failing it would block its shard.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol, TypeVar

from aws_lambda_powertools.utilities.batch import EventType
from botocore.exceptions import ClientError

from refunds.audit.outcome_events import OutcomeBus, OutcomeEvent, outcome_event
from refunds.batches import Pool, run_batch
from refunds.domain.audit_entry import NOT_AN_IMAGE, audit_entry, hashed_fields, removal_entry
from refunds.domain.clock import Clock, rfc3339
from refunds.domain.refund import AUDITED, Item
from refunds.tables.audit_trail import MAX_STATEMENTS, AuditTable, Inserted, NotStorableError
from refunds.tables.wire import from_wire, item_from_wire, item_to_wire

T = TypeVar("T")

_POISON_CODES = frozenset({"ValidationException", "ItemCollectionSizeLimitExceededException"})


class Failures(Protocol):
    """Where records that make no entry are kept."""

    def keep(self, kind: str, name: str | None, content: dict[str, Any]) -> str:
        """Store it, and return where."""
        ...


class Written(NamedTuple):
    """What became of a stream record: the ``entry`` that is stored, with its event, or why the
    record was ``kept`` in S3. Neither is set if the record changes nothing that is audited."""

    entry: Item | None = None
    event: OutcomeEvent | None = None
    kept: str | None = None


class _New(NamedTuple):
    """The entry and the event of a record, before the entry is stored."""

    entry: Item
    event: OutcomeEvent | None


class AuditWriter:
    def __init__(self, *, audit: AuditTable, failures: Failures, clock: Clock) -> None:
        self._audit = audit
        self._failures = failures
        self._clock = clock

    def write(self, record: dict[str, Any]) -> Written:
        """Store the record's entry, or keep the record. Raises errors that another attempt may
        resolve."""
        [written] = self.write_all([record], InOrder())
        if isinstance(written, Exception):
            raise written
        return written

    def write_all(self, records: Sequence[dict[str, Any]], pool: Pool) -> list[Written | Exception]:
        """Store the entries of many records, 25 in a request, or keep the records.

        If a record's result is an exception, another attempt may resolve it.
        """
        prepared = [_attempt(self._prepare, record) for record in records]
        new = {number: each for number, each in enumerate(prepared) if isinstance(each, _New)}
        numbers = list(new)
        stored: dict[int, Inserted] = {}

        def store(first: int) -> None:
            chunk = numbers[first : first + MAX_STATEMENTS]
            now = {"recorded_at": rfc3339(self._clock.now())}
            inserted = _attempt(
                self._audit.insert_new, [new[number].entry | now for number in chunk]
            )
            each = [inserted] * len(chunk) if isinstance(inserted, Exception) else inserted
            stored.update(zip(chunk, each, strict=True))

        for _ in pool.map(store, range(0, len(numbers), MAX_STATEMENTS)):
            pass
        return [
            _attempt(self._finish, record, each, stored[number]) if isinstance(each, _New) else each
            for number, (record, each) in enumerate(zip(records, prepared, strict=True))
        ]

    def _prepare(self, record: dict[str, Any]) -> _New | Written:
        try:
            entry = entry_of(record)
            # Made before the entry is stored: a record whose event can't be made would fail at
            # every attempt.
            return Written() if entry is None else _New(entry, outcome_event(entry))
        except UnversionedChangeError as exc:
            return self._keep(record, str(exc))
        except NOT_AN_IMAGE as exc:
            return self._keep(record, f"{type(exc).__name__}: not a refund's image")

    def _finish(self, record: dict[str, Any], new: _New, stored: Inserted) -> Written:
        """What became of the record, after the attempt to store its entry."""
        match stored:
            case ClientError():
                if stored.response["Error"]["Code"] not in _POISON_CODES:
                    raise stored
                return self._keep(record, type(stored).__name__)
            case NotStorableError():
                return self._keep(record, f"{stored}: not a refund's image")
            case Exception():
                raise stored
            case dict() if not same_entry(stored, new.entry):
                return self._keep(record, "another entry of this version is already there")
        return Written(new.entry, new.event)

    def _keep(self, record: dict[str, Any], reason: str) -> Written:
        self._failures.keep("audit", record.get("eventID"), {"reason": reason, "record": record})
        return Written(kept=reason)


class InOrder:
    """A pool that runs everything in the calling thread."""

    def map(self, fn: Callable[[Any], Any], *iterables: Iterable[Any]) -> Iterable[Any]:
        return map(fn, *iterables)


def _attempt(function: Callable[..., T], *arguments: Any) -> T | Exception:
    """What the function returns, or raises: one record's failure does not affect the others."""
    try:
        return function(*arguments)
    except Exception as exc:
        return exc


def handle_stream_batch(
    records: list[dict[str, Any]],
    writer: AuditWriter,
    bus: OutcomeBus,
    pool: Pool,
    on_result: Callable[[dict[str, Any], str | Exception | None], None],
) -> dict[str, Any]:
    """Write the entries of a stream event, then publish their events.

    Returns the partial batch response. ``on_result`` is called with each record and None, the
    reason why it was kept in S3, or the error that has it delivered again. Raises when the bus does
    not take the events. Lambda then delivers the whole batch again, which changes nothing in the
    trail.
    """
    outcomes = iter(writer.write_all(records, pool))

    def handle(record: dict[str, Any]) -> OutcomeEvent | None:
        written = next(outcomes)
        if isinstance(written, Exception):
            on_result(record, written)
            raise written
        on_result(record, written.kept)
        return written.event

    results, response = run_batch(records, handle, EventType.DynamoDBStreams, InOrder())
    # In the stream's order, so that the versions of a refund are announced one after the other.
    bus.publish([each for each in results if isinstance(each, OutcomeEvent)])
    return response


class UnversionedChangeError(ValueError):
    """Audited attributes changed without a new version. Nothing in this system does that."""


def entry_of(record: dict[str, Any]) -> Item | None:
    """The entry for a stream record, without ``recorded_at``; None when nothing audited changed.

    Raises ``ValueError`` and its like for a record that makes no entry.
    """
    change = record["dynamodb"]
    if record["eventName"] == "REMOVE":
        return removal_entry(
            _audited(change["OldImage"]),
            removed_at=rfc3339(
                datetime.fromtimestamp(int(change["ApproximateCreationDateTime"]), UTC)
            ),
            removed_by=(record.get("userIdentity") or {}).get("principalId", "unknown"),
        )
    new = _audited(change["NewImage"])
    try:
        before = change.get("OldImage", {})
        version = from_wire(before["version"]) if "version" in before else None
        # Another version is another entry, whatever else the old image says.
        old = _audited(before) if version == new.get("version") else {}
    except NOT_AN_IMAGE:
        old = {}  # A restore replaced a damaged record: the new image alone makes the entry.
    if old and new == old:
        return None
    if old:
        raise UnversionedChangeError("changed without a new version")
    return audit_entry(new)


def same_entry(stored: Item, entry: Item) -> bool:
    """Whether ``stored`` is ``entry``. Compares every field: a changed entry may have kept its
    hash."""
    # Compared in wire form, because Python's True equals 1.
    return stored.get("entry_hash") == entry["entry_hash"] and item_to_wire(
        hashed_fields(stored)
    ) == item_to_wire(hashed_fields(entry))


def _audited(image: dict[str, Any]) -> Item:
    return item_from_wire({name: image[name] for name in AUDITED if name in image})
