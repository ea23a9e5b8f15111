"""The table ``PaymentAuditTrail``, shared with the payment side: insert-only, plus two reads.

Entries are stored with PartiQL's ``INSERT``, which fails for a key that is taken. IAM has a
separate action for it (``dynamodb:PartiQLInsert``), so a role can be allowed to add entries but not
to overwrite one. docs/decisions/0023-audit-insert.md has the reasons.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias

from botocore.exceptions import BotoCoreError, ClientError

from refunds.domain.identifiers import RECORD_TYPE
from refunds.domain.refund import Item
from refunds.tables.wire import item_from_wire, item_to_wire

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import BatchStatementRequestTypeDef

_LATEST_AMONG = 20
_MAX_PAGES = 50
MAX_STATEMENTS = 25
"""Statements in one BatchExecuteStatement; DynamoDB's limit."""
_TAKEN = "DuplicateItem"
_NO_WIRE_FORM = (TypeError, ValueError, KeyError, AttributeError, RecursionError)


class NotStorableError(ValueError):
    """The entry has a value for which DynamoDB has no type."""


Inserted: TypeAlias = Item | Exception | None
"""None: the entry was stored. An item: the key is taken by this item. An exception: why the entry
was not stored."""


class AuditTable:
    def __init__(self, client: DynamoDBClient, table_name: str) -> None:
        self._client = client
        self._table = table_name

    def put_new(self, entry: Item) -> Item | None:
        """Store an entry if its key is free. Returns None, or the entry that has the key."""
        [inserted] = self.insert_new([entry])
        if isinstance(inserted, Exception):
            raise inserted
        return inserted

    def insert_new(self, entries: Sequence[Item]) -> list[Inserted]:
        """Store the entries whose keys are free, 25 in a request. One failure does not affect the
        others."""
        inserted: list[Inserted] = [None] * len(entries)
        statements: dict[int, BatchStatementRequestTypeDef] = {}
        for number, entry in enumerate(entries):
            try:
                statements[number] = _statement(self._table, entry)
            except _NO_WIRE_FORM as exc:
                inserted[number] = NotStorableError(f"{type(exc).__name__}: no wire form")
        waiting = list(statements)
        while waiting:
            chunk, waiting = _next_chunk(entries, waiting)
            answers = self._execute([statements[number] for number in chunk])
            for number, error in zip(chunk, answers, strict=True):
                inserted[number] = self._read_taken(entries[number]) if _is_taken(error) else error
        return inserted

    def _execute(
        self, statements: list[BatchStatementRequestTypeDef]
    ) -> Sequence[ClientError | BotoCoreError | None]:
        """Each statement's error, or None."""
        try:
            answer = self._client.batch_execute_statement(Statements=statements)
        except ClientError as exc:
            if exc.response["Error"]["Code"] != "ValidationException" or len(statements) == 1:
                return [exc] * len(statements)
            # Either one statement is at fault, or the size of the request. Trying each half shows
            # which.
            half = len(statements) // 2
            return [*self._execute(statements[:half]), *self._execute(statements[half:])]
        except BotoCoreError as exc:
            return [exc] * len(statements)
        return [_error_of(response.get("Error")) for response in answer["Responses"]]

    def _read_taken(self, entry: Item) -> Inserted:
        """The entry that has the key. It is not documented that an INSERT returns it."""
        key = {name: entry[name] for name in ("transaction_id", "entry_id")}
        try:
            answer = self._client.get_item(
                TableName=self._table, Key=item_to_wire(key), ConsistentRead=True
            )
        except (ClientError, BotoCoreError) as exc:
            return exc
        # An empty item equals no entry. So neither an unreadable item nor a key that is free again
        # counts as ours.
        try:
            return item_from_wire(answer.get("Item", {}))
        except _NO_WIRE_FORM:
            return {}

    def latest(self, transaction_id: str, refund_id: str) -> Item | None:
        """The entry of a refund's highest version, or None.

        Records of other types are skipped, whatever their sort keys, but at most 20 of them.
        """
        answer = self._client.query(
            TableName=self._table,
            KeyConditionExpression="transaction_id = :tx AND begins_with(entry_id, :prefix)",
            ExpressionAttributeValues={
                ":tx": {"S": transaction_id},
                ":prefix": {"S": f"{RECORD_TYPE}#{refund_id}#"},
            },
            ConsistentRead=True,
            ScanIndexForward=False,
            Limit=_LATEST_AMONG,
        )
        ours: Any = {"S": RECORD_TYPE}
        return next(
            (item_from_wire(item) for item in answer["Items"] if item.get("record_type") == ours),
            None,
        )

    def latest_of_payment(self, transaction_id: str) -> dict[str, Item]:
        """The entry of the highest version of each refund of a payment, by refund id."""
        latest: dict[str, Item] = {}
        start: dict[str, Any] = {}
        for _ in range(_MAX_PAGES):
            answer = self._client.query(
                TableName=self._table,
                KeyConditionExpression="transaction_id = :tx AND begins_with(entry_id, :prefix)",
                ExpressionAttributeValues={
                    ":tx": {"S": transaction_id},
                    ":prefix": {"S": f"{RECORD_TYPE}#"},
                },
                ConsistentRead=True,
                **start,
            )
            for item in answer["Items"]:  # in the order of their versions
                if item.get("record_type") == {"S": RECORD_TYPE}:
                    entry = item_from_wire(item)
                    latest[entry["refund_id"]] = entry
            if "LastEvaluatedKey" not in answer:
                return latest
            start = {"ExclusiveStartKey": answer["LastEvaluatedKey"]}
        raise RuntimeError(f"more than {_MAX_PAGES} pages of the audit trail of one payment")


def _statement(table: str, entry: Item) -> BatchStatementRequestTypeDef:
    values: Any = [*item_to_wire(entry).values()]
    return {"Statement": _insert_text(table, tuple(entry)), "Parameters": values}


@lru_cache(maxsize=64)
def _insert_text(table: str, names: tuple[str, ...]) -> str:
    members = ", ".join(f"'{name}': ?" for name in names)
    return f'INSERT INTO "{table}" VALUE {{{members}}}'


def _next_chunk(entries: Sequence[Item], waiting: list[int]) -> tuple[list[int], list[int]]:
    """At most 25 entries of different keys, and those that are left.

    DynamoDB refuses a request that names a key twice.
    """
    chunk: list[int] = []
    keys: set[tuple[Any, Any]] = set()
    left: list[int] = []
    for number in waiting:
        key = entries[number].get("transaction_id"), entries[number].get("entry_id")
        if key in keys or len(chunk) == MAX_STATEMENTS:
            left.append(number)
        else:
            keys.add(key)
            chunk.append(number)
    return chunk, left


_CODE_OF_A_CALL = {
    "AccessDenied": "AccessDeniedException",
    "ItemCollectionSizeLimitExceeded": "ItemCollectionSizeLimitExceededException",
    "ProvisionedThroughputExceeded": "ProvisionedThroughputExceededException",
    "ResourceNotFound": "ResourceNotFoundException",
    "ThrottlingError": "ThrottlingException",
    "TransactionConflict": "TransactionConflictException",
    "ValidationError": "ValidationException",
}
"""A statement's error codes are those of a call, under other names."""


def _error_of(error: Any) -> ClientError | None:
    if error is None:
        return None
    code = _CODE_OF_A_CALL.get(error["Code"], error["Code"])
    response: Any = {"Error": {"Code": code, "Message": error.get("Message", "")}}
    return ClientError(response, "BatchExecuteStatement")


def _is_taken(error: Exception | None) -> bool:
    return isinstance(error, ClientError) and error.response["Error"]["Code"] == _TAKEN
