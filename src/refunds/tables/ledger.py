"""The ledger: for each transaction what was captured, what may still be refunded, and every
reservation. All its expressions are here.

One item a transaction: ``captured``, ``remaining``, ``currency`` and one number ``r#<refund_id>``
for each refund: above 0 what it holds, 0 a tombstone: released, and never to be reserved again.
``remaining`` is stored because conditions can't add.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import ClientError

from refunds.domain.refund import Item
from refunds.tables.wire import (
    condition_failed,
    item_from_wire,
    item_to_wire,
    old_item,
    to_wire,
)

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

RESERVATION = "r#"
_RELEASE_TRIES = 4
MAX_CONDITIONS = 100

NEARLY_FULL_REFUNDS = 4_000
"""An item holds some 5,000 refunds of one transaction before it reaches DynamoDB's 400 KB."""

_MAX_KEYS = 100
"""The most keys that one BatchGetItem takes."""


@dataclass(frozen=True)
class Ledger:
    """A transaction's money, in minor units of ``currency``.

    ``captured`` and the two beside it are None when only tombstones are known yet.
    """

    transaction_id: str
    captured: int | None = None
    remaining: int | None = None
    currency: str | None = None
    reservations: Mapping[str, int] = field(default_factory=dict)

    @property
    def moved_unreserved_minor(self) -> int:
        """What neither remains nor is reserved: it was moved before the ledger began, by other
        systems, or beyond what was asked for. Disputes count too."""
        if self.captured is None:
            return 0
        return self.captured - (self.remaining or 0) - sum(self.reservations.values())

    @classmethod
    def from_item(cls, item: Item) -> Ledger:
        return cls(
            transaction_id=item["transaction_id"],
            captured=item.get("captured"),
            remaining=item.get("remaining"),
            currency=item.get("currency"),
            reservations={
                name.removeprefix(RESERVATION): value
                for name, value in item.items()
                if name.startswith(RESERVATION)
            },
        )

    def item(self) -> Item:
        """The stored form."""
        balance = {
            "captured": self.captured,
            "remaining": self.remaining,
            "currency": self.currency,
        }
        return (
            {"transaction_id": self.transaction_id}
            | {name: value for name, value in balance.items() if value is not None}
            | {f"{RESERVATION}{name}": value for name, value in self.reservations.items()}
        )


class LedgerRead(NamedTuple):
    """The result of a read: a transaction's ledger, or that it had none."""

    ledger: Ledger | None


class LedgerTable:
    """Reads are consistent. Writes are conditional and idempotent. Nothing here deletes."""

    def __init__(self, client: DynamoDBClient, table_name: str) -> None:
        self._client = client
        self._table = table_name

    def get(self, transaction_id: str) -> Ledger | None:
        answer = self._client.get_item(
            TableName=self._table,
            Key={"transaction_id": {"S": transaction_id}},
            ConsistentRead=True,
        )
        return Ledger.from_item(item_from_wire(answer["Item"])) if "Item" in answer else None

    def read_many(self, transaction_ids: Iterable[str]) -> dict[str, LedgerRead]:
        """The ledgers of several transactions, by id. Leaves out those that DynamoDB did not
        process; nothing is known of them."""
        # DynamoDB rejects a request that names a key twice.
        distinct = list(dict.fromkeys(transaction_ids))
        found: dict[str, LedgerRead] = {}
        for start in range(0, len(distinct), _MAX_KEYS):
            found |= self._read_page(distinct[start : start + _MAX_KEYS])
        return found

    def _read_page(self, transaction_ids: list[str]) -> dict[str, LedgerRead]:
        keys: Any = [{"transaction_id": {"S": each}} for each in transaction_ids]
        answer = self._client.batch_get_item(
            RequestItems={self._table: {"Keys": keys, "ConsistentRead": True}}
        )
        ledgers = {
            each["transaction_id"]: Ledger.from_item(each)
            for each in map(item_from_wire, answer["Responses"].get(self._table, []))
        }
        unprocessed = answer.get("UnprocessedKeys", {}).get(self._table, {"Keys": []})["Keys"]
        skipped = {key["transaction_id"]["S"] for key in unprocessed}
        return {
            each: LedgerRead(ledgers.get(each)) for each in transaction_ids if each not in skipped
        }

    def reserve(
        self,
        transaction_id: str,
        refund_id: str,
        amount_minor: int,
        *,
        remaining_minor: int | None = None,
    ) -> bool:
        """Reserve an amount. False when too little is left, or when the ledger already has an entry
        for the refund.

        ``remaining_minor``: reserve it only if exactly this much remains.
        """
        not_yet_held = "attribute_not_exists(#r)"
        enough_left, values = "remaining >= :amount", dict[str, Any]()
        if remaining_minor is not None:
            enough_left, values = "remaining = :remaining", {"remaining": remaining_minor}
        return self._update(
            transaction_id,
            "SET remaining = remaining - :amount, #r = :amount",
            f"{not_yet_held} AND {enough_left}",
            refund_id=refund_id,
            amount=amount_minor,
            **values,
        )

    def hold_again(self, transaction_id: str, refund_id: str, amount_minor: int) -> bool:
        """Reserve again what a refund had released, because the gateway has moved it after all.
        ``remaining`` may fall below zero. False when the refund holds something already."""
        return self._update(
            transaction_id,
            "SET remaining = remaining - :amount, #r = :amount",
            "attribute_exists(captured) AND #r = :zero",
            refund_id=refund_id,
            amount=amount_minor,
            zero=0,
        )

    def open(  # noqa: PLR0913 - a ledger's first values, each by keyword
        self,
        transaction_id: str,
        *,
        captured_minor: int,
        remaining_minor: int,
        currency: str,
        refund_id: str,
        amount_minor: int,
    ) -> bool:
        """Create a transaction's ledger together with its first reservation, in one write.

        ``remaining_minor`` is what is left before that reservation. False when the ledger exists
        already, or has an entry for the refund.
        """
        not_begun = "attribute_not_exists(captured)"
        not_yet_held = "attribute_not_exists(#r)"
        return self._update(
            transaction_id,
            "SET captured = :captured, remaining = :remaining, currency = :currency, #r = :amount",
            f"{not_begun} AND {not_yet_held}",
            refund_id=refund_id,
            captured=captured_minor,
            remaining=remaining_minor - amount_minor,
            currency=currency,
            amount=amount_minor,
        )

    def recount(
        self,
        read: Ledger,
        *,
        captured_minor: int,
        remaining_minor: int,
        currency: str,
        hold: Mapping[str, int] | None = None,
    ) -> bool:
        """Set the balance to a new count. False when the ledger has changed since it was ``read``.

        ``hold``: amounts by refund id to reserve in the same write. The gateway has these refunds,
        or they are unfinished, but the ledger did not have them; they are already subtracted from
        ``remaining_minor``. Reserving and releasing do not change remaining + Σ reservations. So if
        ``remaining`` and ``captured`` are unchanged, the sum of the reservations is, too.
        """
        update = "SET captured = :captured, remaining = :remaining, currency = :currency"
        values: dict[str, Any] = {
            "captured": captured_minor,
            "remaining": remaining_minor,
            "currency": currency,
        }
        if read.captured is None:
            as_read = "attribute_not_exists(captured)"
        else:
            as_read = "captured = :read_captured AND remaining = :read_remaining"
            values |= {"read_captured": read.captured, "read_remaining": read.remaining}
        names: dict[str, str] = {}
        for place, (refund_id, amount_minor) in enumerate((hold or {}).items()):
            names[f"#r{place}"] = RESERVATION + refund_id
            values[f"hold{place}"] = amount_minor
            update += f", #r{place} = :hold{place}"
            as_read += f" AND attribute_not_exists(#r{place})"
        return self._update(read.transaction_id, update, as_read, names=names, **values)

    def replace(self, read: Ledger | None, new: Ledger) -> bool:
        """Store a ledger that a restore has rebuilt. False when the one that was ``read`` has
        changed since.

        The queue is stopped during a restore, but the reconciler may release money, so the
        reservations are part of the condition.
        """
        before = read or Ledger(new.transaction_id)
        # One expression can compare at most this many reservations.
        watched = list(new.reservations)[:MAX_CONDITIONS]
        expected: dict[str, int | None] = {
            "captured": before.captured,
            "remaining": before.remaining,
        }
        expected |= {RESERVATION + name: before.reservations.get(name) for name in watched}
        names = {f"#n{place}": name for place, name in enumerate(expected)}
        values = {
            f":v{place}": to_wire(value)
            for place, value in enumerate(expected.values())
            if value is not None
        }
        try:
            self._client.put_item(
                TableName=self._table,
                Item=item_to_wire(new.item()),
                ConditionExpression=" AND ".join(
                    f"#n{place} = :v{place}"
                    if value is not None
                    else f"attribute_not_exists(#n{place})"
                    for place, value in enumerate(expected.values())
                ),
                ExpressionAttributeNames=names,
                **({"ExpressionAttributeValues": values} if values else {}),  # type: ignore[arg-type]
            )
        except ClientError as exc:
            if condition_failed(exc):
                return False
            raise
        return True

    def release(
        self, transaction_id: str, refund_id: str, *, back_minor: int | None = None
    ) -> bool:
        """Release what a refund that ended without money holds, and prevent it from reserving
        again. Returns whether it held anything.

        A slow duplicate may have read the ledger long ago: without the tombstone it could still
        reserve for a refund that has ended, and nothing would ever release that amount.
        """
        back, values = "#r", {":zero": to_wire(0)}
        if back_minor is not None:
            back, values = ":back", values | {":back": to_wire(back_minor)}
        for _ in range(_RELEASE_TRIES):
            try:
                self._client.update_item(
                    TableName=self._table,
                    Key={"transaction_id": {"S": transaction_id}},
                    UpdateExpression=f"SET remaining = remaining + {back}, #r = :zero",
                    ConditionExpression="#r > :zero",
                    ExpressionAttributeNames={"#r": RESERVATION + refund_id},
                    ExpressionAttributeValues=values,
                    ReturnValuesOnConditionCheckFailure="ALL_OLD",
                )
                return True
            except ClientError as exc:
                if not condition_failed(exc):
                    raise
                if (old_item(exc) or {}).get(RESERVATION + refund_id) == 0:
                    return False
            if self._update(
                transaction_id,
                "SET #r = :amount",
                "attribute_not_exists(#r)",
                refund_id=refund_id,
                amount=0,
            ):
                return False
        raise RuntimeError(f"the reservation of {refund_id} keeps changing")

    def _update(
        self,
        transaction_id: str,
        update: str,
        condition: str,
        *,
        refund_id: str | None = None,
        names: Mapping[str, str] | None = None,
        **values: Any,
    ) -> bool:
        if refund_id is not None:
            names = {"#r": RESERVATION + refund_id}
        named: Any = {"ExpressionAttributeNames": names} if names else {}
        try:
            self._client.update_item(
                TableName=self._table,
                Key={"transaction_id": {"S": transaction_id}},
                UpdateExpression=update,
                ConditionExpression=condition,
                ExpressionAttributeValues={
                    f":{name}": to_wire(value) for name, value in values.items()
                },
                **named,
            )
        except ClientError as exc:
            if condition_failed(exc):
                return False
            raise
        return True
