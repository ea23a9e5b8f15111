"""The simulated DynamoDB against moto: the same operations, the same answers, the same items."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws
from tests.simulator.aws import Wire
from tests.simulator.dynamodb import DynamoDB, Index, Table
from tests.simulator.kernel import Kernel, Process
from tests.support import moto_partiql as moto_partiql  # corrects moto
from tests.support.item_size import item_size

from refunds.domain.audit_entry import audit_entry
from refunds.domain.refund import Refund, Status, change_status
from refunds.tables.audit_trail import AuditTable
from refunds.tables.ledger import LedgerTable
from refunds.tables.refunds import OPEN_INDEX, RefundsTable, shard_of
from refunds.tables.state import Control
from refunds.tables.wire import item_from_wire, item_to_wire

KEYS = {
    "Refunds": ("refund_id",),
    "Ledger": ("transaction_id",),
    "Audit": ("transaction_id", "entry_id"),
}


@pytest.fixture
def moto(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws():
        client = boto3.client("dynamodb", region_name="eu-central-1")
        for name, keys in KEYS.items():
            _create(client, name, keys)
        yield client


def _create(client: Any, name: str, keys: tuple[str, ...]) -> None:
    names = [*keys, *(("open_shard", "check_at") if name == "Refunds" else ())]
    index = {
        "IndexName": OPEN_INDEX,
        "KeySchema": _schema(("open_shard", "check_at")),
        "Projection": {"ProjectionType": "KEYS_ONLY"},
    }
    client.create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": each, "AttributeType": "S"} for each in names],
        KeySchema=_schema(keys),
        **({"GlobalSecondaryIndexes": [index]} if name == "Refunds" else {}),
    )


def _schema(keys: tuple[str, ...]) -> list[dict[str, str]]:
    return [
        {"AttributeName": name, "KeyType": kind}
        for name, kind in zip(keys, ("HASH", "RANGE"), strict=False)
    ]


class Simulated:
    """The simulated service, run as a task so that its I/O can pause."""

    def __init__(self) -> None:
        self.kernel = Kernel(1)
        self.tables = {
            name: Table(
                self.kernel,
                name,
                keys,
                Index(OPEN_INDEX, "open_shard", "check_at") if name == "Refunds" else None,
            )
            for name, keys in KEYS.items()
        }
        self.client: Any = DynamoDB(self.kernel, Wire(self.kernel, 1), list(self.tables.values()))

    def run(self, operation: Callable[[], Any]) -> Any:
        results: list[Any] = []
        self.kernel.spawn(Process("test"), lambda: results.append(operation()))
        self.kernel.run()
        return results[0]


def outcome(operation: Callable[[], Any]) -> Any:
    """What an operation gives; an error by its kind and what it carries."""
    try:
        return operation()
    except ClientError as exc:
        response: Any = exc.response
        return response["Error"]["Code"], response.get("Item")
    except RuntimeError as exc:
        return str(exc)


def _told(inserted: Any) -> Any:
    return str(inserted) if isinstance(inserted, Exception) else inserted


class Script:
    """A random sequence of what the tables can do; the same for the same seed and client."""

    def __init__(self, client: Any, seed: int) -> None:
        self._client = client
        self._refunds = RefundsTable(client, "Refunds")
        self._ledger = LedgerTable(client, "Ledger")
        self._audit = AuditTable(client, "Audit")
        self._control = Control(client, "Ledger")
        self._dice = Random(seed)
        self._known: dict[str, list[Refund]] = {}

    def operation(self) -> Callable[[], Any]:
        kinds = (self._ledger_one, self._refund_one, self._audit_one, self._control_one, self._raw)
        return self._dice.choice(kinds)()

    def _ledger_one(self) -> Callable[[], Any]:
        dice, ledger = self._dice, self._ledger
        tx, refund_id = f"tx{dice.randrange(2)}", f"r{dice.randrange(4)}"
        amount = dice.randint(1, 60)
        match dice.randrange(6):
            case 0:
                return lambda: ledger.get(tx)
            case 1:
                return lambda: ledger.reserve(tx, refund_id, amount)
            case 2:

                def reserve_all() -> Any:
                    read = ledger.get(tx)
                    return read and ledger.reserve(
                        tx, refund_id, read.remaining or 0, remaining_minor=read.remaining or 0
                    )

                return reserve_all
            case 3:
                return lambda: ledger.open(
                    tx,
                    captured_minor=100,
                    remaining_minor=100,
                    currency="USD",
                    refund_id=refund_id,
                    amount_minor=amount,
                )
            case 4:
                hold = {refund_id: amount} if dice.random() < 0.5 else None

                def recount() -> Any:
                    read = ledger.get(tx)
                    return read and ledger.recount(
                        read,
                        captured_minor=120,
                        remaining_minor=amount,
                        currency="USD",
                        hold=hold,
                    )

                return recount
        return lambda: ledger.release(tx, refund_id)

    def _refund_one(self) -> Callable[[], Any]:
        dice = self._dice
        refund_id = f"r{dice.randrange(4)}"
        known = self._known.setdefault(refund_id, [])
        if not known or dice.random() < 0.3:
            new = _refund(refund_id, token=f"t{dice.randrange(3)}", amount=dice.randint(1, 9))
            known.append(new)
            return lambda: self._refunds.put_new(new)
        old = dice.choice(known)
        new = _next(old, dice)
        known.append(new)
        match dice.randrange(4):
            case 0:
                return lambda: self._refunds.get(refund_id)
            case 1:
                return lambda: self._refunds.due(shard_of(refund_id), "2026-03-01T00:10", 2)
        return lambda: self._refunds.save(old, new)

    def _audit_one(self) -> Callable[[], Any]:
        known = [each for refunds in self._known.values() for each in refunds]
        if not known or self._dice.random() < 0.3:
            return lambda: self._audit.latest("tx1", "r1")
        entries = [audit_entry(self._dice.choice(known).item()) for _ in range(3)]
        return lambda: [_told(each) for each in self._audit.insert_new(entries)]

    def _control_one(self) -> Callable[[], Any]:
        number = self._dice.randrange(5)
        if number % 2:
            return lambda: self._control.sweep("flair")
        return lambda: self._control.set_sweep(
            "flair", {"began": f"2026-0{number}", "walks": [number]}
        )

    def _raw(self) -> Callable[[], Any]:
        """Expressions of no table's, to reach more of the evaluator."""
        dice = self._dice
        condition = " ".join(
            [
                dice.choice(("", "NOT ")) + dice.choice(_CONDITIONS),
                dice.choice(("AND", "OR")),
                dice.choice(("", "NOT ")) + dice.choice(_CONDITIONS),
            ]
        )
        update = dice.choice(_UPDATES)
        # Numbers and texts are never compared with each other: moto stumbles over that.
        one, other = dice.choice(("ab", "ba"))
        names = {"#a": one, "#b": other, "#c": "c"}
        values = {":n": {"N": str(dice.randrange(4))}, ":s": {"S": dice.choice(("x", "xy", "2"))}}
        text = condition + update
        return lambda: self._client.update_item(
            TableName="Ledger",
            Key={"transaction_id": {"S": f"raw{dice.randrange(2)}"}},
            UpdateExpression=update,
            ConditionExpression=condition,
            ExpressionAttributeNames={name: value for name, value in names.items() if name in text},
            ExpressionAttributeValues={
                name: value for name, value in values.items() if name in text
            },
            ReturnValuesOnConditionCheckFailure="ALL_OLD",
        ).get("Attributes")


_CONDITIONS = (
    "attribute_exists(#a)",
    "attribute_not_exists(#a)",
    "#a = :n",
    "#a <> :n",
    "#a < :n",
    "#a >= :n",
    "#c <= :s",
    "#c > :s",
    "begins_with(#c, :s)",
    "(#a = :n OR attribute_not_exists(#b))",
)  # not "#a = #b": moto takes two that are missing for equal
_UPDATES = (
    "SET #a = :n",
    "SET #c = :s, #b = :n",
    "SET #a = #b + :n",
    "SET #a = if_not_exists(#a, :n)",
    "SET #a = if_not_exists(#a, :n) + :n",
    "SET #a = :n - :n REMOVE #b",
    "REMOVE #a",
)


def _refund(refund_id: str, *, token: str, amount: int) -> Refund:
    return Refund(
        refund_id=refund_id,
        transaction_id="tx1",
        user_id="u1",
        amount_minor=amount,
        currency="USD",
        status=Status.PROCESSING,
        reason="other",
        requested_by="agent:1",
        metadata={"order": "ä"},
        processed_by="process:1",
        gateway="flair",
        created_at="2026-03-01T00:00:00.000000Z",
        updated_at="2026-03-01T00:00:00.000000Z",
        version=1,
        fingerprint="1:f",
        attempt_token=token,
        lease_until="2026-03-01T00:01:10.000000Z",
        key_used_at="2026-03-01T00:00:00.000000Z",
    )


def _next(old: Refund, dice: Random) -> Refund:
    """What some step of the protocol could make of a refund."""
    from dataclasses import replace

    if old.status is Status.PROCESSING and dice.random() < 0.4:
        return change_status(
            old,
            dice.choice((Status.SUCCEEDED, Status.FAILED, Status.PENDING)),
            at="2026-03-01T00:00:05.000000Z",
            by="process:1",
            previous_hash=audit_entry(old.item())["entry_hash"],
            gateway_refund_id=f"re_{dice.randrange(2)}",
        )
    if dice.random() < 0.5:
        return replace(
            old,
            open_since="2026-03-01T00:00:00.000000Z",
            open_shard=shard_of(old.refund_id),
            check_at=f"2026-03-01T00:{dice.randrange(20):02}:00.000000Z",
        )
    return replace(
        old,
        lease_until=None,
        open_since=None,
        open_shard=None,
        check_at=None,
        attempt_token=f"t{dice.randrange(3)}",
    )


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(1, 12))]
)
def test_random_operations_give_the_same_on_moto(seed: int, moto: Any) -> None:
    simulated = Simulated()
    ours, theirs = Script(simulated.client, seed), Script(moto, seed)
    for number in range(150):
        mine, other = ours.operation(), theirs.operation()
        got = simulated.run(lambda mine=mine: outcome(mine))  # type: ignore[misc]
        assert got == outcome(other), f"operation {number}"
    for name, table in simulated.tables.items():
        there = moto.scan(TableName=name)["Items"]
        assert table.items == {table.key_of(item): item for item in there}


def test_a_path_named_twice_is_refused(moto: Any) -> None:
    call = {
        "TableName": "Ledger",
        "Key": {"transaction_id": {"S": "tx1"}},
        "UpdateExpression": "SET a = :a, #a = :a",
        "ExpressionAttributeNames": {"#a": "a"},
        "ExpressionAttributeValues": {":a": {"N": "1"}},
    }
    simulated = Simulated()
    got = simulated.run(lambda: outcome(lambda: simulated.client.update_item(**call)))
    assert got == outcome(lambda: moto.update_item(**call)) == ("ValidationException", None)


def test_an_unused_placeholder_is_refused_as_dynamodb_does(moto: Any) -> None:
    call = {
        "TableName": "Ledger",
        "Key": {"transaction_id": {"S": "tx1"}},
        "UpdateExpression": "SET a = :a",
        "ExpressionAttributeValues": {":a": {"N": "1"}, ":b": {"N": "1"}},
    }
    simulated = Simulated()
    got = simulated.run(lambda: outcome(lambda: simulated.client.update_item(**call)))
    assert got == outcome(lambda: moto.update_item(**call)) == ("ValidationException", None)


def test_sizes_are_counted_as_dynamodb_documents_them() -> None:
    # 3 + 4 (name, UTF-8 text), 1 + 2 (a number of three digits), 1 + 1 (a truth)
    assert item_size({"aaa": {"S": "öö"}, "b": {"N": "123"}, "c": {"BOOL": True}}) == 7 + 4 + 2
    assert item_size(item_to_wire({"m": {"k": "v"}})) == 1 + 3 + 1 + 2
    assert item_from_wire({"n": {"N": "7"}}) == {"n": 7}
