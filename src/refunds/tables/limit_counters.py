"""The counters of the limits: one item for each user, and one for each currency for all users
together.

An item is about one UTC day, the latest day on which a refund was counted:

=================  =================================================================================
``day``            the day; it never goes back. The first refund of a later day replaces the item
``epoch``          one more whenever entries leave the item
``count``          how many refunds are counted
``sum#EUR``        what they come to, by currency, in minor units
``s#<id>#<hash>``  a share: counted, and not yet known to be claimed (``token amount currency``)
``b#<id>``         a give-back that was announced (``token amount currency``)
=================  =================================================================================

The items are in the ledger table, under ids with '#': no transaction's id has one. docs/decisions
has the reasons for this form (0020), docs/limits.md what it promises.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from refunds.domain.refund import Item
from refunds.tables.wire import condition_failed, item_from_wire, item_to_wire, to_wire

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

COUNTER = "#limits"
_SUM, _SHARE, _BACK = "sum#", "s#", "b#"


def user_counter(user_id: str) -> str:
    """The key of a user's counter. It contains a hash, because user ids may be long and may be
    personal data."""
    return f"{COUNTER}#user#{hashlib.sha256(user_id.encode()).hexdigest()[:32]}"


def day_counter(currency: str) -> str:
    """The key of the counter for all users."""
    return f"{COUNTER}#all#{currency}"


@dataclass(frozen=True)
class Entry:
    """A share or a give-back. ``token`` is that of the attempt that wrote it; no two have the
    same."""

    token: str
    amount_minor: int
    currency: str

    @classmethod
    def parse(cls, text: str) -> Entry:
        token, amount, currency = text.split(" ")
        return cls(token, int(amount), currency)

    def __str__(self) -> str:
        return f"{self.token} {self.amount_minor} {self.currency}"


@dataclass(frozen=True)
class Counter:
    """A counter as it was read; ``day`` is empty for one that was never used.

    ``shares`` and ``backs`` are by their attribute's name without its prefix.
    """

    key: str
    day: str = ""
    epoch: int = 0
    count: int = 0
    sums: Mapping[str, int] = field(default_factory=dict)
    shares: Mapping[str, Entry] = field(default_factory=dict)
    backs: Mapping[str, Entry] = field(default_factory=dict)
    began: str = ""
    """Distinguishes two counters of one day: the table may have been lost in between."""

    @property
    def name(self) -> str:
        """The counter's day and, if stored, its beginning, as a refund's ``counted`` has them."""
        return f"{self.day}/{self.began}" if self.began else self.day

    @classmethod
    def from_item(cls, key: str, item: Item) -> Counter:
        def those(prefix: str) -> Item:
            return {
                name.removeprefix(prefix): value
                for name, value in item.items()
                if name.startswith(prefix)
            }

        return cls(
            key=key,
            day=item.get("day", ""),
            epoch=item.get("epoch", 0),
            count=item.get("count", 0),
            began=item.get("began", ""),
            sums=those(_SUM),
            shares={name: Entry.parse(value) for name, value in those(_SHARE).items()},
            backs={name: Entry.parse(value) for name, value in those(_BACK).items()},
        )


@dataclass(frozen=True)
class Room:
    """The most that a counter may have, including the refund that is counted; None: no limit."""

    amount_minor: int | None = None
    count: int | None = None


@dataclass(frozen=True)
class Settled:
    """The entries to remove from a counter: names of its shares and backs, and what is subtracted
    with them."""

    shares: Sequence[str] = ()
    backs: Sequence[str] = ()
    sums: Mapping[str, int] = field(default_factory=dict)
    count: int = 0


NOTHING = Settled()


class LimitCounters:
    """Reads are consistent, writes are conditional; nothing here deletes."""

    def __init__(self, client: DynamoDBClient, table_name: str) -> None:
        self._client = client
        self._table = table_name

    def get(self, key: str) -> Counter:
        answer = self._client.get_item(
            TableName=self._table, Key={"transaction_id": {"S": key}}, ConsistentRead=True
        )
        return Counter.from_item(key, item_from_wire(answer.get("Item", {})))

    def begin_day(self, read: Counter, day: str, name: str, share: Entry) -> bool:
        """Replace the counter of an earlier day with one that has only this share. False when it
        has changed since it was ``read``."""
        if read.day:
            as_read: dict[str, Any] = {
                "ConditionExpression": "epoch = :read",
                "ExpressionAttributeValues": {":read": to_wire(read.epoch)},
            }
        else:
            as_read = {"ConditionExpression": "attribute_not_exists(transaction_id)"}
        item: Item = {
            "transaction_id": read.key,
            "day": day,
            "epoch": read.epoch + 1,
            "began": share.token[:8],
            "count": 1,
            _SUM + share.currency: share.amount_minor,
            _SHARE + name: str(share),
        }
        return self._conditional(
            lambda: self._client.put_item(TableName=self._table, Item=item_to_wire(item), **as_read)
        )

    def add(
        self, read: Counter, name: str, share: Entry, room: Room, settled: Settled = NOTHING
    ) -> int | None:
        """Count a share and remove the settled entries, in one write. Returns what the share's
        currency then comes to.

        None when there is no room any more, when the share is already there, or when entries were
        removed since the counter was ``read``, as its epoch shows. So a write that arrives late
        never counts a share again that was counted and removed meanwhile.
        """
        sums = dict(settled.sums)
        sums[share.currency] = sums.get(share.currency, 0) + share.amount_minor
        change = _Change()
        change.condition("epoch = :epoch", epoch=read.epoch)
        change.condition(f"attribute_not_exists({change.name('s', _SHARE + name)})")
        change.set("s", _SHARE + name, str(share))
        for place, (currency, amount_minor) in enumerate(sums.items()):
            limit = room.amount_minor if currency == share.currency else None
            change.add(
                f"sum{place}",
                _SUM + currency,
                amount_minor,
                there=currency in read.sums,
                most=limit,
            )
        change.add("count", "count", 1 + settled.count, there=True, most=room.count)
        gone = [_SHARE + each for each in settled.shares]
        gone += [_BACK + each for each in settled.backs]
        if gone:
            change.add("epoch", "epoch", 1, there=True)
            change.remove(gone)
        updated: dict[str, Any] = {}

        def write() -> None:
            updated.update(self._update(read.key, change, ReturnValues="UPDATED_NEW"))

        if not self._conditional(write):
            return None
        return int(updated["Attributes"][_SUM + share.currency]["N"])

    def announce_back(self, read: Counter, name: str, back: Entry) -> bool:
        """Announce that a share is given back; the counter's total does not change yet. False when
        it has changed since it was ``read``."""
        change = _Change()
        change.condition("epoch = :epoch", epoch=read.epoch)
        change.condition(f"attribute_not_exists({change.name('b', _BACK + name)})")
        change.set("b", _BACK + name, str(back))
        return self._conditional(lambda: self._update(read.key, change))

    def _update(self, key: str, change: _Change, **more: Any) -> Any:
        return self._client.update_item(
            TableName=self._table, Key={"transaction_id": {"S": key}}, **change.arguments(), **more
        )

    def _conditional(self, write: Callable[[], object]) -> bool:
        try:
            write()
        except ClientError as exc:
            if condition_failed(exc):
                return False
            raise
        return True


class _Change:
    """An update expression and its condition, put together piece by piece."""

    def __init__(self) -> None:
        self._sets: list[str] = []
        self._removes: list[str] = []
        self._conditions: list[str] = []
        self._names: dict[str, str] = {}
        self._values: dict[str, Any] = {}

    def name(self, short: str, attribute: str) -> str:
        self._names[f"#{short}"] = attribute
        return f"#{short}"

    def condition(self, text: str, **values: int) -> None:
        self._conditions.append(text)
        self._values |= {f":{name}": to_wire(value) for name, value in values.items()}

    def set(self, short: str, attribute: str, value: str) -> None:
        self._sets.append(f"{self.name(short, attribute)} = :{short}")
        self._values[f":{short}"] = to_wire(value)

    def add(
        self, short: str, attribute: str, amount: int, *, there: bool, most: int | None = None
    ) -> None:
        """Add to a number, which must be at most ``most`` afterwards. ``there``: whether it existed
        when it was read."""
        name = self.name(short, attribute)
        self._values[f":by_{short}"] = to_wire(amount)
        if not there:
            self._sets.append(f"{name} = :by_{short}")
            self._conditions.append(f"attribute_not_exists({name})")
            return
        self._sets.append(f"{name} = {name} + :by_{short}")
        if most is not None:
            self.condition(f"{name} <= :most_{short}", **{f"most_{short}": most - amount})

    def remove(self, attributes: Sequence[str]) -> None:
        self._removes += [
            self.name(f"gone{place}", attribute) for place, attribute in enumerate(attributes)
        ]

    def arguments(self) -> dict[str, Any]:
        update = "SET " + ", ".join(self._sets)
        if self._removes:
            update += " REMOVE " + ", ".join(self._removes)
        return {
            "UpdateExpression": update,
            "ConditionExpression": " AND ".join(self._conditions),
            "ExpressionAttributeNames": self._names,
            "ExpressionAttributeValues": self._values,
        }
